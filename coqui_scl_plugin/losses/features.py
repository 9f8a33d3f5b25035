"""L1 distance between the feature maps that a frozen encoder makes of generated speech and of the same real speech."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from coqui_scl_plugin.losses.heard import Compared

_SMALLEST = 1e-5
"""Least divisor of a layer, so that a map that is 0 everywhere gives a finite value."""


def feature_loss(generated: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """Compute the mean over layers of mean |G - R| / mean |R|; no gradient reaches the real maps.

    The division makes layers comparable: a layer counts 0 where its maps are equal and 1 where G is 0, whatever the
    size of its values. The L1 distance of feature maps is that of HiFi-GAN's discriminator (Kong et al., NeurIPS 2020,
    section 2.3). Face-TTS (Lee et al., ICASSP 2023; `model/face_tts.py`) takes the layers of a frozen speaker network,
    and Bert-VITS2 (`losses.py`) the hidden states of WavLM. Neither of the two divides.

    Args:
        generated: L maps, `[B, C_l, frames_l]` each.
        real: L maps of the same sizes. Where the numbers of frames differ, the longer map is cut at its end.

    Returns:
        Scalar >= 0.

    Raises:
        ValueError: there is no layer, or the maps do not match.

    >>> float(feature_loss([torch.tensor([[[1.0, 3.0]]])], [torch.tensor([[[1.0, 2.0, 9.0]]])]))  # (0 + 1) / (1 + 2)
    0.3333333432674408
    """
    if not generated or len(generated) != len(real):
        raise ValueError(f"expected the same number of layers, at least one, got {len(generated)} and {len(real)}")
    return torch.stack([_layer(*pair) for pair in zip(generated, real, strict=True)]).mean()


def _layer(generated: Tensor, real: Tensor) -> Tensor:
    if generated.ndim != 3 or generated.shape[:2] != real.shape[:2]:
        msg = f"expected maps [B, C, frames] of one size, got {list(generated.shape)} and {list(real.shape)}"
        raise ValueError(msg)
    frames = min(generated.shape[-1], real.shape[-1])
    target = real[..., :frames].detach()
    return (generated[..., :frames] - target).abs().mean() / target.abs().mean().clamp_min(_SMALLEST)


class FeatureLoss(nn.Module):
    """Mean L1 distance between an encoder's feature maps of the generated slice and of the real slice.

    The real side is always the slice at the same place, whatever `reference.source` says, for frames are compared one
    by one.
    """

    compares: Compared = "features"
    evidence = (
        "Ablation (docs/ablation.md), speech from text, feature maps of campplus alone: +0.079 by campplus, "
        "+0.059 by ge2e, +0.029 by dvector, of which the last is not certain. Beside the cosines of ge2e and "
        "campplus they gained nothing: +0.078 by dvector, which took no part, and +0.080 without them."
    )

    def forward(
        self,
        generated: Sequence[Tensor],
        reference: Sequence[Tensor],
        speaker_ids: Tensor | None = None,
        prototypes: Tensor | None = None,
    ) -> Tensor:
        """Compare maps `[B, C, frames]` of generated and of real slices: scalar, in float32 even under autocast.

        Raises:
            ValueError: there is no layer, or the maps do not match.
        """
        if isinstance(generated, Tensor) or isinstance(reference, Tensor):
            raise ValueError("expected lists of feature maps [B, C, frames], got a tensor")
        device = generated[0].device.type if generated else "cpu"
        with torch.autocast(device, enabled=False):
            return feature_loss([layer.float() for layer in generated], [layer.float() for layer in reference])
