"""Distributions register by entry point; one that cannot be registered is an error that names it."""

import importlib.metadata
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributions import install

from coqui_scl_plugin.errors import PluginError
from coqui_scl_plugin.plugins.hookspecs import GROUP
from coqui_scl_plugin.plugins.registry import Registry, build_registry, installed

OWN = "coqui-scl-plugin"
GOOD = """
from torch import nn
from coqui_scl_plugin import hookimpl

class Loss(nn.Module):
    pass

@hookimpl
def scl_losses():
    return {"theirs": Loss}
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield an empty folder for installed distributions, whose modules can be imported."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(f"{folder}{os.sep}"):
            del sys.modules[name]


def build(site: Path, *, with_own: bool = False) -> Registry:
    """Return the registry of the distributions in `site`, and of this package too if asked."""
    distributions = importlib.metadata.distributions(path=[str(site)])
    entry_points = [ep for distribution in distributions for ep in distribution.entry_points if ep.group == GROUP]
    assert entry_points
    own = [ep for ep in importlib.metadata.entry_points(group=GROUP) if ep.dist and ep.dist.name == OWN]
    return build_registry([*entry_points, *(own if with_own else [])])


def refusal(site: Path, *, with_own: bool = False) -> str:
    with pytest.raises(PluginError) as caught:
        build(site, with_own=with_own)
    return str(caught.value)


def test_the_built_in_ones_are_registered_by_this_distribution() -> None:
    version = importlib.metadata.version(OWN)
    own = [ep for ep in importlib.metadata.entry_points(group=GROUP) if ep.dist and ep.dist.name == OWN]
    registry = build_registry(own)
    assert {"cosine", "angular_margin", "contrastive", "ensemble"} <= set(registry.losses)
    assert {"coqui", "ge2e", "dvector"} <= set(registry.encoders)
    assert "frozen" in registry.freeze_policies
    for kind in ("losses", "encoders", "freeze_policies"):
        assert {entry.distribution for entry in registry.entries(kind).values()} == {f"{OWN} {version}"}
        assert registry.entries(kind).keys() <= installed().entries(kind).keys()


def test_a_third_party_loss_is_registered_with_its_distribution_and_version(site: Path) -> None:
    install(site, "their-losses", GOOD, version="3.1")
    registry = build(site)
    assert list(registry.losses) == ["theirs"]
    entry = registry.losses["theirs"]
    assert entry.distribution == "their-losses 3.1"
    assert entry.cls is sys.modules["their_losses"].Loss
    assert registry.get("losses", "theirs", "scl.loss.name") is entry.cls
    assert registry.encoders == registry.freeze_policies == {}


def test_two_distributions_with_the_same_entry_point_name_both_register(site: Path) -> None:
    install(site, "first-losses", GOOD)
    install(site, "second-losses", GOOD.replace('"theirs"', '"others"'))
    registry = build(site)
    assert {name: entry.distribution for name, entry in registry.losses.items()} == {
        "theirs": "first-losses 1.0",
        "others": "second-losses 1.0",
    }


def test_one_module_may_register_every_kind(site: Path) -> None:
    code = GOOD + "\n".join(
        f"@hookimpl\ndef scl_{kind}():\n    return {{'theirs': Loss}}" for kind in ("encoders", "freeze_policies")
    )
    install(site, "their-everything", code)
    registry = build(site, with_own=True)
    for kind in ("losses", "encoders", "freeze_policies"):
        assert registry.entries(kind)["theirs"].distribution == "their-everything 1.0"


@pytest.mark.parametrize(
    ("code", "part"),
    [
        ("import no_such_module_at_all", "no_such_module_at_all"),
        ("raise RuntimeError('broken on purpose')", "RuntimeError: broken on purpose"),
        ("def scl_losses(:", "SyntaxError"),
    ],
    ids=["missing import", "error on import", "syntax error"],
)
def test_a_plugin_that_does_not_load_is_named(code: str, part: str, site: Path) -> None:
    install(site, "broken-losses", code, version="0.3")
    message = refusal(site)
    assert "broken-losses 0.3" in message
    assert part in message


def test_an_entry_point_to_a_missing_attribute_is_named(site: Path) -> None:
    install(site, "broken-losses", GOOD)
    (site / "broken_losses-1.0.dist-info" / "entry_points.txt").write_text(f"[{GROUP}]\nx = broken_losses:nosuch\n")
    message = refusal(site)
    assert "broken-losses 1.0" in message
    assert "nosuch" in message


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ("raise RuntimeError('broken on purpose')", "RuntimeError: broken on purpose"),
        ("return [Loss]", "names mapped to classes"),
        ("return {'theirs': Loss()}", "names mapped to classes"),
        ("return None", "names mapped to classes"),
        ("return {5: Loss}", "names mapped to classes"),
    ],
)
def test_a_hook_that_fails_or_returns_something_else_is_named(body: str, part: str, site: Path) -> None:
    install(site, "odd-losses", GOOD.replace('return {"theirs": Loss}', body))
    message = refusal(site)
    assert "odd-losses 1.0" in message
    assert "scl_losses" in message
    assert part in message


def test_an_unknown_hook_is_named(site: Path) -> None:
    install(site, "misspelt-losses", GOOD.replace("def scl_losses", "def scl_loses"))
    message = refusal(site)
    assert "misspelt-losses 1.0" in message
    assert "scl_loses" in message


def test_a_hook_with_arguments_that_do_not_exist_is_named(site: Path) -> None:
    install(site, "curious-losses", GOOD.replace("def scl_losses()", "def scl_losses(config)"))
    message = refusal(site)
    assert "curious-losses 1.0" in message
    assert "config" in message


def test_a_name_of_this_package_cannot_be_taken(site: Path) -> None:
    install(site, "second-cosine", GOOD.replace('"theirs"', '"cosine"'), version="2.0")
    message = refusal(site, with_own=True)
    assert "'cosine'" in message
    assert "second-cosine 2.0" in message
    assert f"{OWN} {importlib.metadata.version(OWN)}" in message


def test_two_third_parties_cannot_take_one_name(site: Path) -> None:
    install(site, "first-losses", GOOD)
    install(site, "second-losses", GOOD)
    message = refusal(site)
    assert "'theirs'" in message
    assert "first-losses 1.0" in message
    assert "second-losses 1.0" in message
