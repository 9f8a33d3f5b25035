"""Runs that are killed with SIGKILL go on from their last sound checkpoint, and end as the run that was not killed.

An epoch is one batch here, and each step is saved, so that the order of the data goes on too.
"""

import random

import pytest
import torch
from killed_runs import die_at_rename, die_while_writing, end_of, in_a_fork, kill_when_there
from resumed_runs import continued, differences, run_of, state_of

from coqui_scl_plugin.coqui.continuing import settle_checkpoints
from coqui_scl_plugin.coqui.sound_checkpoint import checkpoints_of, why_torn
from coqui_scl_plugin.utils.checkpoint import read_checkpoint

EPOCHS = 4
FIELDS = {
    "batch_size": 4, "batch_group_size": 4, "epochs": EPOCHS, "save_checkpoints": True, "save_step": 1,
    "save_n_checkpoints": 3, "save_best_after": 0, "run_eval": False,
}  # fmt: skip
WRITES = {
    "the first bytes of checkpoint_2": lambda: die_while_writing("checkpoint_2", 0),
    "the middle of checkpoint_2": lambda: die_while_writing("checkpoint_2", 2_000_000),
    "the end of checkpoint_3": lambda: die_while_writing("checkpoint_3", 4_000_000),
    "before checkpoint_2 has its name": lambda: die_at_rename("checkpoint_2", before=True),
    "after checkpoint_3 has its name": lambda: die_at_rename("checkpoint_3", before=False),
    "the middle of a best model": lambda: die_while_writing("best_model_2", 2_000_000),
    "before a best model has its name": lambda: die_at_rename("best_model_3", before=True),
    "the copy of the best model": lambda: die_while_writing("best_model.pth", 1_000_000),
    "before the copy has its name": lambda: die_at_rename("best_model.pth", before=True),
    "after a best model has its name": lambda: die_at_rename("best_model_2", before=False),
}
QUICK = ("the middle of checkpoint_2", "before checkpoint_2 has its name", "the copy of the best model")
RANDOM_KILLS = 15


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return tmp_path_factory.mktemp("whole") / "state.pth"


@pytest.fixture
def make(tiny_config, tmp_path, expected, one_thread):
    """Return what starts a run, and what continues it and says at which step it went on."""

    def begin(hook=lambda: None, name="killed"):
        config = tiny_config({"enabled": False, "weight": 0.0}, output_path=str(tmp_path / name), **FIELDS)

        def work():
            hook()
            trainer = run_of(config)
            trainer.fit()
            torch.save(state_of(trainer), expected if name == "whole" else tmp_path / "ended.pth")

        return in_a_fork(work, tmp_path / "log.txt")

    def go_on(folder):
        def work():
            settle_checkpoints(folder, None)  # as `coqui-scl train --continue_path` does
            trainer = continued(folder, EPOCHS)
            (tmp_path / "step.txt").write_text(str(trainer.total_steps_done))
            trainer.fit()
            torch.save(state_of(trainer), tmp_path / "ended.pth")

        status = end_of(in_a_fork(work, tmp_path / "log.txt"))
        assert status == 0, (tmp_path / "log.txt").read_text()[-3000:]
        return int((tmp_path / "step.txt").read_text())

    if not expected.exists():
        assert end_of(begin(name="whole")) == 0, (tmp_path / "log.txt").read_text()[-3000:]
    return begin, go_on


def check_that_it_goes_on(folder, go_on, expected):
    """Continue a killed run, which loses no more than the steps since its last sound checkpoint."""
    sound = [path for path in checkpoints_of(folder) if why_torn(path) is None]
    saved = max(read_checkpoint(str(path))["optimizer"][1]["scl_progress"]["steps"] for path in sound)
    assert go_on(folder) == saved
    ended = torch.load(folder.parent.parent / "ended.pth", weights_only=True)
    assert differences(torch.load(expected, weights_only=True), ended) == []
    assert not [path.name for path in folder.iterdir() if ".partial" in path.name]
    assert why_torn(folder / "best_model.pth") is None


@pytest.mark.parametrize(
    "moment", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.nightly) for name in WRITES]
)
def test_killed_in_the_middle_of_a_checkpoint(make, tmp_path, expected, moment):
    begin, go_on = make
    assert end_of(begin(WRITES[moment])) == -9
    (folder,) = (tmp_path / "killed").iterdir()
    check_that_it_goes_on(folder, go_on, expected)


@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=[] if n < 2 else pytest.mark.nightly) for n in range(RANDOM_KILLS)]
)
def test_killed_at_random(make, tmp_path, expected, number):
    begin, go_on = make
    pid = begin()
    kill_when_there(pid, tmp_path, "killed/*/checkpoint_1.pth", random.Random(number).uniform(0.0, 0.6))
    status = end_of(pid)
    (folder,) = (tmp_path / "killed").iterdir()
    if status == 0:
        pytest.skip("the run was done before")
    check_that_it_goes_on(folder, go_on, expected)
