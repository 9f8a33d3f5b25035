"""What `coqui-scl preflight` and `coqui-scl train` say of the checkpoint that a run is to start from."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from command_driver import Command, Outcome, run_commands
from preflight_data import SPEAKERS
from tiny_vits import run_config

from coqui_scl_plugin import SclVits, SclVitsConfig

Weights = dict[str, Any]

NAN = torch.full((1, 1), float("nan"))


def other_shape(weights: Weights) -> Weights:
    return {**weights, "flow.flows.0.pre.weight": weights["flow.flows.0.pre.weight"].transpose(0, 1).contiguous()}


def one_nan(weights: Weights) -> Weights:
    changed = weights["waveform_decoder.conv_pre.weight"].clone()
    changed[0, 0, 0] = float("nan")
    return {**weights, "waveform_decoder.conv_pre.weight": changed}


CHECKPOINTS: dict[str, Any] = {
    "a list of weights": lambda weights: {"model": list(weights.values())},
    "numbers as keys": lambda weights: {"model": dict(enumerate(weights.values()))},
    "an optimizer's number": lambda _: {"optimizer": 5},
    "a string among the weights": lambda weights: {"model": {**weights, "emb_g.weight": "text"}},
    "NaN": lambda weights: {"model": one_nan(weights)},
    "another shape": lambda weights: {"model": other_shape(weights)},
    "other speakers": lambda _: {"config": {"speakers": ["b", "c", "x"]}},
    "two speakers": lambda weights: {
        "config": {"speakers": ["c", "a"]},
        "model": {**weights, "emb_g.weight": weights["emb_g.weight"][:2]},
    },
    "NaN in a row": lambda weights: {
        "config": {"speakers": ["c", "a"]},
        "model": {**weights, "emb_g.weight": weights["emb_g.weight"][:2] * torch.tensor([[1.0], [float("nan")]])},
    },
    "renamed speakers": lambda _: {"config": {"speakers": ["A", "B", "C"]}},
    "unnamed speakers": lambda weights: {"model": {**weights, "emb_g.weight": weights["emb_g.weight"][:2]}},
}
MATCH = ("--coqpit.scl.restore.match_rows", "true")
NO_CHECKPOINT = "is not a checkpoint of a VITS by Coqui's trainer: "

FOUND: dict[str, tuple[str, tuple[str, ...], str, str, tuple[str, ...]]] = {
    # checkpoint, further arguments, check, status, words
    **{
        name: (name, (), "checkpoint", "failed", (f"--restore_path {name}.pth {NO_CHECKPOINT}{words}",))
        for name, words in {
            "a list of weights": "its 'model' is of type list",
            "numbers as keys": "its 'model' has keys that are no names of tensors, such as 0",
            "an optimizer's number": "its 'optimizer' is of type int",
        }.items()
    },
    "a string": (
        "a string among the weights",
        (),
        "restored-weights",
        "failed",
        ("emb_g.weight is of type str instead of a tensor",),
    ),
    "NaN": (
        "NaN",
        (),
        "restored-weights",
        "failed",
        ("NaN.pth: waveform_decoder.conv_pre.weight has 1 of ", "not finite", "earlier checkpoint"),
    ),
    "another shape": (
        "another shape",
        (),
        "restored-weights",
        "failed",
        ("flow.flows.0.pre.weight has the size [16, 32, 1], and the model's [32, 16, 1]", "model_args"),
    ),
    "other speakers": (
        "other speakers",
        (),
        "tables",
        "failed",
        ("3 of 3 would go to other speakers", "the row of 'b' to 'a'", "does not know 'a'", "match_rows"),
    ),
    "two speakers": (
        "two speakers",
        (),
        "tables",
        "warning",
        ("has 2 rows, the model's has 3", "2 of 3 speakers are known", "new: 'b'", "match_rows"),
    ),
    "renamed speakers": (
        "renamed speakers",
        (),
        "tables",
        "failed",
        ("the row of 'A' to 'a'", "Spell the speakers as the checkpoint does", "--skip tables"),
    ),
    "a row of NaN is carried": (
        "NaN in a row",
        MATCH,
        "restored-weights",
        "failed",
        ("emb_g.weight has 16 of 32 numbers that are not finite", "earlier checkpoint"),
    ),
    "matched without names": (
        "unnamed speakers",
        MATCH,
        "tables",
        "failed",
        ("scl.restore.match_rows = true", "the speakers of unnamed speakers.pth are unknown"),
    ),
}
MATCHED = {name: (name, MATCH) for name in ("other speakers",)}
REFUSED = {
    "a folder": ("speech", "--restore_path speech is a folder"),
    "a long name": ("a" * 5_000 + ".pth", "File name too long"),
}
TRAINED = ("numbers as keys", "another shape", "other speakers")


@pytest.fixture(scope="module")
def root(speech_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("restored")
    (folder / "speech").symlink_to(speech_folder)
    config = SclVitsConfig(speakers=list(SPEAKERS))
    plain = run_config(Path("speech"), scl={"enabled": False, "weight": 0.0})
    (folder / "config.json").write_text(json.dumps(plain))
    config.from_dict(plain)
    weights = SclVits(config).state_dict()
    for name, change in CHECKPOINTS.items():
        whole = {"model": weights, "step": 5, "epoch": 0, "optimizer": [], "config": {}}
        changes = change(weights)
        torch.save(whole | changes | {"config": plain | changes.get("config", {})}, folder / f"{name}.pth")
    return folder


@pytest.fixture(scope="module")
def outcomes(root: Path) -> dict[str, Outcome]:
    def command(verb: str, checkpoint: str, *arguments: str) -> Command:
        restore = ("--config_path", "config.json", "--restore_path", checkpoint)
        return Command(root, [verb, *restore, *arguments])

    commands = {name: command("preflight", f"{file}.pth", "--json", *more) for name, (file, more, *_) in FOUND.items()}
    for name, (file, more) in MATCHED.items():
        commands[f"matched: {name}"] = command("preflight", f"{file}.pth", "--json", *more)
    for name, (path, _) in REFUSED.items():
        commands[name] = command("preflight", path)
    for name in TRAINED:
        commands[f"train: {name}"] = command("train", f"{name}.pth")
    commands["trained, matched"] = command("train", "two speakers.pth", *MATCH, "--small_run=4")
    return run_commands(commands)


def not_passed(outcome: Outcome) -> dict[str, Any]:
    return {c["id"]: c for c in outcome.report["checks"] if c["status"] not in ("passed", "not run")}


@pytest.mark.parametrize("name", FOUND)
def test_one_finding_names_the_cause(name: str, outcomes: dict[str, Outcome]) -> None:
    _, _, id_, status, words = FOUND[name]
    outcome = outcomes[name]
    found = not_passed(outcome)
    assert {key: check["status"] for key, check in found.items()} == {id_: status}, outcome.out[:3000]
    (finding,) = found[id_]["findings"]
    text = f"{finding['found']} {finding['change']}"
    assert [word for word in words if word not in text] == [], text
    assert outcome.status == (0 if status == "warning" else 2 if id_ == "checkpoint" else 1)
    assert "Traceback" not in outcome.err
    assert outcome.changed == []


@pytest.mark.parametrize("name", MATCHED)
def test_rows_that_are_carried_are_not_spoken_of(name: str, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[f"matched: {name}"]
    assert not_passed(outcome) == {}
    assert outcome.status == 0


@pytest.mark.parametrize("name", REFUSED)
def test_a_path_that_is_no_file(name: str, outcomes: dict[str, Outcome]) -> None:
    outcomes[name].assert_refused([REFUSED[name][1]])
    assert len(outcomes[name].err) < 400


@pytest.mark.parametrize("name", TRAINED)
def test_a_training_says_the_same_and_leaves_no_run(name: str, outcomes: dict[str, Outcome]) -> None:
    _, _, _, _, words = FOUND[name]
    outcome = outcomes[f"train: {name}"]
    assert outcome.status == (2 if FOUND[name][2] == "checkpoint" else 1)
    outcome.assert_one_message(words)
    assert [path for path in outcome.changed if path.endswith((".pth", ".json"))] == []


def test_a_training_carries_rows_by_name(root: Path, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes["trained, matched"]
    assert outcome.status == 0, outcome.err[-2000:]
    assert "by name: speakers 2 of 3 carried, new at their mean: 'b'; characters" in " ".join(outcome.out.split())
    (config,) = [path for path in outcome.changed if path.endswith("/config.json")]
    assert json.loads((root / config).read_text())["scl"]["restore"] == {"match_rows": True}
    report = json.loads((root / config).with_name("preflight.json").read_text())
    assert {check["id"] for check in report["checks"] if check["status"] != "passed"} == set()
