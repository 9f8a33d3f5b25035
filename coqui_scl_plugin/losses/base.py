"""The contract of a loss, and what precedes each formula: checked shapes, no autocast, float32."""

import torch
from torch import Tensor, nn

from coqui_scl_plugin.losses.calibration import UNCALIBRATED, Calibration
from coqui_scl_plugin.losses.heard import Compared


class SpeakerConsistencyLoss(nn.Module):
    """A scalar that falls as generated embeddings approach the references of their speakers.

    Subclasses implement `compute`. Third parties need not use this class: any module with this `forward` works.
    """

    min_speakers = 1
    """Speakers that a batch (or, with `wants_prototypes`, the data set) must hold for the loss to teach anything."""
    wants_prototypes = False
    """Whether `forward` needs `prototypes`: the centroid of each speaker of the data set."""
    compares: Compared = "embeddings"
    """What `forward` takes: embeddings, or an encoder's feature maps."""
    wants_ceiling = False
    """Whether `set_ceiling` must be called: beyond that cosine with its reference, an item teaches nothing."""
    takes_calibration = False
    """Whether `set_calibration` has an effect, so that an ensemble may calibrate the loss."""
    calibration = UNCALIBRATED
    """Floor and ceiling with which the loss rescales its cosines; without effect until `set_calibration`."""

    def set_calibration(self, calibration: Calibration) -> None:
        """Compute in calibrated units from now on, in which cosines are 0 at the floor and 1 at the ceiling."""
        self.calibration = calibration

    @property
    def levels(self) -> Calibration:
        """The former name of `calibration`, which losses of older plugins read."""
        return self.calibration

    def set_levels(self, levels: Calibration) -> None:
        """Take a calibration under the former name, which losses of older plugins override."""
        self.set_calibration(levels)

    def forward(
        self,
        generated: Tensor,
        reference: Tensor,
        speaker_ids: Tensor | None = None,
        prototypes: Tensor | None = None,
    ) -> Tensor:
        """Compare embeddings, in float32 even under autocast.

        Args:
            generated: `[B, D]`, embeddings of generated speech.
            reference: `[B, D]`, embeddings of real speech of the same speakers. No gradient is needed.
            speaker_ids: `[B]`, integers that tell speakers apart. None: every item is a speaker of its own.
            prototypes: `[S, D]`, one embedding for each speaker, in the order of `speaker_ids`.

        Returns:
            Scalar, float32.

        Raises:
            ValueError: the shapes do not match.
        """
        if generated.ndim != 2 or generated.shape != reference.shape:
            msg = (
                f"expected two [B, D] embeddings of one shape, got {list(generated.shape)} and {list(reference.shape)}"
            )
            raise ValueError(msg)
        if speaker_ids is None:
            speaker_ids = torch.arange(len(generated), device=generated.device)
        if speaker_ids.shape != generated.shape[:1]:
            raise ValueError(f"expected {len(generated)} speaker_ids, got shape {list(speaker_ids.shape)}")
        with torch.autocast(generated.device.type, enabled=False):
            return self.compute(
                generated.float(),
                reference.float(),
                speaker_ids.to(generated.device),
                None if prototypes is None else prototypes.to(generated.device, torch.float32),
            )

    def compute(self, generated: Tensor, reference: Tensor, speaker_ids: Tensor, prototypes: Tensor | None) -> Tensor:
        """Compute the formula on checked float32 inputs; shapes as in `forward`."""
        raise NotImplementedError


def calibrate_loss(loss: nn.Module, calibration: Calibration) -> None:
    """Give a loss its calibration; losses of older plugins take it under the former name, `set_levels`."""
    take = getattr(loss, "set_levels", None) or loss.set_calibration
    take(calibration)  # type: ignore[operator]  # torch types a module's attributes as tensors or modules


def cosines(left: Tensor, right: Tensor) -> Tensor:
    """Return the cosine of every row of `left` `[B, D]` with every row of `right` `[S, D]`: `[B, S]`, in [-1, 1].

    >>> cosines(torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 3.0]])).tolist()
    [[1.0, 0.0]]
    """
    return (nn.functional.normalize(left, dim=-1) @ nn.functional.normalize(right, dim=-1).T).clamp(-1.0, 1.0)
