"""docs/configuration.md: every key, made from the schema, and every registered loss and encoder."""

import dataclasses
import importlib.util
import re
from pathlib import Path

import pytest

from coqui_scl_plugin.config import schema
from coqui_scl_plugin.plugins.registry import installed

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> dict[str, dict[str, list[str]]]:
    """By title and key: the cells after the key."""
    spec = importlib.util.spec_from_file_location("config_reference", DOCS / "config_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = tmp_path_factory.mktemp("page") / "keys.md"
    module.write(page)
    parts = re.split(r"^### (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {
        title: {
            key: [cell.strip() for cell in cells.split(" | ")]
            for key, cells in re.findall(r"^\| `(\w+)` \| (.+) \|$", part, flags=re.MULTILINE)
        }
        for title, part in zip(parts[::2], parts[1::2], strict=True)
    }


def test_every_key_of_every_section_has_a_row(tables):
    sections = [
        one for one in vars(schema).values() if dataclasses.is_dataclass(one) and one.__module__ == schema.__name__
    ]
    assert sorted(sorted(keys) for keys in tables.values()) == sorted(
        sorted(field.name for field in dataclasses.fields(section)) for section in sections
    )


def test_a_row_has_type_default_help_and_range(tables):
    assert tables["scl.window"]["items"] == [
        "integer or `null`", "`4`", "Number of items of the batch to listen to. Null: all of them. (≥ 1)",
    ]  # fmt: skip
    assert tables["scl"]["encoders"][:2] == ["list of sections", '`[{"name": "ge2e"}, {"name": "campplus"}]`']
    assert tables["scl"]["window"][1] == "below"
    assert tables["scl.freeze"]["on_drift"][0] == 'one of `"raise"`, `"restore"`, `"warn"`'
    assert tables["scl.freeze.modules"]["pattern"][2].endswith("(not empty)")
    assert tables["scl.augment"]["room_seconds"][2].endswith("(≥ 0, ≤ 0.5)")


def test_every_loss_and_encoder_of_this_package_has_a_row():
    page = (DOCS / "configuration.md").read_text(encoding="utf-8")
    own = [
        name
        for kind in ("losses", "encoders")
        for name, entry in installed().entries(kind).items()
        if entry.cls.__module__.startswith("coqui_scl_plugin.")
    ]
    assert len(own) > 10
    assert [name for name in own if f"\n| `{name}` |" not in page] == []
