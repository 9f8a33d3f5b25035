"""Every loss passes the conformance tests that authors of plugins run on theirs."""

from typing import Any

import pytest
import torch

from coqui_scl_plugin import available, build_loss
from coqui_scl_plugin.plugins.optional import wants_ceiling
from coqui_scl_plugin.testing import LOSS_CHECKS
from coqui_scl_plugin.testing.loss_batches import batch_of, value_of
from coqui_scl_plugin.testing.running import Check

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "cosine": [{}, {"stop_at_ceiling": True}],
    "angular_margin": [{}, {"kind": "additive_cosine"}, {"prototypes": "centroid"}],
    "metric_learning": [{"loss": "SupConLoss"}, {"loss": "TripletMarginLoss"}],
}
LOSSES = [
    pytest.param(name, params, id="-".join([name, *map(str, params.values())]))
    for name in available()["losses"]
    if name != "ensemble"  # of several encoders
    for params in VARIANTS.get(name, [{}])
]
every_loss = pytest.mark.parametrize(("name", "params"), LOSSES)
pytestmark = pytest.mark.usefixtures("one_thread")


@every_loss
@pytest.mark.parametrize("check", LOSS_CHECKS)
def test_each_loss_conforms(name: str, params: dict[str, Any], check: Check) -> None:
    check(lambda: build_loss(name, params))


@every_loss
def test_is_not_negative(name: str, params: dict[str, Any]) -> None:
    loss = build_loss(name, params)
    if wants_ceiling(loss):
        loss.set_ceiling(1.0)
    assert value_of(loss, batch_of(loss), "an ordinary batch").item() >= 0


@pytest.mark.parametrize(("name", "params"), [one for one in LOSSES if one.values[0] != "features"])
def test_shapes_that_do_not_belong_together_are_refused(name: str, params: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="one shape"):
        build_loss(name, params)(torch.ones(4, 8), torch.ones(4, 9))
