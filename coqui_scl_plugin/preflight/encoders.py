"""Checks of the speaker encoders: nothing moves them, and the gradient comes through."""

import contextlib
import itertools
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from coqui_scl_plugin.consistency.term import SpeakerConsistency
from coqui_scl_plugin.encoders.audio import ResampledAudio
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.errors import PreflightError, SclError
from coqui_scl_plugin.freeze.drift_guard import held
from coqui_scl_plugin.freeze.policies import undoes_changes
from coqui_scl_plugin.preflight.facts import RunFacts
from coqui_scl_plugin.preflight.report import Finding, warning
from coqui_scl_plugin.references.sources import ReferenceBatch
from coqui_scl_plugin.utils.fingerprint import named_tensors, tensor_digests

_QUIET = 1e-3  # root mean square: -60 dBFS
_SAME = 0.9  # mean cosine: one network behind two front ends gives 0.96 and more, two networks give about 0
_FAILURES = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError)
"""What the forward of a third party's encoder may raise."""
_DIFFERENTIABLE = (
    "The generator would learn nothing from it. Its forward must be differentiable: no torch.no_grad, no detach, no "
    "numpy or ONNX inside."
)


def _strictly_frozen(setup: RunFacts) -> dict[str, nn.Module]:
    """The frozen encoders, without those whose policy undoes what others do to them."""
    policies = setup.consistency.policies if setup.consistency is not None else {}
    return {
        name: encoder
        for name, encoder in setup.frozen_encoders.items()
        if name not in policies or not undoes_changes(policies[name])
    }


def check_optimizers(setup: RunFacts) -> list[Finding]:
    """No tensor of a frozen encoder is in an optimizer, and none asks for a gradient."""
    findings = []
    for name, encoder in _strictly_frozen(setup).items():
        for index, optimizer in enumerate(setup.optimizers.values()):
            own = held(optimizer)
            if caught := [key for key, p in encoder.named_parameters() if id(p) in own]:
                found = (
                    f"Optimizer {index} holds {len(caught)} parameters of the frozen speaker encoder {name!r}, the "
                    f"first is {caught[0]}."
                )
                change = "Build optimizers with SclVits.get_optimizer, or leave these parameters out."
                findings.append(Finding(found, change))
        if asking := [key for key, p in encoder.named_parameters() if p.requires_grad]:
            found = f"The frozen speaker encoder {name!r} has parameters that ask for a gradient: {asking[0]}."
            findings.append(Finding(found, "Find what switches requires_grad on after the policy was applied."))
    return findings


def check_policies(setup: RunFacts) -> list[Finding]:
    """No encoder trains, and each has weights that can be watched."""
    if setup.consistency is None:
        return []
    findings = []
    for alias, encoder in setup.consistency.segment_encoders.items():
        if setup.consistency.policies[alias].trainable:
            findings.append(
                warning(
                    f"The policy of the speaker encoder {alias!r} lets it TRAIN: the loss can fall without teaching "
                    "the generator anything.",
                    'Use "policy": "frozen" for anything but a comparison.',
                )
            )
        if not named_tensors(encoder):
            findings.append(
                warning(
                    f"The speaker encoder {alias!r} shows no parameters or buffers: what it computes with can be "
                    "neither frozen nor watched.",
                    "Hold networks as attributes that are nn.Module, not in a list, a dict or a plain object.",
                )
            )
    return findings


def _hear(encoder: SegmentEncoder) -> None:
    device = next((t.device for t in named_tensors(encoder).values()), torch.device("cpu"))
    noise = 0.1 * torch.randn(2, encoder.min_samples, device=device)
    try:
        encoder(noise.clone().requires_grad_())  # as in a training step
    except _FAILURES:  # the check of the gradient says so, where there must be one
        with torch.no_grad():
            encoder(noise)


def _drifting(name: str, module: nn.Module) -> list[Finding]:
    parts = [f"its layer {key}" if key else "itself" for key, part in module.named_modules() if part.training]
    if not parts:
        return []
    found = (
        f"The frozen speaker encoder {name!r} is in train mode ({parts[-1]}) once the model is: its statistics would "
        "drift, and dropout would blur what it hears."
    )
    return [Finding(found, "Its train(mode) and its forward must leave it in eval mode.")]


def check_eval_mode(setup: RunFacts) -> list[Finding]:
    """Each frozen encoder stays in eval mode when the model trains, and hearing speech changes nothing in it."""
    setup.train_mode()
    findings = []
    for name, encoder in _strictly_frozen(setup).items():
        with _put_back([encoder]):
            findings += _moved_by_hearing(name, encoder)
    return findings


def _moved_by_hearing(name: str, encoder: nn.Module) -> list[Finding]:
    before = tensor_digests(encoder)
    if isinstance(encoder, SegmentEncoder):
        try:
            _hear(encoder)
        except _FAILURES as error:
            return [_fails(name, "noise", error)]
    findings = _drifting(name, encoder)
    if moved := [key for key, digest in tensor_digests(encoder).items() if before.get(key) != digest]:
        found = f"Hearing speech changes the frozen speaker encoder {name!r}: {moved[0]} and {len(moved) - 1} others."
        change = "Its forward must not update statistics: no batch_norm with training=True, no counters."
        findings.append(Finding(found, change))
    return findings


def _fails(name: str, what: str, error: Exception) -> Finding:
    return Finding(f"The speaker encoder {name!r} fails on {what}: {_said(error)}.", "Repair its forward.")


def _said(error: Exception) -> str:
    return str(error).strip().rstrip(".") or repr(error)


