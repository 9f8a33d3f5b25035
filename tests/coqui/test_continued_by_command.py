"""`coqui-scl train --continue_path` with torn checkpoints, overrides, and another encoder than the run had."""

import json
import re

import pytest
import torch
from tiny_vits import run_config

from coqui_scl_plugin.cli.train import _read_config
from coqui_scl_plugin.coqui.train_tts import train
from coqui_scl_plugin.demo import corpus_files
from coqui_scl_plugin.errors import ConfigError, PreflightError

pytestmark = pytest.mark.usefixtures("one_thread")


def steps_of(run):
    return sorted(int(path.stem.rpartition("_")[2]) for path in run.glob("checkpoint_*.pth"))


@pytest.fixture(scope="module")
def run(tmp_path_factory, coqui_files):
    """The folder of a run of two steps on eight recordings, whose encoder lies beside it."""
    folder = tmp_path_factory.mktemp("continued")
    files = coqui_files["resnet"]
    encoder = {"name": "coqui", "params": {**files.params(), "model_path": str(folder / "encoder.pth")}}
    (folder / "encoder.pth").write_bytes(files.model_path.read_bytes())
    config = run_config(
        folder, datasets=[corpus_files.dataset_config(corpus_files.BUNDLED).to_dict()], eval_split_size=4,
        run_eval=False, output_path=str(folder / "runs"), save_step=1, scl={"encoders": [encoder]},
    )  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    train(["--config_path", str(folder / "config.json"), "--small_run", "12"])
    (run,) = (path for path in (folder / "runs").iterdir() if path.is_dir())
    return run


def go_on(run, *arguments):
    train(["--continue_path", str(run), "--small_run", "12", *arguments])


def section_of(run):
    return json.loads((run / "config.json").read_text())["scl"]


@pytest.mark.nightly
def test_torn_checkpoints_overrides_and_another_encoder(run, capfd):
    assert steps_of(run) == [1, 2]
    for name in ("best_model", "checkpoint"):  # the step of the last checkpoint is in both
        for path in run.glob(f"{name}_[23].pth"):
            path.write_bytes(path.read_bytes()[:5000])
    (run / "best_model.pth").write_bytes(b"")
    (run / f".config.{2**22 - 1}.partial.json").touch()
    go_on(run, "--coqpit.epochs", "2", "--coqpit.save_step", "2")
    shown = capfd.readouterr()
    assert "checkpoint_2.pth is cut off or damaged. It was set aside as torn_checkpoint_2.pth.aside." in shown.err
    assert "The run goes on from checkpoint_1.pth" in shown.err
    assert "Continued from checkpoint_1.pth after 2 steps: Coqui begins epoch 0 anew, so that the first 2 of its 3" in (
        shown.out
    )
    assert json.loads((run / "config.json").read_text())["epochs"] == 2
    assert steps_of(run) == [1, 2, 4, 6]
    assert not list(run.glob(".*partial*"))

    before = (run / "config.json").read_bytes()
    with pytest.raises(PreflightError, match=r"scl\.weight = 9\.0 \(here 3\.0\).*--skip continued"):
        go_on(run, "--coqpit.epochs", "3", "--coqpit.scl.weight", "3.0")
    assert (run / "config.json").read_bytes() == before

    (spec,) = section_of(run)["encoders"]
    file = run.parent.parent / "encoder.pth"
    state = torch.load(file, weights_only=True)
    state["model"] = {k: v.roll(1, 0) if v.dim() == 4 else v for k, v in state["model"].items()}
    torch.save(state, file)
    with pytest.raises((PreflightError, ConfigError), match=r"SHA-256 is .* expects .*--skip continued"):
        go_on(run, "--coqpit.epochs", "3")
    assert (run / "config.json").read_bytes() == before
    (torn := run.parent / "best_model_9.pth").write_bytes(b"PK")
    with pytest.raises(ConfigError, match=r"--best_path .*best_model_9\.pth is cut off or damaged"):
        go_on(run, "--coqpit.epochs", "3", "--skip", "continued", "--best_path", str(torn))
    assert (run / "config.json").read_bytes() == before
    go_on(run, "--coqpit.epochs", "3", "--skip", "continued")
    (now,) = section_of(run)["encoders"]
    checks = json.loads((run / "preflight.json").read_text())["checks"]
    assert [check["id"] for check in checks if check["status"] == "skipped"] == ["continued"]
    assert now["params"]["sha256"] != spec["params"]["sha256"]
    assert now["floor"] != spec["floor"]
    assert now["measured"]["floor"] == now["floor"]
    assert section_of(run)["preflight"]["skip"] == []


def test_a_torn_config_is_in_the_checkpoints(run, tmp_path, capsys):
    before = (run / "config.json").read_bytes()
    (run / "config.json").write_bytes(before[:500])
    try:
        with pytest.raises(ConfigError, match="is not valid JSON") as refused:
            _read_config(["--continue_path", str(run)])
        command = re.search(r'python -c "(.*)" > (.*)', str(refused.value))
        exec(command[1], {})  # noqa: S102  # what a user would do
    finally:
        (run / "config.json").write_bytes(before)
    written, whole = json.loads(capsys.readouterr().out), json.loads(before)
    assert command[2] == str(run / "config.json")
    assert {key: value for key, value in written.items() if whole[key] != value} == {}
    with pytest.raises(ConfigError, match=r"no such file\.$"):
        _read_config(["--continue_path", str(tmp_path)])
    with pytest.raises(ConfigError, match="takes the folder of a run, here "):
        _read_config(["--continue_path", str(run / "config.json")])


def test_a_run_without_any_checkpoint(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(run_config(tmp_path)))
    with pytest.raises(ConfigError, match=r"there is no checkpoint in it\. Start it again"):
        go_on(tmp_path)
