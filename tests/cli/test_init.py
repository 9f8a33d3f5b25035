"""`coqui-scl init`: configs from a stock one, from a data set, and from answers in a terminal."""

import json
import os
import pty
import subprocess
from pathlib import Path
from typing import Any

import pytest
from command_driver import SCRIPT, Command, Outcome, environment, run_commands, run_script

from coqui_scl_plugin import SclVitsConfig
from coqui_scl_plugin.config import read_config_file
from coqui_scl_plugin.coqui import new_config
from coqui_scl_plugin.coqui.run_config import usable_config

STOCK = {
    "model": "vits",
    "run_name": "mine",
    "output_path": "runs",
    "batch_size": 13,
    "model_args": {
        "use_speaker_embedding": True,
        "use_speaker_encoder_as_loss": True,
        "speaker_encoder_model_path": "encoder.pth",
        "speaker_encoder_config_path": "encoder.json",
        "speakers_file": "speakers.pth",
    },
    "speaker_encoder_loss_alpha": 5.0,
    "datasets": [{"formatter": "coqui", "path": "nowhere", "meta_file_train": "metadata.csv"}],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, libri10: Path) -> dict[str, tuple[Outcome, Path]]:
    """Outcomes of commands that share a process, with the config that each was to write."""
    folder = tmp_path_factory.mktemp("init")
    no_loss = STOCK | {"model_args": STOCK["model_args"] | {"use_speaker_encoder_as_loss": False}}
    contents = {
        "stock": STOCK,
        "no_loss": no_loss,
        "trained": no_loss | {"model": "scl_vits", "scl": {"weight": 3.0}},
        "glow": {"model": "glow_tts"},
        "wrong": {"model": "vits", "batch_size": "many"},
        "there": {},
    }
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    data = str(libri10)
    cases = {
        "from_stock": ["--from", "stock.json", "--json"],
        "keep_loss": ["--from", "stock.json", "--keep-loss", "--json"],
        "other_encoders": ["--from", "stock.json", "--encoder", "ge2e", "--holdout", "campplus", "--json"],
        "one_voice": ["--from", "stock.json", "--data", data, "--voices", "one", "--gpu-memory", "8", "--json"],
        "one_voice_ours": ["--from", "trained.json", "--data", data, "--voices", "one", "--json"],
        "from_data": ["--data", data, "--gpu-memory", "0"],
        "no input": [],
        "no loss to keep": ["--from", "no_loss.json", "--keep-loss"],
        "ours already": ["--from", "trained.json"],
        "another model": ["--from", "glow.json"],
        "wrong type": ["--from", "wrong.json"],
        "one voice from nothing": ["--data", data, "--voices", "one"],
        "voices": ["--data", data, "--voices", "some"],
        "keep-loss and encoder": ["--from", "stock.json", "--keep-loss", "--encoder", "ge2e"],
        "unknown encoder": ["--from", "stock.json", "--encoder", "ge2"],
        "encoder twice": ["--from", "stock.json", "--encoder", "dvector"],
        "no data": ["--data", "missing"],
    }
    commands = {
        name: Command(folder, ["init", "--out", f"{name}.json".replace(" ", "_"), *arguments])
        for name, arguments in cases.items()
    } | {
        "exists": Command(folder, ["init", "--from", "stock.json", "--out", "there.json"]),
        "ending": Command(folder, ["init", "--from", "stock.json", "--out", "there.yaml"]),
    }
    return {name: (outcome, folder / f"{name}.json") for name, outcome in run_commands(commands).items()}


def config_of(made: dict[str, tuple[Outcome, Path]], name: str) -> dict[str, Any]:
    outcome, file = made[name]
    assert outcome.status == 0, outcome.err
    return read_config_file(str(file))


def test_of_a_stock_config_only_what_is_listed_changes(made):
    config = config_of(made, "from_stock")
    changes = {change["key"]: change for change in made["from_stock"][0].report["changes"]}
    assert set(changes) == {
        "model", "model_args.use_speaker_encoder_as_loss", "scl.weight", "scl.encoders", "scl.holdout",
    }  # fmt: skip
    assert config.pop("scl") == {
        "weight": 9.0,
        "encoders": [{"name": "ge2e"}, {"name": "campplus"}],
        "holdout": [{"name": "dvector"}],
    }
    args = STOCK["model_args"] | {"use_speaker_encoder_as_loss": False}
    assert config == STOCK | {"model": "scl_vits", "model_args": args}
    assert changes["model"]["before"] == "vits"
    assert all(change["why"] for change in changes.values())


