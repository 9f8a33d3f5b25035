"""Each recipe, shortened: its script and its config do the same."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command_driver import SCRIPT

ROOT = Path(__file__).resolve().parents[2]
SMOKE = [
    "--small_run=8",
    "--coqpit.epochs=1",
    "--coqpit.print_step=1",
    "--coqpit.run_eval=false",
    "--coqpit.test_delay_epochs=9",
    "--coqpit.save_best_after=99",
]


def losses(command, output, libri10):
    """Run a command that trains; return the names and values that it logged, and what it printed."""
    done = subprocess.run(
        [*command, *SMOKE, "--coqpit.output_path", str(output)],
        cwd=ROOT,
        env={**os.environ, "SCL_DATA": str(libri10)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (log,) = output.glob("*/trainer_0_log.txt")
    return re.findall(r"\| > (loss_\w+|reference_cosine_\w+): ([-\d.e]+)", log.read_text()), done.stdout


@pytest.mark.parametrize("recipe", sorted(path.parent for path in (ROOT / "recipes").glob("*/*/train.py")), ids=str)
def test_script_and_config_give_the_same_first_losses(recipe, tmp_path, libri10):
    script, shown = losses([sys.executable, recipe / "train.py"], tmp_path / "script", libri10)
    train = [SCRIPT, "train", "--config_path", recipe / "config.json", "--coqpit.datasets.0.path", libri10]
    config, _ = losses(train, tmp_path / "config", libri10)
    cosines = {"reference_cosine_ge2e", "reference_cosine_campplus"}
    assert dict(script).keys() >= {"loss_spk_encoder", "loss_mel", "loss_disc"} | cosines
    assert script == config
    assert "speaker encoder ge2e" in shown


def test_each_recipe_explains_itself():
    for recipe in (ROOT / "recipes").glob("*/*/train.py"):
        readme = (recipe.parent / "README.md").read_text()
        for name in re.findall(r"`([\w./]+\.(?:py|json|md))`", readme):
            assert (recipe.parent / name).is_file() or (ROOT / name).is_file(), name
