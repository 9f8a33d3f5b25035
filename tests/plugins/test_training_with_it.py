"""A config that names a third party's loss and policy trains with them; and a stock config trains as it is."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_vits import SIZES

from coqui_scl_plugin.demo import corpus_files

SCRIPT = Path(sys.executable).with_name("coqui-scl")


def write_config(folder, *, model, model_args=None, **fields):
    config = {
        "model": model,
        "model_args": SIZES | (model_args or {}),
        "audio": {"sample_rate": 16_000},
        "datasets": [corpus_files.dataset_config(corpus_files.BUNDLED).to_dict()],
        "text_cleaner": "basic_cleaners",
        "output_path": str(folder / "runs"),
        "batch_size": 4,
        "num_loader_workers": 0,
        "num_eval_loader_workers": 0,
        "eval_split_size": 4,
        "epochs": 1,
        "run_eval": False,
        "test_delay_epochs": 9,
        "print_step": 1,
        **fields,
    }
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return path


def train(config, *arguments, path=""):
    process = subprocess.run(
        [SCRIPT, "train", "--config_path", config, "--small_run=8", *arguments],
        env=os.environ | {"PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    (run,) = (path for path in (config.parent / "runs").iterdir() if path.is_dir())
    log = (run / "trainer_0_log.txt").read_text()
    return json.loads((run / "config.json").read_text()), log, process.stdout + process.stderr


def test_a_third_partys_loss_and_policy(example_plugin_path, tmp_path):
    loss = {"name": "euclidean", "params": {"scale": 0.5}}
    section = {"weight": 4.0, "loss": loss, "encoders": [{"name": "ge2e", "policy": "counted"}]}
    config = write_config(tmp_path, model="scl_vits", scl=section)
    resolved, log, shown = train(config, path=example_plugin_path)
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


def test_a_stock_config_of_yourtts_unchanged(coqui_files, tmp_path):
    files = coqui_files["resnet"]
    config = write_config(tmp_path, model="vits", model_args=files.stock_loss(), speaker_encoder_loss_alpha=7.0)
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


def test_overrides_reach_the_section(tmp_path):
    config = write_config(tmp_path, model="scl_vits")
    resolved, _, _ = train(
        config, "--coqpit.scl.weight", "2.5", "--coqpit.scl.segment.min_seconds", "0.7", "--coqpit.batch_size=8"
    )
    assert resolved["scl"]["weight"] == 2.5
    assert resolved["scl"]["segment"]["min_seconds"] == 0.7
    assert resolved["batch_size"] == 8  # the same value as --small_run has