def test_each_change_has_its_reason_in_the_file(made):
    outcome, file = made["from_stock"]
    text = " ".join(file.read_text().replace("//", " ").split())
    assert all(change["why"] in text for change in outcome.report["changes"])
    assert '(was "vits")' in text


def test_the_loss_that_is_kept_is_the_one_that_stocks_flags_stand_for(made):
    kept = usable_config(config_of(made, "keep_loss"), []).scl
    implied = usable_config(STOCK, []).scl
    assert kept.to_dict() | {"holdout": []} == implied.to_dict()
    assert [encoder.name for encoder in kept.holdout] == ["dvector"]


def test_encoders_that_are_named_are_taken(made):
    section = config_of(made, "other_encoders")["scl"]
    assert section["encoders"] == [{"name": "ge2e"}]
    assert section["holdout"] == [{"name": "campplus"}]


def test_a_new_voice_is_added_to_a_trained_model(made, libri10):
    config = config_of(made, "one_voice")
    assert [dataset["path"] for dataset in config["datasets"]] == [str(libri10)]  # the former one is not here
    assert config["scl"]["restore"] == {"match_rows": True}
    assert config["model_args"]["speakers_file"] is None
    assert (config["use_weighted_sampler"], config["weighted_sampler_attrs"]) == (True, {"speaker_name": 1.0})
    assert (config["batch_size"], config["scl"]["window"]) == (4, {"items": 2})
    assert all("--restore_path" in command for command in made["one_voice"][0].report["next"][-2:])
    usable_config(config, [])
    ours = config_of(made, "one_voice_ours")["scl"]
    assert ours == {"weight": 3.0, "restore": {"match_rows": True}}


REFUSALS = {
    "no input": ["--data FOLDER", "--from CONFIG"],
    "no loss to keep": ["--keep-loss", "no loss to keep"],
    "ours already": ["model = 'scl_vits'", "already"],
    "another model": ["model = 'glow_tts'"],
    "wrong type": ["batch_size = 'many'"],
    "one voice from nothing": ["--voices one needs --from"],
    "voices": ["--voices 'some'", "many, one"],
    "keep-loss and encoder": ["--keep-loss goes with --from, and not with --encoder"],
    "unknown encoder": ["'ge2'", "Did you mean 'ge2e'?"],
    "encoder twice": ["dvector", "scl.holdout.0"],
    "no data": ["--data 'missing': there is no such folder"],
    "exists": ["there.json exists", "--force"],
    "ending": ["there.yaml: must end in .json"],
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_be_is_refused_and_nothing_is_written(name, made):
    made[name][0].assert_refused(REFUSALS[name])


def test_a_config_from_a_data_set_passes_preflight(made, libri10, tmp_path):
    outcome, file = made["from_data"]
    assert "100 recordings of 10 speakers at 16000 Hz" in outcome.err
    assert "coqui-scl preflight --config_path from_data.json" in outcome.out
    assert read_config_file(str(file))["datasets"][0]["path"] == str(libri10)
    checked = run_script("preflight", "--config_path", str(file), "--json", folder=tmp_path)
    assert checked.status == 0, checked.err
    assert {check["status"] for check in checked.report["checks"]} == {"passed"}


def test_in_a_terminal_what_is_missing_is_asked(libri10, tmp_path):
    ours, theirs = pty.openpty()
    answers = [str(libri10), "", "ge2e", "campplus", "24"]
    process = subprocess.Popen(
        [SCRIPT, "init"], stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        env=environment(),
    )  # fmt: skip
    os.write(ours, "".join(f"{answer}\n" for answer in answers).encode())
    out, err = process.communicate(timeout=300)
    os.close(ours)
    os.close(theirs)
    assert process.returncode == 0, err
    config = read_config_file(str(tmp_path / "config.json"))
    assert config["scl"]["encoders"] == [{"name": "ge2e"}]
    assert config["scl"]["holdout"] == [{"name": "campplus"}]
    assert config["batch_size"] == 28
    assert "Folder of the data set" in err
    assert "config.json was written" in out


@pytest.mark.parametrize(
    ("gigabytes", "batch", "items"), [(0, 8, None), (2, 2, 2), (8, 4, 2), (24, 28, None), (141, 64, None)]
)
def test_batches_are_sized_by_memory(gigabytes, batch, items):
    config = new_config.NewConfig({"model": "scl_vits"})
    new_config.use_memory(config, gigabytes)
    assert config.data["batch_size"] == batch
    assert config.data.get("scl", {}).get("window", {}).get("items") == items
    SclVitsConfig.new_from_dict(config.data)
