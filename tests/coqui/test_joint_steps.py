"""Two processes with half a batch each take the steps of one process with all of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import joint_steps
import pytest
import torch

SGD = {"optimizer": "SGD", "lr": 1e-3, "clip": 10.0, "averages": True}
ADAMW = {"optimizer": "AdamW", "lr": 2e-4, "clip": 10.0, "averages": True}
WORST = {
    "encoders": [{"name": "ge2e"}, {"name": "dvector"}],
    "loss": {"name": "ensemble", "params": {"combine": "worst", "member": {"name": "cosine"}, "calibrate": False}},
}
LOSSES = {
    "cosine": {},
    "angular_margin": {"loss": {"name": "angular_margin"}},
    "contrastive": {"loss": {"name": "contrastive"}},
    "metric_learning": {"loss": {"name": "metric_learning", "params": {"loss": "SupConLoss"}}},
    "worst": WORST,
    "share": {"loss": {"name": "contrastive"}, "gradient_share": 0.5},
    "window": {"loss": {"name": "contrastive"}, "window": {"seconds": 0.5, "items": None, "every_n_steps": 2}},
}
QUICK = ("cosine", "angular_margin", "contrastive", "metric_learning")
JOBS = {
    **{f"{name}-sgd": SGD | {"scl": LOSSES[name]} for name in QUICK},
    "contrastive-adamw": ADAMW | {"scl": LOSSES["contrastive"]},
    "alone": SGD | {"scl": LOSSES["cosine"], "averages": False},
}
MORE = {
    **{f"{name}-sgd": SGD | {"scl": scl} for name, scl in LOSSES.items() if name not in QUICK},
    **{f"{name}-adamw": ADAMW | {"scl": scl} for name, scl in LOSSES.items() if name != "contrastive"},
    "uneven-sgd": SGD | {"scl": LOSSES["contrastive"], "first": 1},
}
"""`uneven`: one item in one process, and three in the other."""


def train(folder: Path, jobs: dict) -> dict[tuple[str, int, int], dict[str, torch.Tensor]]:
    """Train each job in one process and in two; return the parameters by job, rank and number of processes."""
    (folder / "jobs.json").write_text(json.dumps(jobs))
    program = [sys.executable, joint_steps.__file__]
    ranks = [(0, 1), (0, 2), (1, 2)]
    running = [
        subprocess.Popen(
            [*program, str(rank), str(count), str(folder)], env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank, count in ranks
    ]  # fmt: skip
    outputs = [process.communicate(timeout=600)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], "\n".join(text[-3000:] for text in outputs)
    return {
        (job, *place): torch.load(folder / f"{job}-{place[0]}-of-{place[1]}.pt", weights_only=True)
        for job in jobs
        for place in ranks
    }


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def assert_same_up_to_signs(two: dict[str, torch.Tensor], one: dict[str, torch.Tensor]) -> None:
    """AdamW steps by the sign of a gradient also where that is 0 but for rounding: there, a step may differ."""
    assert distance(two, one) < ADAMW["lr"]
    changes = torch.cat([(two[name] - one[name]).abs().flatten() for name in one])
    assert float((changes > 1e-5).float().mean()) < 1e-3


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train(tmp_path_factory.mktemp("joint"), JOBS)


@pytest.mark.parametrize("name", [name for name in JOBS if name.endswith("-sgd")])
def test_sgd_takes_the_same_steps(trained, name):
    assert distance(trained[name, 0, 2], trained[name, 0, 1]) < 1e-5
    assert distance(trained[name, 0, 2], trained[name, 1, 2]) == 0.0


def test_adamw_takes_the_same_steps(trained):
    assert_same_up_to_signs(trained["contrastive-adamw", 0, 2], trained["contrastive-adamw", 0, 1])


def test_without_averaging_the_processes_drift_apart(trained):
    assert distance(trained["alone", 0, 2], trained["alone", 1, 2]) > 1e-3


@pytest.mark.nightly
def test_every_loss_takes_the_same_steps_also_in_uneven_shares(tmp_path):
    trained = train(tmp_path, MORE)
    pairs = {name: (trained[name, 0, 2], trained[name, 0, 1]) for name in MORE}
    far = {name: distance(*pair) for name, pair in pairs.items() if name.endswith("-sgd")}
    assert {name: value for name, value in far.items() if value > 1e-5} == {}
    for name in pairs.keys() - far.keys():
        assert_same_up_to_signs(*pairs[name])
    assert all(distance(trained[name, 0, 2], trained[name, 1, 2]) == 0.0 for name in MORE)


def test_the_steps_move_the_model_and_differ_by_loss(trained):
    assert distance(trained["contrastive-sgd", 0, 1], trained["cosine-sgd", 0, 1]) > 1e-4
