"""A run that ends after half of its epochs and is continued ends as the run that was not, bit by bit.

Nothing here seeds anything or restores random numbers: slices, noise, dropout, windows, augmentation, the encoder drawn
by `combine: random` and the order of the data are the plugin's and Coqui's own.
"""

import pytest
from resumed_runs import BATCHES, continued, differences, run_of, state_of

from coqui_scl_plugin.monitoring.history import read_history

pytestmark = pytest.mark.usefixtures("one_thread")

EPOCHS = 2
FIELDS = {
    "batch_size": 2, "eval_batch_size": 2, "batch_group_size": 2, "epochs": EPOCHS, "run_eval": True,
    "save_checkpoints": True, "save_best_after": 0, "save_step": BATCHES - 1, "optimizer": "AdamW", "lr_gen": 1e-3,
    "lr_disc": 1e-3, "lr_scheduler_gen": "ExponentialLR", "lr_scheduler_gen_params": {"gamma": 0.9},
    "lr_scheduler_disc": "ExponentialLR", "lr_scheduler_disc_params": {"gamma": 0.9},
}  # fmt: skip
RULES = [{"pattern": "text_encoder", "until_step": 3}, {"pattern": "flow", "lr_scale": 0.5}]
RANDOM = {
    "encoders": [{"name": "ge2e"}, {"name": "dvector"}],
    "loss": {"name": "ensemble", "params": {"combine": "random", "member": {"name": "cosine"}}},
    "reference": {"source": "cross_utterance"},
    "augment": {"gain_db": 6.0, "noise_snr_db": [10.0, 30.0]},
    "window": {"seconds": 0.5, "items": 1, "every_n_steps": 2},
    "gradient_share": 0.1,
    "ramp_steps": 5,
    "start_step": 1,
    "freeze": {"modules": RULES, "check_every": 2},
}
WARMED = {
    "loss": {"name": "angular_margin", "params": {"margin_warmup_steps": 5, "prototypes": "centroid"}},
    "reference": {"source": "centroid"},
    "window": {"seconds": 0.5, "items": None, "every_n_steps": 1},
    "weight": 2.0,
}


def half_and_whole(tiny_config, tmp_path, section, **fields):
    """Return a run of all epochs, one that ended after half of them, and one that continued it."""
    whole = run_of(tiny_config(section, output_path=str(tmp_path / "whole"), **FIELDS | fields))
    whole.fit()
    config = tiny_config(section, output_path=str(tmp_path / "half"), **FIELDS | fields | {"epochs": EPOCHS // 2})
    half = run_of(config)
    half.fit()
    return whole, half, continued(half.output_path, EPOCHS)


def test_random_choices_schedules_and_the_monitor_go_on(tiny_config, tmp_path, capfd):
    whole, half, again = half_and_whole(tiny_config, tmp_path, RANDOM)
    steps = EPOCHS // 2 * BATCHES
    assert (again.total_steps_done, again.epochs_done) == (steps, EPOCHS // 2)
    assert f"after {steps} steps, with epoch {EPOCHS // 2}." in capfd.readouterr().out
    assert differences(state_of(half), state_of(again)) == []
    again.fit()
    assert again.total_steps_done == whole.total_steps_done == EPOCHS * BATCHES
    assert differences(state_of(whole), state_of(again)) == []
    assert read_history(again.output_path) == read_history(whole.output_path)
    assert len(read_history(whole.output_path)) == EPOCHS
    assert again.best_loss == whole.best_loss
    names = [sorted(path.name for path in run.output_path.glob("best*.pth")) for run in (whole, again)]
    assert names[0] == names[1] != []


def test_a_warmed_margin_and_weights_of_the_loss_go_on(tiny_config, tmp_path):
    whole, half, again = half_and_whole(tiny_config, tmp_path, WARMED, scheduler_after_epoch=False)
    assert differences(state_of(half), state_of(again)) == []
    again.fit()
    assert differences(state_of(whole), state_of(again)) == []
    margins = [run.model.speaker_encoder_loss.loss.members["ge2e"].margin for run in (whole, again)]
    assert margins[0] == margins[1]
