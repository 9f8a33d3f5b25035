"""The check of several processes, on made-up facts."""

from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from coqui_scl_plugin.preflight.processes import check_processes

WEIGHTED = {"train_samples": [{}] * 9, "config": SimpleNamespace(use_weighted_sampler=True, batch_size=2)}


def facts(**changes: Any) -> Any:
    sound = {
        "processes": 2,
        "uses_accelerate": False,
        "shares_data": True,
        "train_samples": [{}] * 2,
        "eval_samples": None,
        "config": SimpleNamespace(use_weighted_sampler=False, batch_size=2),
        "consistency": None,
    }
    return SimpleNamespace(**sound | changes)


def with_encoder(encoder: nn.Module) -> Any:
    return SimpleNamespace(encoders=SimpleNamespace(trained_encoders={"mine": encoder}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"uses_accelerate": True}, "use_accelerate with 2 processes"),
        ({"shares_data": False}, "2 processes would train on the same batches"),
        (
            {"processes": 3, "eval_samples": [{}] * 3, **WEIGHTED},
            "3 evaluation samples are 1 batch(es) of batch_size = 2",
        ),
        ({"train_samples": [{}]}, "1 training sample(s) for 2 processes"),
        ({"consistency": with_encoder(nn.Sequential(nn.BatchNorm1d(2)))}, "'mine' trains along and has batch norm"),
    ],
)
def test_what_cannot_be_right_is_refused_and_fits_one_process(changes: dict[str, Any], message: str) -> None:
    (finding,) = check_processes(facts(**changes))
    assert finding.is_error
    assert message in finding.found
    assert check_processes(facts(**changes | {"processes": 1})) == []


def test_sound_runs_pass() -> None:
    assert check_processes(facts()) == []
    assert check_processes(facts(**WEIGHTED, eval_samples=[{}] * 3)) == []
    assert check_processes(facts(train_samples=None)) == []
    assert check_processes(facts(consistency=with_encoder(nn.Linear(2, 2)))) == []