def check_references(setup: RunFacts) -> list[Finding]:
    """The data suffices for the references, the prototypes and the levels of the config."""
    try:
        setup.prepare_references()
    except PreflightError as error:
        return [Finding(str(error), "")]
    except SclError:  # of a file that the config names
        raise
    except _FAILURES as error:
        return [Finding(f"A speaker encoder fails on the recordings: {_said(error)}.", "Repair its forward.")]
    return []


@contextlib.contextmanager
def _put_back(encoders: Iterable[nn.Module]) -> Iterator[None]:
    """Undo what hearing speech does to buffers."""
    kept = [(buffer, buffer.clone()) for encoder in encoders for buffer in encoder.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, original in kept:
                buffer.copy_(original)


def _probes(generated: Tensor) -> dict[str, Tensor]:
    """Segments that the gradient must come through, `[B, T]` each: as generated, quiet, and half of it silent."""
    heard = generated.detach()
    level = heard.square().mean(dim=-1, keepdim=True).sqrt().clamp_min(1e-12)
    half_silent = heard.clone()
    half_silent[:, : heard.shape[1] // 2] = 0.0
    return {
        "the generated waveform": generated,
        "a log_level segment (-60 dBFS)": (heard * (_QUIET / level)).requires_grad_(),
        "a half-silent segment": half_silent.requires_grad_(),
    }


def _gradient(
    consistency: SpeakerConsistency, alias: str, waveform: Tensor, reference: Tensor, real: ReferenceBatch
) -> Tensor | None:
    encoder = consistency.segment_encoders[alias]
    with torch.autocast(waveform.device.type, enabled=False):
        embedded = encoder(ResampledAudio(waveform, real.segments.sample_rate).at(encoder.sample_rate))
        loss = consistency.member_loss(alias, embedded, reference, real)
    if not loss.requires_grad:
        return None
    return torch.autograd.grad(loss, waveform, retain_graph=True, allow_unused=True)[0]


def _gradient_findings(alias: str, what: str, gradient: Tensor | None) -> list[Finding]:
    through = f"through the speaker encoder {alias!r}"
    if gradient is None:
        return [Finding(f"No gradient reaches {what} {through}.", _DIFFERENTIABLE)]
    if not gradient.isfinite().all():
        change = "Look for a square root, logarithm or division at 0 in the encoder or the loss."
        return [Finding(f"The gradient at {what} {through} is not finite.", change)]
    if not gradient.any():
        return [Finding(f"The gradient at {what} {through} is 0.", _DIFFERENTIABLE)]
    return []


def check_gradient(setup: RunFacts) -> list[Finding]:
    """The gradient of the loss reaches the waveform through each training encoder, finite and not 0."""
    consistency = setup.consistency
    if consistency is None:
        return []
    generated, real = setup.generate()
    if not generated.requires_grad:
        found = "The generated waveform needs no gradient: all that makes it is frozen, and the loss can teach nothing."
        return [Finding(found, "Leave a module out of scl.freeze.modules, or switch its gradients on.")]
    findings = []
    with _put_back(consistency.encoders.values()):
        for alias in consistency.training_aliases:
            findings += _gradient_through(setup, consistency, alias, generated, real)
    return findings


def _gradient_through(
    setup: RunFacts, consistency: SpeakerConsistency, alias: str, generated: Tensor, real: ReferenceBatch
) -> list[Finding]:
    """What is wrong with the first of the probes that do not come through."""
    try:
        reference = consistency.references.embed(alias, consistency.segment_encoders[alias], real)
    except PreflightError as error:
        return [Finding(str(error), "")]
    except _FAILURES as error:
        return [_fails(alias, "real speech", error)]
    for what, waveform in _probes(generated).items():
        try:
            gradient = _gradient(consistency, alias, waveform, reference, real)
        except _FAILURES as error:  # such as numpy on a tensor that carries a gradient
            found = f"The speaker encoder {alias!r} fails on {what} that carries a gradient: {_said(error)}."
            return [Finding(found, _DIFFERENTIABLE)]
        if wrong := _gradient_findings(alias, what, gradient):
            return wrong
        if gradient is not None and waveform is generated:
            setup.gradient_norms[alias] = float(gradient.norm())
    return []


def check_holdout(setup: RunFacts) -> list[Finding]:
    """Held-out encoders hear other things in speech than training encoders do."""
    consistency = setup.consistency
    if consistency is None or not consistency.holdout:
        return []
    generated, real = setup.generate()
    rate = real.segments.sample_rate
    heard = ResampledAudio(torch.cat([generated.detach(), real.segments.at(rate)]), rate)
    embedded, findings = {}, []
    with torch.no_grad(), _put_back(consistency.encoders.values()):
        for alias, encoder in consistency.segment_encoders.items():
            try:
                embedded[alias] = encoder(heard.at(encoder.sample_rate))
            except _FAILURES as error:
                findings.append(_fails(alias, "generated and real speech", error))
    for held_out, alias in itertools.product(consistency.holdout, consistency.training_aliases):
        if not {held_out, alias} <= embedded.keys():
            continue
        likeness = _likeness(embedded[held_out], embedded[alias])
        if likeness > _SAME:
            found = (
                f"The held-out encoder {held_out!r} gives the embeddings of the training encoder {alias!r} (mean "
                f"cosine {likeness:.3f}): it is the same network in another file, and must take no part in training."
            )
            findings.append(Finding(found, "Choose another one for scl.holdout."))
    return findings


def _likeness(one: Tensor, other: Tensor) -> float:
    """Mean cosine of the embeddings of the same speech; about 0 for networks that were trained apart."""
    return float(cosine_similarity(one, other).mean()) if one.shape == other.shape else 0.0
