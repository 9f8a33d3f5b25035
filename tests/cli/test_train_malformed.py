"""`coqui-scl train` refuses what it cannot use: status 2, one message on standard error, nothing written."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from command_driver import DRIVER

SCRIPT = Path(sys.executable).with_name("coqui-scl")


def section(**scl: Any) -> dict[str, Any]:
    return {"scl": scl}


def coqui_encoder(**params: Any) -> dict[str, Any]:
    return section(encoders=[{"name": "coqui", "params": params}])


def dataset(**keys: Any) -> dict[str, Any]:
    return {"datasets": [{"formatter": "coqui", "path": "data", "meta_file_train": "metadata.csv"} | keys]}


@dataclass(frozen=True)
class Case:
    """A config, on top of one that is fine, what follows `train`, and what the message must hold."""

    parts: tuple[str, ...]
    config: Mapping[str, Any] | str | bytes | None = None
    arguments: tuple[str, ...] = ("--config_path", "config.json")
    starts: str = "coqui-scl: "


def overridden(*arguments: str, parts: tuple[str, ...]) -> Case:
    return Case(parts, {}, ("--config_path", "config.json", *arguments))


CASES = {
    # the file
    "no config": Case(("--config_path",), None, ()),
    "missing file": Case(("nosuch.json", "no such file"), None, ("--config_path", "nosuch.json")),
    "missing YAML file": Case(("nosuch.yaml", "no such file"), None, ("--config_path", "nosuch.yaml")),
    "directory instead of a file": Case(("data",), None, ("--config_path", "data")),
    "no value": Case(("--config_path", "expected one argument"), None, ("--config_path",), "usage: coqui-scl"),
    "empty file": Case(("config.json", "JSON"), ""),
    "invalid JSON": Case(("config.json", "line 2"), '{"model": "scl_vits",\n "epochs": }'),
    "truncated JSON": Case(("config.json", "JSON"), '{"model": "scl_vits", "scl": {'),
    "binary file": Case(("config.json", "JSON"), b"\x80\x02\xff\xfe\x00"),
    "JSON that is a list": Case(("config.json", "object"), "[1, 2]"),
    "JSON that is a number": Case(("config.json", "object"), "5"),
    "unknown model": Case(("scl_vitz",), {"model": "scl_vitz"}),
    "model_args as text": Case(("model_args",), {"model": "vits", "model_args": "text"}),
    # the section
    "unknown key": Case(("scl.wieght", "'weight'"), section(wieght=5)),
    "unknown loss": Case(("scl.loss.name", "'cosine'"), section(loss={"name": "cosin"})),
    "unknown parameter": Case(
        ("scl.loss.params.margn", "'margin'"), section(loss={"name": "angular_margin", "params": {"margn": 0.1}})
    ),
    "parameter of a loss without any": Case(
        ("scl.loss.params", "scale"), section(loss={"name": "cosine", "params": {"scale": 2}})
    ),
    "unknown member": Case(
        ("scl.loss.params.member.name", "'cosine'"),
        section(loss={"name": "ensemble", "params": {"member": {"name": "cosin"}}}),
    ),
    "member's parameters as a list": Case(
        ("scl.loss.params.member.params",),
        section(loss={"name": "ensemble", "params": {"member": {"name": "cosine", "params": [1]}}}),
    ),
    "section as text": Case(("scl = 'cosine'",), {"scl": "cosine"}),
    "section as null": Case(("scl = None",), {"scl": None}),
    "unknown key in YAML": Case(("scl.wieght", "'weight'"), section(wieght=5), ("--config_path", "config.yaml")),
    # rules of modules
    "rule that matches no module": Case(
        ("scl.freeze.modules.1.pattern", "text_encodr", "Nearest: text_encoder"),
        section(freeze={"modules": [{"pattern": "flow"}, {"pattern": "text_encodr"}]}),
    ),
    "rule for a module that this model lacks": Case(
        ("scl.freeze.modules.0.pattern", "emb_l"), section(freeze={"modules": [{"pattern": "emb_l"}]})
    ),
    "rules that freeze the whole discriminator": Case(
        ("scl.freeze.modules", "the whole discriminator"),
        section(freeze={"modules": [{"pattern": "disc", "until_step": 5}]}),
    ),
    "rules that freeze the whole generator": Case(
        ("scl.freeze.modules", "the whole generator"),
        section(freeze={"modules": [{"pattern": "[!d]*"}, {"pattern": "du*"}]}),
    ),
    "unknown key of a rule": Case(
        ("scl.freeze.modules.0.until", "'until_step'"), section(freeze={"modules": [{"pattern": "flow", "until": 5}]})
    ),
    "held-out encoder that trains": Case(
        ("scl.holdout.0.policy", "frozen"), section(holdout=[{"name": "dvector", "policy": "trainable"}])
    ),
    # the encoder
    "missing encoder file": Case(
        ("nosuch.pth", "does not exist"), coqui_encoder(model_path="nosuch.pth", config_path="encoder.json")
    ),
    "missing encoder file in YAML": Case(
        ("nosuch.pth", "does not exist"),
        coqui_encoder(model_path="nosuch.pth", config_path="encoder.json"),
        ("--config_path", "config.yaml"),
    ),
    "missing encoder config": Case(
        ("nosuch.json", "does not exist"), coqui_encoder(model_path="corrupt.pth", config_path="nosuch.json")
    ),
    "corrupt encoder file": Case(("corrupt.pth",), coqui_encoder(model_path="corrupt.pth", config_path="encoder.json")),
    "empty encoder file": Case(("empty.pth",), coqui_encoder(model_path="empty.pth", config_path="encoder.json")),
    "encoder config that is not JSON": Case(
        ("corrupt.pth",), coqui_encoder(model_path="corrupt.pth", config_path="corrupt.json")
    ),
    "encoder config that is a folder": Case(("data",), coqui_encoder(model_path="corrupt.pth", config_path="data")),
    "corrupt file for ge2e": Case(
        ("corrupt.pth",), section(encoders=[{"name": "ge2e", "params": {"model_path": "corrupt.pth"}}])
    ),
    "corrupt file for dvector": Case(
        ("corrupt.pth",), section(encoders=[{"name": "dvector", "params": {"model_path": "corrupt.pth"}}])
    ),
    "stock's own loss with a missing encoder": Case(
        ("nosuch.pth", "does not exist"),
        {
            "model": "vits",
            "model_args": {
                "use_speaker_encoder_as_loss": True,
                "speaker_encoder_model_path": "nosuch.pth",
                "speaker_encoder_config_path": "encoder.json",
            },
        },
    ),
    "stock's own loss without an encoder": Case(
        ("model_path",), {"model": "vits", "model_args": {"use_speaker_encoder_as_loss": True}}
    ),
    # the command line
    "override of an unknown key": overridden("--coqpit.scl.wieght", "5", parts=("--coqpit.scl.wieght", "scl.weight")),
    "override of an unknown key with =": overridden("--coqpit.scl.wieght=5", parts=("scl.wieght", "scl.weight")),
    "override below the list's end": overridden("--coqpit.scl.encoders.3.weight", "2", parts=("scl.encoders.3",)),
    "override that is no number": overridden("--coqpit.scl.weight", "abc", parts=("scl.weight", "abc")),
    "override out of range": overridden("--coqpit.scl.weight", "-1", parts=("scl.weight", "-1")),
    "override that is not finite": overridden("--coqpit.scl.weight", "nan", parts=("scl.weight", "nan")),
    "override with an unknown loss": overridden("--coqpit.scl.loss.name", "cosin", parts=("'cosine'",)),
    "override of the source": overridden(
        "--coqpit.scl.reference.source", "utterence", parts=("scl.reference.source", "utterence")
    ),
    "missing restore_path": overridden("--restore_path", "nosuch.pth", parts=("--restore_path nosuch.pth",)),
    "corrupt restore_path": overridden("--restore_path", "corrupt.pth", parts=("corrupt.pth",)),
    "continue_path without a config": Case(("data",), None, ("--continue_path", "data")),
    "missing continue_path": Case(("nosuch",), None, ("--continue_path", "nosuch")),
    # the data
    "no datasets": Case(("datasets",), {"datasets": []}),
    "missing dataset folder": Case(("datasets.0.path", "nosuch"), dataset(path="nosuch")),
    "missing metadata file": Case(("nosuch.csv",), dataset(meta_file_train="nosuch.csv")),
    "empty metadata file": Case(("empty.csv",), dataset(meta_file_train="empty.csv")),
    "metadata without samples": Case(("header.csv",), dataset(meta_file_train="header.csv")),
    "metadata of missing recordings": Case(("gone.csv",), dataset(meta_file_train="gone.csv")),
    "unknown formatter": Case(("nosuch",), dataset(formatter="nosuch")),
}


def write_data(folder: Path) -> None:
    """Noise of two speakers, and files that are not what they should be."""
    (folder / "data").mkdir()
    lines = ["audio_file|text|speaker_name"]
    for index in range(8):
        noise = np.random.default_rng(index).normal(0, 0.1, 16000).astype(np.float32)
        soundfile.write(folder / "data" / f"{index}.wav", noise, 16000)
        lines.append(f"{index}.wav|a short text|{'ab'[index % 2]}")
    (folder / "data" / "metadata.csv").write_text("\n".join(lines) + "\n")
    (folder / "data" / "empty.csv").write_text("")
    (folder / "data" / "header.csv").write_text("audio_file|text|speaker_name\n")
    (folder / "data" / "gone.csv").write_text("audio_file|text|speaker_name\ngone.wav|a short text|a\n")
    for name in ("corrupt.pth", "corrupt.json"):
        (folder / name).write_bytes(b"this is neither a checkpoint nor JSON")
    (folder / "empty.pth").write_bytes(b"")
    params = {"model_name": "resnet", "input_dim": 64, "use_torch_spec": True, "proj_dim": 512, "log_input": True}
    audio = {"num_mels": 64, "fft_size": 512, "win_length": 400, "hop_length": 160, "sample_rate": 16000}
    encoder = {"model": "speaker_encoder", "audio": audio, "model_params": params}
    (folder / "encoder.json").write_text(json.dumps(encoder))


def good_config() -> dict[str, Any]:
    return {
        "model": "scl_vits",
        "output_path": "runs",
        "audio": {"sample_rate": 16000},
        "batch_size": 2,
        "eval_batch_size": 2,
        "eval_split_size": 0.25,
        "epochs": 1,
        "num_loader_workers": 0,
        "num_eval_loader_workers": 0,
        "text_cleaner": "basic_cleaners",
        "scl": {"encoders": [{"name": "ge2e"}]},
    } | dataset()


def prepare(case: Case, folder: Path) -> None:
    """The files of a case, in a folder of its own."""
    folder.mkdir()
    write_data(folder)
    if isinstance(case.config, bytes):
        (folder / "config.json").write_bytes(case.config)
    elif isinstance(case.config, str):
        (folder / "config.json").write_text(case.config)
    elif case.config is not None:
        config = good_config() | dict(case.config)
        if config["model"] == "vits":
            del config["scl"]
        name = case.arguments[case.arguments.index("--config_path") + 1]
        (folder / name).write_text(json.dumps(config))  # JSON is YAML


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@dataclass(frozen=True)
class Outcome:
    """What a run of `train` came to."""

    status: int
    out: str
    err: str
    changed: list[str]


def changed(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> list[str]:
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """All cases, in one process, since each import of torch and Coqui takes seconds."""
    root = tmp_path_factory.mktemp("malformed")
    results, work, before = root / "results.jsonl", [], {}
    for index, (name, case) in enumerate(CASES.items()):
        folder = root / str(index)
        prepare(case, folder)
        before[name] = folder, files(folder)
        work.append(
            {
                "name": name,
                "folder": str(folder),
                "arguments": ["train", *case.arguments],
                "results": str(results),
            }
        )
    (root / "cases.json").write_text(json.dumps(work))
    results.touch()
    driver = [sys.executable, "-c", DRIVER, str(root / "cases.json")]
    process = subprocess.run(driver, capture_output=True, text=True, timeout=300, check=False)
    assert process.returncode == 0, f"{results.read_text()[-2000:]}\n{process.stdout}\n{process.stderr}"
    return {
        name: Outcome(status, out, err, changed(before[name][1], files(before[name][0])))
        for name, status, out, err in map(json.loads, results.read_text().splitlines())
    }


def assert_refused(outcome: Outcome, case: Case) -> None:
    assert "Traceback" not in outcome.err + outcome.out, outcome.err[-600:] + outcome.out[-600:]
    assert outcome.status == 2, outcome
    assert outcome.err.startswith(case.starts), outcome.err
    assert outcome.err.count("coqui-scl: ") == 1, outcome.err
    for part in case.parts:
        assert part in outcome.err
    assert outcome.changed == []


@pytest.mark.parametrize("name", CASES)
def test_what_train_cannot_use_is_one_message_and_status_2(name: str, outcomes: dict[str, Outcome]) -> None:
    assert_refused(outcomes[name], CASES[name])


@pytest.mark.parametrize("name", ["unknown key", "metadata without samples"])
def test_the_installed_command_refuses_alike(name: str, tmp_path: Path) -> None:
    case, folder = CASES[name], tmp_path / "case"
    prepare(case, folder)
    before = files(folder)
    arguments = [SCRIPT, "train", *case.arguments]
    process = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    after = changed(before, files(folder))
    assert_refused(Outcome(process.returncode, process.stdout, process.stderr, after), case)
    assert not (folder / "runs").exists()
