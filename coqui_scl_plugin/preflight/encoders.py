"""Checks of the speaker encoders: nothing moves them, and the gradient passes through them."""

import itertools
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from coqui_scl_plugin.consistency.gradient_probe import (
    ENCODER_FAILURES,
    REAL_SPEECH,
    GradientProbe,
    describe_error,
)
from coqui_scl_plugin.encoders.audio import ResampledAudio
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.errors import PreflightError, SclError
from coqui_scl_plugin.freeze.drift_guard import held
from coqui_scl_plugin.freeze.policies import undoes_changes
from coqui_scl_plugin.preflight.facts import RunFacts
from coqui_scl_plugin.preflight.report import Finding, NotMeasuredError, warning
from coqui_scl_plugin.utils.buffers import buffers_put_back
from coqui_scl_plugin.utils.fingerprint import copied_tensors, moved_tensors, named_tensors

_SAME_NETWORK_COSINE = 0.9
"""Mean over segments: one network behind two front ends gives 0.96 and more, two networks give about 0."""
_COMPARED = 2
"""Segments of generated speech, and as many of real speech, by which encoders are compared."""
_DIFFERENTIABLE = (
    "The generator would learn nothing from it. The encoder's forward must be differentiable: no torch.no_grad, no "
    "detach, no numpy or ONNX inside."
)


def _strictly_frozen(facts: RunFacts) -> dict[str, nn.Module]:
    """Return the frozen encoders, without those whose policy undoes what others do to them."""
    policies = facts.consistency.encoders.policies if facts.consistency is not None else {}
    return {
        name: encoder
        for name, encoder in facts.frozen_encoders.items()
        if name not in policies or not undoes_changes(policies[name])
    }


def check_optimizers(facts: RunFacts) -> list[Finding]:
    """No parameter of a frozen encoder is in an optimizer or requires a gradient."""
    findings = []
    for name, encoder in _strictly_frozen(facts).items():
        for index, optimizer in enumerate(facts.optimizers.values()):
            own = held(optimizer)
            if caught := [key for key, p in encoder.named_parameters() if id(p) in own]:
                found = (
                    f"Optimizer {index} holds {len(caught)} parameters of the frozen speaker encoder {name!r}, the "
                    f"first of them {caught[0]}."
                )
                change = "Build optimizers with SclVits.get_optimizer, or exclude these parameters."
                findings.append(Finding(found, change))
        if asking := [key for key, p in encoder.named_parameters() if p.requires_grad]:
            found = f"The frozen speaker encoder {name!r} has parameters that require a gradient, such as {asking[0]}."
            findings.append(Finding(found, "Find the code that sets requires_grad after the policy was applied."))
    return findings


def check_policies(facts: RunFacts) -> list[Finding]:
    """No encoder trains, and each has weights that the guard can watch."""
    if facts.consistency is None:
        return []
    findings = []
    for alias, encoder in facts.consistency.encoders.segment_encoders.items():
        if facts.consistency.encoders.policies[alias].trainable:
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
                    f"The speaker encoder {alias!r} shows no parameters or buffers, so its weights can be "
                    "neither frozen nor watched.",
                    "Make its networks attributes of type nn.Module, not entries of a list, a dict or a plain object.",
                )
            )
    return findings


def _embed_noise(encoder: SegmentEncoder) -> None:
    device = next((t.device for t in named_tensors(encoder).values()), torch.device("cpu"))
    noise = 0.1 * torch.randn(2, encoder.min_samples, device=device)
    try:
        encoder(noise.clone().requires_grad_())  # as in a training step
    except ENCODER_FAILURES:  # the check of the gradient reports it, where one is needed
        with torch.no_grad():
            encoder(noise)


def _drifting(name: str, module: nn.Module) -> list[Finding]:
    parts = [f"its layer {key}" if key else "itself" for key, part in module.named_modules() if part.training]
    if not parts:
        return []
    found = (
        f"The frozen speaker encoder {name!r} switches to train mode ({parts[-1]}) with the model: its statistics "
        "would drift, and dropout would blur its embeddings."
    )
    return [Finding(found, "Its train(mode) and its forward must leave it in eval mode.")]


def check_eval_mode(facts: RunFacts) -> list[Finding]:
    """Each frozen encoder stays in eval mode when the model trains, and embedding speech does not change it."""
    facts.train_mode()
    findings = []
    for name, encoder in _strictly_frozen(facts).items():
        with buffers_put_back([encoder]):
            findings += _moved_by_embedding(name, encoder)
    return findings


def _moved_by_embedding(name: str, encoder: nn.Module) -> list[Finding]:
    before = copied_tensors(encoder)
    if isinstance(encoder, SegmentEncoder):
        try:
            _embed_noise(encoder)
        except ENCODER_FAILURES as error:
            return [_fails(name, "noise", describe_error(error))]
    findings = _drifting(name, encoder)
    if moved := moved_tensors(encoder, before):
        found = f"Embedding speech changes the frozen speaker encoder {name!r}: {moved[0]} and {len(moved) - 1} others."
        change = "Its forward must not update statistics: no batch_norm with training=True, no counters."
        findings.append(Finding(found, change))
    return findings


