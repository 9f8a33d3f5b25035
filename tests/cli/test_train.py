"""`coqui-scl train` trains with a third party's loss and policy, with overrides, and on a stock config as it is."""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from command_driver import run_script
from coqui_encoder_files import CoquiFiles
from tiny_vits import run_config

from coqui_scl_plugin.demo import corpus_files


def write_config(folder: Path, **changes: Any) -> Path:
    """Write a config of a run on the bundled speech that prints every step, and give its path."""
    path = folder / "config.json"
    datasets = [corpus_files.dataset_config(corpus_files.BUNDLED).to_dict()]
    fields = {"datasets": datasets, "eval_split_size": 4, "run_eval": False, "print_step": 1} | changes
    path.write_text(json.dumps(run_config(folder, **fields)))
    return path


def train(config: Path, *arguments: str, paths: Sequence[Path] = ()) -> tuple[dict[str, Any], str, str]:
    """Train on eight recordings; return the config that the run wrote, its log, and what the command printed."""
    command = ["train", "--config_path", config, "--small_run=8", *arguments]
    outcome = run_script(*command, folder=config.parent, paths=paths)
    assert outcome.status == 0, outcome.err
    (run,) = (path for path in (config.parent / "runs").iterdir() if path.is_dir())
    log = (run / "trainer_0_log.txt").read_text()
    return json.loads((run / "config.json").read_text()), log, outcome.out + outcome.err


def test_a_third_partys_loss_and_policy(example_plugin_path: Path, tmp_path: Path) -> None:
    loss = {"name": "euclidean", "params": {"scale": 0.5}}
    section = {"weight": 4.0, "loss": loss, "encoders": [{"name": "ge2e", "policy": "counted"}]}
    config = write_config(tmp_path, scl=section)
    resolved, log, shown = train(config, paths=[example_plugin_path])
    assert resolved["scl"]["encoders"][0]["policy"] == "counted"
    assert "The policy 'counted' was applied 10 times." in shown
    (report,) = tmp_path.glob("runs/*/freeze_report.json")
    (encoder,) = json.loads(report.read_text())["encoders"]
    assert (encoder["policy"], encoder["trains"], encoder["trainable"]) == ("counted", False, 0)
    assert (encoder["optimizer"], encoder["mode"]) == ("none", "eval")
    assert resolved["scl"]["loss"] == {"name": "euclidean", "params": {"scale": 0.5}}
    terms, cosines = (
        [float(value) for value in re.findall(rf"> {name}: ([\d.]+)", log)]
        for name in ("loss_spk_encoder", "reference_cosine_ge2e")
    )
    assert terms
    assert terms == pytest.approx([4.0 * 0.5 * (1 - cosine) for cosine in cosines], rel=1e-4)


def test_a_stock_config_of_yourtts_unchanged(coqui_files: dict[str, CoquiFiles], tmp_path: Path) -> None:
    files = coqui_files["resnet"]
    config = write_config(tmp_path, model="vits", args=files.stock_loss(), speaker_encoder_loss_alpha=7.0)
    before = config.read_bytes()
    resolved, log, shown = train(config)
    assert config.read_bytes() == before
    assert "a vits config, trained as scl_vits" in shown
    assert resolved["model"] == "scl_vits"
    assert resolved["model_args"]["use_speaker_encoder_as_loss"] is False
    assert resolved["scl"]["weight"] == 7.0
    assert resolved["scl"]["loss"]["name"] == "cosine"
    (encoder,) = resolved["scl"]["encoders"]
    sha256 = hashlib.sha256(files.model_path.read_bytes()).hexdigest()
    assert (encoder["name"], encoder["params"]) == ("coqui", files.params() | {"sha256": sha256})
    assert "reference_cosine_coqui" in log
    assert "speaker encoder coqui" in shown
    assert "speaker encoder stock" in shown


def test_overrides_reach_the_section(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    resolved, _, _ = train(
        config, "--coqpit.scl.weight", "2.5", "--coqpit.scl.segment.min_seconds", "0.7", "--coqpit.batch_size=8"
    )
    assert resolved["scl"]["weight"] == 2.5
    assert resolved["scl"]["segment"]["min_seconds"] == 0.7
    assert resolved["batch_size"] == 8  # the same value as --small_run has
