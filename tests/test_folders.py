"""The rules by which one finds the folder of a file; CONTRIBUTING.md states them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import coqui_scl_plugin

PACKAGE = Path(coqui_scl_plugin.__file__).parent
FOLDERS = (
    *("cli", "demo", "coqui", "preflight", "monitoring", "testing", "consistency"),
    *("evaluation", "freeze", "references", "losses", "encoders", "config", "plugins", "utils"),
)
"""A folder imports only from those after it."""
LOOSE = {"__init__.py", "__main__.py", "api.py", "errors.py", "hookspecs.py"}


def imports(file: Path) -> Iterator[str]:
    """The modules that a file imports, also inside functions and for type checking alone."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_loose_files_are_the_public_ones_and_every_folder_has_its_place() -> None:
    assert {file.name for file in PACKAGE.glob("*.py")} == LOOSE
    assert {folder.parent.name for folder in PACKAGE.glob("*/__init__.py")} == set(FOLDERS)


def test_only_the_seam_imports_tts_or_trainer() -> None:
    importing = {
        file.relative_to(PACKAGE).as_posix()
        for file in PACKAGE.rglob("*.py")
        if any(module.partition(".")[0] in ("TTS", "trainer") for module in imports(file))
    }
    assert {name for name in importing if not name.startswith(("coqui/", "demo/"))} == {"encoders/coqui.py"}


def test_a_folder_imports_only_from_folders_below_it() -> None:
    wrong = []
    for index, folder in enumerate(FOLDERS):
        above = tuple(f"coqui_scl_plugin.{name}." for name in FOLDERS[:index])
        for file in (PACKAGE / folder).rglob("*.py"):
            wrong += [f"{file.relative_to(PACKAGE)}: {name}" for name in imports(file) if f"{name}.".startswith(above)]
    assert wrong == []
