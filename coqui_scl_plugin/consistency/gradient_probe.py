"""Probes of the gradient that the loss sends to a waveform through each encoder, made before step 1."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from coqui_scl_plugin.consistency.term import SpeakerConsistency
from coqui_scl_plugin.encoders.audio import ResampledAudio
from coqui_scl_plugin.errors import PreflightError
from coqui_scl_plugin.losses.heard import Heard
from coqui_scl_plugin.references.sources import ReferenceBatch
from coqui_scl_plugin.utils.buffers import buffers_put_back

_QUIET_RMS = 1e-3  # -60 dBFS

REAL_SPEECH = "real speech"
"""Name of the waveform in a probe that fails on the reference."""

ENCODER_FAILURES = (
    RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError,
)  # fmt: skip
"""Errors that the forward of a third party's encoder may raise."""


@dataclass(frozen=True)
class GradientProbe:
    """The gradient at one waveform, through one encoder and the loss."""

    waveform: str
    """Name of the waveform, for messages."""
    loss: str = ""
    """Class of the loss, if it is one of several that the encoder has; empty for their sum."""
    gradient: Tensor | None = None
    """`[B, T]`; None if none arrived."""
    failure: str = ""
    """Why the encoder failed on the waveform or on the reference; empty if it did not."""
    reference_failure: str = ""
    """Why there is no reference to compare with; empty if there is one."""

    @property
    def norm(self) -> float:
        """Norm of the gradient; 0 if none arrived."""
        return 0.0 if self.gradient is None else float(self.gradient.norm())

    @property
    def arrives(self) -> bool:
        """Whether a gradient arrived that is finite and not 0."""
        return self.gradient is not None and bool(self.gradient.isfinite().all() and self.gradient.any())


def describe_error(error: Exception) -> str:
    """Return the message of an error without its full stop, or its repr if it has no message."""
    return str(error).strip().rstrip(".") or repr(error)


def probe_gradients(
    consistency: SpeakerConsistency, generated: Tensor, real: ReferenceBatch, step: int = 0
) -> dict[str, list[GradientProbe]]:
    """Probe each training encoder with the generated waveform, a quiet one and a half-silent one.

    Args:
        consistency: Encoders, references and loss.
        generated: `[B, T]`, with its graph.
        real: The real half of the batch.
        step: The training step.

    Returns:
        Probes by alias, up to the first whose gradient does not arrive; the first one is of `generated` itself. Quiet
        and half-silent waveforms share a batch at first, and have no probe here if the gradient arrives at each kind.
    """
    with buffers_put_back(consistency.encoders.values()):
        return {
            alias: list(_probe_encoder(consistency, alias, generated, real, step))
            for alias in consistency.encoders.training_aliases
        }


def _probe_encoder(
    consistency: SpeakerConsistency, alias: str, generated: Tensor, real: ReferenceBatch, step: int
) -> Iterator[GradientProbe]:
    try:
        reference = consistency.hear_real(alias, real, step)
    except PreflightError as error:
        yield GradientProbe(REAL_SPEECH, reference_failure=str(error))
        return
    except ENCODER_FAILURES as error:
        yield GradientProbe(REAL_SPEECH, failure=describe_error(error))
        return

    def probe(name: str, waveform: Tensor, term: int | None = None) -> GradientProbe:
        loss = "" if term is None else type(consistency.loss.terms(alias)[term]).__name__
        try:
            gradient = _gradient(consistency, alias, waveform, reference, real, step, term)
        except ENCODER_FAILURES as error:  # such as numpy on a tensor that requires a gradient
            return GradientProbe(name, loss, failure=describe_error(error))
        return GradientProbe(name, loss, gradient)

    for term in (None, *_several(consistency, alias)):
        yield (found := probe("the generated waveform", generated, term))
        if not found.arrives:
            return
    difficult = _difficult_waveforms(generated)
    together = probe("all of these in one batch", _in_turn(list(difficult.values())))
    if _arrives_in_each(together, len(difficult)):
        return
    for name, waveform in difficult.items():  # one by one, to say which it is
        yield (found := probe(name, waveform))
        if not found.arrives:
            return


def _several(consistency: SpeakerConsistency, alias: str) -> range:
    """Return the indices of an encoder's losses if there are several: in their sum, one would hide another."""
    count = len(consistency.loss.terms(alias))
    return range(count if count > 1 else 0)


def _difficult_waveforms(generated: Tensor) -> dict[str, Tensor]:
    """Return further waveforms that a gradient must reach, `[B, T]` each, by name."""
    samples = generated.detach()
    rms = samples.square().mean(dim=-1, keepdim=True).sqrt().clamp_min(1e-12)
    half_silent = samples.clone()
    half_silent[:, : samples.shape[1] // 2] = 0.0
    return {
        "a quiet segment (-60 dBFS)": (samples * (_QUIET_RMS / rms)).requires_grad_(),
        "a half-silent segment": half_silent.requires_grad_(),
    }


def _in_turn(waveforms: Sequence[Tensor]) -> Tensor:
    """Return a batch whose items are taken from each of several batches in turn, since a pass of each takes time."""
    chosen = [waveforms[item % len(waveforms)][item] for item in range(len(waveforms[0]))]
    return torch.stack(chosen).detach().requires_grad_()


def _arrives_in_each(probe: GradientProbe, count: int) -> bool:
    """Tell whether a gradient that is finite and not 0 arrived in each of `count` kinds of items, taken in turn."""
    if probe.gradient is None or not probe.arrives or len(probe.gradient) < count:
        return False
    return all(bool(probe.gradient[first::count].any()) for first in range(count))


def _gradient(
    consistency: SpeakerConsistency,
    alias: str,
    waveform: Tensor,
    reference: Heard,
    real: ReferenceBatch,
    step: int,
    term: int | None,
) -> Tensor | None:
    """Return the gradient of an encoder's loss, or of one of its losses, with no item beyond a ceiling."""
    with torch.autocast(waveform.device.type, enabled=False), consistency.loss.ceilings_lifted():
        heard = consistency.hear_generated(alias, ResampledAudio(waveform, real.segments.sample_rate))
        loss = consistency.member_loss(alias, heard, reference, real, step, term)
    if not loss.requires_grad:
        return None
    return torch.autograd.grad(loss, waveform, retain_graph=True, allow_unused=True)[0]
