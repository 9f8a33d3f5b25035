"""The pages on checks and messages say what the code says: ids in order, sentences, examples, and words of messages."""

import ast
import functools
import importlib.util
import re
from pathlib import Path

import coqui_scl_plugin
from coqui_scl_plugin.preflight.checks import CHECKS, IDS

DOCS = Path(__file__).parents[2] / "docs"
PREFLIGHT = (DOCS / "preflight.md").read_text(encoding="utf-8")
MESSAGES = (DOCS / "messages.md").read_text(encoding="utf-8")
PACKAGE = Path(coqui_scl_plugin.__file__).parent
HOLE = "\0"
MIN_WORDS = 20


def literals(tree: ast.AST) -> list[str]:
    """Return the texts in a syntax tree but docstrings, with `HOLE` for each value that is put into one."""
    found = []
    statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            found.append("".join(str(v.value) if isinstance(v, ast.Constant) else HOLE for v in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in statements:
            found.append(node.value)
    return found


@functools.cache
def own_texts() -> frozenset[str]:
    sources = [path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")]
    return frozenset(text for source in sources for text in literals(ast.parse(source)))


@functools.cache
def coqui_sources() -> str:
    folders = [importlib.util.find_spec(name) for name in ("TTS", "trainer", "coqpit")]
    places = [Path(place) for spec in folders if spec for place in spec.submodule_search_locations or ()]
    return "\n".join(path.read_text(encoding="utf-8") for place in places for path in place.rglob("*.py"))


def pattern(phrase: str) -> re.Pattern[str]:
    return re.compile(".*?".join(map(re.escape, phrase.split("…"))))


def entries(page: str) -> dict[str, str]:
    """Return what is below each heading that is nothing but code, by heading."""
    parts = re.split(r"^#{2,3} (.+)$", page, flags=re.MULTILINE)
    below = zip(parts[1::2], parts[2::2], strict=True)
    return {heading.strip("`"): text for heading, text in below if heading.startswith("`")}


# --- docs/preflight.md ------------------------------------------------------------------------------------------------


def test_the_table_has_each_check_with_its_stage_and_sentence() -> None:
    rows = re.findall(r"^\| \[`([a-z0-9-]+)`\]\(#([a-z0-9-]+)\) \| (\w+) \| (.+) \|$", PREFLIGHT, re.MULTILINE)
    assert rows == [(check.id, check.id, check.stage, check.checks) for check in CHECKS]


def test_each_check_has_an_entry_in_order() -> None:
    assert tuple(entries(PREFLIGHT)) == IDS


def test_each_entry_has_an_example_in_words_of_the_code() -> None:
    parts = {part.strip() for text in own_texts() for part in " ".join(text.split()).split(HOLE)}
    parts = {part for part in parts if len(part) >= MIN_WORDS}
    for id_, entry in entries(PREFLIGHT).items():
        (example,) = re.findall(r"^```text\n(.+?)^```$", entry, re.MULTILINE | re.DOTALL)
        said = " ".join(example.split())
        assert any(part in said for part in parts), f"{id_}: no check says: {said}"


# --- docs/messages.md -------------------------------------------------------------------------------------------------


def phrases(page: str) -> list[str]:
    """Return the words of messages: the code in the first cell of each row."""
    cells = [line.split(" | ")[0] for line in page.splitlines() if line.startswith("| `")]
    return [phrase for cell in cells for phrase in re.findall(r"`([^`]+)`", cell)]


OWN, _, COQUIS = MESSAGES.partition("## What Coqui and its trainer say")


def test_the_page_has_messages_of_both() -> None:
    assert len(phrases(OWN)) > 100
    assert len(phrases(COQUIS)) > 20


def test_messages_of_this_package_are_in_its_code() -> None:
    unknown = [phrase for phrase in phrases(OWN) if not any(pattern(phrase).search(text) for text in own_texts())]
    assert unknown == []


def test_messages_of_coqui_are_in_its_code() -> None:
    assert [phrase for phrase in phrases(COQUIS) if not pattern(phrase).search(coqui_sources())] == []


def test_links_to_checks_name_checks() -> None:
    linked = re.findall(r"\[`([a-z0-9-]+)`\]\(preflight\.md#([a-z0-9-]+)\)", MESSAGES)
    assert linked
    assert [pair for pair in linked if pair[0] != pair[1] or pair[0] not in IDS] == []
