"""What must hold before step 1: the loss reaches the generator, and no optimizer can reach the encoders."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from coqui_scl_plugin.consistency import SpeakerConsistency
from coqui_scl_plugin.encoders.frontends import AtRates
from coqui_scl_plugin.errors import PreflightError
from coqui_scl_plugin.references.sources import RealSpeech


def check_optimizers(frozen: Mapping[str, nn.Module], optimizers: Iterable[torch.optim.Optimizer]) -> None:
    """No tensor of a frozen encoder may be in an optimizer. Raises PreflightError."""
    for index, optimizer in enumerate(optimizers):
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        for name, encoder in frozen.items():
            if caught := [key for key, p in encoder.named_parameters() if id(p) in held]:
                msg = (
                    f"Optimizer {index} holds {len(caught)} parameters of the frozen speaker encoder {name!r}, the "
                    f"first is {caught[0]}. Build optimizers with SclVits.get_optimizer, or leave these parameters out."
                )
                raise PreflightError(msg)


def check_frozen(frozen: Mapping[str, nn.Module]) -> None:
    """Frozen encoders must be in eval mode, and no parameter may ask for a gradient. Raises PreflightError."""
    for name, encoder in frozen.items():
        if training := [key or "itself" for key, module in encoder.named_modules() if module.training]:
            msg = f"The frozen speaker encoder {name!r} is in train mode ({training[0]}): its statistics would drift."
            raise PreflightError(msg)
        if asking := [key for key, p in encoder.named_parameters() if p.requires_grad]:
            msg = f"The frozen speaker encoder {name!r} has parameters that ask for a gradient: {asking[0]}."
            raise PreflightError(msg)


def check_recordings(consistency: SpeakerConsistency, samples: Sequence[Mapping[str, Any]] | None) -> None:
    """References that come from all recordings need the list of them. Raises PreflightError."""
    if consistency.needs_recordings and not samples:
        msg = (
            "The references, prototypes or calibration of this config come from all recordings of the data set, but "
            "the trainer was given no train_samples. Pass them to the Trainer, or use reference.source = 'utterance', "
            "prototypes = 'batch' and calibrate = false."
        )
        raise PreflightError(msg)


def check_speakers(loss: nn.Module, speakers: Sequence[str], batch_size: int) -> None:
    """A loss that needs several speakers in a batch must be able to get them. Raises PreflightError."""
    needed = getattr(loss, "min_speakers", 1)
    if len(set(speakers)) < needed:
        msg = (
            f"{type(loss).__name__} needs at least {needed} speakers, the training data has {len(set(speakers))}: it "
            "would have no negatives and teach nothing. Use the loss 'cosine', or add speakers."
        )
        raise PreflightError(msg)
    if batch_size < needed and not getattr(loss, "wants_prototypes", False):
        msg = (
            f"{type(loss).__name__} needs at least {needed} speakers in a batch, batch_size is {batch_size}. Raise it."
        )
        raise PreflightError(msg)


def check_names(samples: Sequence[Mapping[str, Any]]) -> None:
    """Recordings must have names of their own, or one would be compared with another. Raises PreflightError."""
    files: dict[str, str] = {}
    for sample in samples:
        name, file = sample["audio_unique_name"], str(sample["audio_file"])
        if files.setdefault(name, file) != file:
            msg = (
                f"{files[name]} and {file} share the name {name!r}. Give each entry of `datasets` its own dataset_name."
            )
            raise PreflightError(msg)


def _gradient_norm(loss: Tensor, waveform: Tensor, alias: str) -> float:
    remedy = (
        "The generator would learn nothing from it. Its forward must be differentiable: no torch.no_grad, no detach, "
        "no numpy or ONNX inside."
    )
    gradient = (
        torch.autograd.grad(loss, waveform, retain_graph=True, allow_unused=True)[0] if loss.requires_grad else None
    )
    if gradient is None:
        raise PreflightError(
            f"No gradient reaches the generated waveform through the speaker encoder {alias!r}. {remedy}"
        )
    norm = float(gradient.norm())
    if norm != norm or norm == float("inf"):
        msg = (
            f"The gradient at the generated waveform through the speaker encoder {alias!r} is not finite. Look for a "
            "square root, logarithm or division at 0 in the encoder or the loss."
        )
        raise PreflightError(msg)
    if norm == 0.0:
        msg = f"The gradient at the generated waveform through the speaker encoder {alias!r} is 0. {remedy}"
        raise PreflightError(msg)
    return norm


def check_gradient(consistency: SpeakerConsistency, generated: Tensor, real: RealSpeech) -> dict[str, float]:
    """The gradient of the loss must reach the generated waveform through each training encoder, finite and not 0.

    Args:
        consistency: The loss with its encoders.
        generated: `[B, T]`, from the generator, with its graph.
        real: The real half of the same batch.

    Returns:
        The norm of that gradient by alias.

    Raises:
        PreflightError: it does not; the message names the encoder and says why that may be.
    """
    if not generated.requires_grad:
        msg = "The generated waveform needs no gradient: the whole generator is frozen, and the loss can teach nothing."
        raise PreflightError(msg)
    norms = {}
    for alias in consistency.training_aliases:
        with torch.autocast(generated.device.type, enabled=False):
            heard = AtRates(generated, real.segments.sample_rate)
            loss = consistency.member_loss(alias, *consistency.embed_pair(alias, heard, real), real)
        norms[alias] = _gradient_norm(loss, generated, alias)
    return norms
