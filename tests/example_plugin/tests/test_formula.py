"""The loss against its formula, written independently: half the squared distance of unit vectors is 1 - cos."""

import pytest
import torch

from coqui_scl_plugin import build_loss


def test_is_one_minus_the_cosine():
    generated, reference = torch.randn(2, 8, 32, generator=torch.Generator().manual_seed(0))
    expected = 2.0 * (1.0 - torch.cosine_similarity(generated.double(), reference.double())).mean()
    assert build_loss("euclidean", {"scale": 2.0})(generated, reference).item() == pytest.approx(
        expected.item(), rel=1e-5
    )
