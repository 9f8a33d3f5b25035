"""`coqui-scl train` refuses what it cannot use: status 2, one message on standard error, nothing written."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import soundfile
from command_driver import Command, Outcome, run_commands, run_script
from tiny_vits import RATE, run_config
from tiny_vits import dataset as dataset_entry
from toy_speech import speech, write_metadata


def section(**scl: Any) -> dict[str, Any]:
    return {"scl": scl}


def coqui_encoder(**params: Any) -> dict[str, Any]:
    return section(encoders=[{"name": "coqui", "params": params}])


def dataset(**keys: Any) -> dict[str, Any]:
    return {"datasets": [dataset_entry(Path("data")) | keys]}


@dataclass(frozen=True)
class Case:
    """Changes of a sound config, or the text of its file; the arguments of `train`; and what its message must hold."""

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
    "a URL that nobody answers": Case(
        ("http://127.0.0.1:9/config.json", "cannot be read"), None, ("--config_path", "http://127.0.0.1:9/config.json")
    ),
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
    """Write speech of two speakers, and files that are not what they should be."""
    data = folder / "data"
    data.mkdir()
    rows = [(f"{index}.wav", "ab"[index % 2]) for index in range(8)]
    for index, (file, _) in enumerate(rows):
        soundfile.write(data / file, speech(1.0, seed=index, rate=RATE), RATE)
    for name, table in {"metadata": rows, "header": [], "gone": [("gone.wav", "a")]}.items():
        write_metadata(data / f"{name}.csv", table)
    (data / "empty.csv").write_text("")
    for name in ("corrupt.pth", "corrupt.json"):
        (folder / name).write_bytes(b"this is neither a checkpoint nor JSON")
    (folder / "empty.pth").write_bytes(b"")
    params = {"model_name": "resnet", "input_dim": 64, "use_torch_spec": True, "proj_dim": 512, "log_input": True}
    audio = {"num_mels": 64, "fft_size": 512, "win_length": 400, "hop_length": 160, "sample_rate": 16000}
    encoder = {"model": "speaker_encoder", "audio": audio, "model_params": params}
    (folder / "encoder.json").write_text(json.dumps(encoder))


def prepare(case: Case, folder: Path) -> None:
    """Write the files of a case into a folder of its own."""
    folder.mkdir()
    write_data(folder)
    if isinstance(case.config, bytes):
        (folder / "config.json").write_bytes(case.config)
    elif isinstance(case.config, str):
        (folder / "config.json").write_text(case.config)
    elif case.config is not None:
        name = case.arguments[case.arguments.index("--config_path") + 1]
        (folder / name).write_text(json.dumps(run_config(Path("data"), **case.config)))  # JSON is YAML


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """Run all cases in one process."""
    root = tmp_path_factory.mktemp("malformed")
    commands = {}
    for index, (name, case) in enumerate(CASES.items()):
        prepare(case, root / str(index))
        commands[name] = Command(root / str(index), ["train", *case.arguments])
    return run_commands(commands)


@pytest.mark.parametrize("name", CASES)
def test_what_train_cannot_use_is_one_message_and_status_2(name: str, outcomes: dict[str, Outcome]) -> None:
    outcomes[name].assert_refused(CASES[name].parts, CASES[name].starts)


@pytest.mark.parametrize("name", ["unknown key", "metadata without samples"])
def test_the_installed_command_refuses_alike(name: str, tmp_path: Path) -> None:
    case, folder = CASES[name], tmp_path / "case"
    prepare(case, folder)
    run_script("train", *case.arguments, folder=folder).assert_refused(case.parts, case.starts)