def _fails(name: str, waveform: str, failure: str) -> Finding:
    return Finding(f"The speaker encoder {name!r} fails on {waveform}: {failure}.", "Repair its forward.")


def check_references(facts: RunFacts) -> list[Finding]:
    """The data suffices for the references, prototypes and calibration of the config."""
    try:
        facts.prepare_references()
    except PreflightError as error:
        return [Finding(str(error), "")]
    except SclError:  # of a file that the config names
        raise
    except ENCODER_FAILURES as error:
        return [Finding(f"A speaker encoder fails on the recordings: {describe_error(error)}.", "Repair its forward.")]
    return []


def check_gradient(facts: RunFacts) -> list[Finding]:
    """The gradient of the loss reaches the waveform through each training encoder, finite and not 0."""
    if facts.consistency is None:
        return []
    if not facts.generate()[0].requires_grad:
        if any(step <= facts.config.scl.start_step for step in facts.unfreezes_at):
            raise NotMeasuredError(
                "All that makes the waveform is frozen until the loss begins; training checks it then."
            )
        found = "The generated waveform needs no gradient: all that makes it is frozen, so the loss can teach nothing."
        return [Finding(found, "Remove a rule from scl.freeze.modules, or switch the gradients of a module on.")]
    return [
        finding
        for alias, probes in facts.probe_gradients().items()
        for probe in probes
        if (finding := _gradient_finding(alias, probe)) is not None
    ]


def _gradient_finding(alias: str, probe: GradientProbe) -> Finding | None:
    """Return what is wrong with one probe, if anything is."""
    through = f"through the speaker encoder {alias!r}" + (f" and its loss {probe.loss}" if probe.loss else "")
    if probe.reference_failure:
        return Finding(probe.reference_failure, "")
    if probe.failure and probe.waveform == REAL_SPEECH:
        return _fails(alias, probe.waveform, probe.failure)
    if probe.failure:
        found = f"The speaker encoder {alias!r} fails on {probe.waveform} that carries a gradient: {probe.failure}."
        return Finding(found, _DIFFERENTIABLE)
    if probe.gradient is None:
        return Finding(f"No gradient reaches {probe.waveform} {through}.", _DIFFERENTIABLE)
    if not probe.gradient.isfinite().all():
        change = "Look for a square root, logarithm or division at 0 in the encoder or the loss."
        return Finding(f"The gradient at {probe.waveform} {through} is not finite.", change)
    if not probe.gradient.any():
        return Finding(f"The gradient at {probe.waveform} {through} is 0.", _DIFFERENTIABLE)
    return None


def check_holdout(facts: RunFacts) -> list[Finding]:
    """Held-out encoders are different networks from the training encoders."""
    consistency = facts.consistency
    if consistency is None or not consistency.encoders.holdout_aliases:
        return []
    generated, real = facts.generate()
    rate = real.segments.sample_rate
    speech = torch.cat([generated.detach()[:_COMPARED], real.segments.at(rate)[:_COMPARED]])
    audio = ResampledAudio(speech[:, : max(1, round(facts.segment_seconds * rate))], rate)  # the rest repeats it
    embedded, findings = {}, []
    held_out = [consistency.encoders[alias] for alias in consistency.encoders.holdout_aliases]
    with torch.no_grad(), buffers_put_back(consistency.encoders.values()):
        for alias, encoder in consistency.encoders.segment_encoders.items():
            if alias not in consistency.encoders.holdout_aliases and not _may_be_one_of(encoder, held_out):
                continue  # another network; the check of the gradient has run it
            try:
                embedded[alias] = encoder(audio.at(encoder.sample_rate))
            except ENCODER_FAILURES as error:
                findings.append(_fails(alias, "generated and real speech", describe_error(error)))
    for held_out_alias, alias in itertools.product(
        consistency.encoders.holdout_aliases, consistency.encoders.training_aliases
    ):
        if not {held_out_alias, alias} <= embedded.keys():
            continue
        likeness = _likeness(embedded[held_out_alias], embedded[alias])
        if likeness > _SAME_NETWORK_COSINE:
            found = (
                f"The held-out encoder {held_out_alias!r} gives the same embeddings as the training encoder {alias!r} "
                f"(mean cosine {likeness:.3f}): it is the same network in another file, so it is not held out."
            )
            findings.append(Finding(found, "Choose another one for scl.holdout."))
    return findings


def _may_be_one_of(encoder: SegmentEncoder, others: Iterable[SegmentEncoder]) -> bool:
    """Tell whether an encoder's embeddings are, as it says, as wide as those of one of the others."""
    return any(encoder.encoder.embedding_dim == other.encoder.embedding_dim for other in others)


def _likeness(one: Tensor, other: Tensor) -> float:
    """Return the mean cosine of embeddings of the same speech; about 0 for networks that were trained apart."""
    return float(cosine_similarity(one, other).mean()) if one.shape == other.shape else 0.0
