"""Conformance tests of a speaker encoder; `plugins/hookspecs.py` has the contract."""

import copy
import itertools
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from coqui_scl_plugin.plugins import registry
from coqui_scl_plugin.plugins.optional import offers_features
from coqui_scl_plugin.testing.frozen_training import require_frozen
from coqui_scl_plugin.testing.running import Check, Factory, calling, require, run_checks
from coqui_scl_plugin.testing.slopes import slope_error
from coqui_scl_plugin.testing.speech import speech_like
from coqui_scl_plugin.utils.fingerprint import fingerprint, named_tensors

_ATTRIBUTES = {"sample_rate": "Hz", "embedding_dim": "values in an embedding", "min_samples": "samples"}
_SECONDS = 1.0
_QUIET_RMS = 1e-3  # -60 dBFS
_SAME = 1e-4
"""Largest difference of a value of two embeddings, of unit length, that is rounding."""
_NOT_DIFFERENTIABLE = (
    "The whole forward must be differentiable: no torch.no_grad, no inference mode, no detach, no numpy and no ONNX "
    "session, in the features too."
)


def says_what_it_takes(make: Factory) -> None:
    """Check `sample_rate`, `embedding_dim` and `min_samples`, and that torch sees the weights."""
    encoder = make()
    name = type(encoder).__name__
    require(isinstance(encoder, nn.Module), f"{name} must be an nn.Module.")
    for attribute, unit in _ATTRIBUTES.items():
        value = getattr(encoder, attribute, None)
        require(
            type(value) is int and value > 0,
            f"{name}.{attribute} = {value!r}: it must be a positive int, {unit}.",
        )
    require(
        bool(named_tensors(encoder)),
        f"{name} shows no parameters or buffers, so nothing can freeze or watch its weights: make its networks "
        "attributes of type nn.Module, not entries of a list, a dict or a plain object.",
    )


def gives_one_unit_vector_a_row(make: Factory) -> None:
    """Check shape, type and length of embeddings, and that voices differ."""
    encoder = _frozen(make)
    name = type(encoder).__name__
    for rows in (1, 3):
        embedding = _embed(encoder, _speech(encoder, rows), f"{rows} rows")
        require(
            embedding.shape == (rows, encoder.embedding_dim),
            f"{name} returned {list(embedding.shape)} for {rows} rows: expected {[rows, encoder.embedding_dim]}, "
            "that is [B, embedding_dim].",
        )
        require(embedding.dtype == torch.float32, f"{name} returned {embedding.dtype}: return float32.")
        lengths = embedding.norm(dim=1)
        require(
            bool((lengths - 1).abs().max() < _SAME),
            f"{name} returned vectors of length {lengths.min().item():.4g} to {lengths.max().item():.4g}: return unit "
            "vectors, by torch.nn.functional.normalize(embedding, dim=-1).",
        )
    one, other = _embed(encoder, _speech(encoder, 2), "2 rows")
    require(
        float(one @ other) < 1 - 1e-6,
        f"{name} gives two different voices the same embedding: it does not listen to its input.",
    )


def embeds_the_same_twice(make: Factory) -> None:
    """Check that neither a second call nor a second object embeds differently, by a single bit."""
    encoder, other = _frozen(make), _frozen(make)
    name, speech = type(encoder).__name__, _speech(encoder, 2)
    first, again = (_embed(encoder, speech, "the same speech twice") for _ in range(2))
    require(
        torch.equal(first, again),
        f"{name} embeds the same speech differently the second time, by {_difference(first, again)}: look for dropout, "
        "noise, or crops at random in eval mode.",
    )
    require(
        fingerprint(encoder) == fingerprint(other),
        f"two objects of {name} have different weights: load them from a file, or draw them from a seed. References "
        "that are kept between runs would be those of another encoder.",
    )


def embeds_a_row_alone_as_in_a_batch(make: Factory) -> None:
    """Check that the rows of a batch do not influence each other, and `embed_each` where it is offered."""
    encoder = _frozen(make)
    name, speech = type(encoder).__name__, _speech(encoder, 3)
    alone = torch.cat([_embed(encoder, row.unsqueeze(0), "one row") for row in speech])
    together = _embed(encoder, speech, "3 rows")
    require(
        _close(alone, together),
        f"{name} embeds a row alone and in a batch differently, by {_difference(alone, together)}: look for statistics "
        "over the batch, and for a dimension that is squeezed.",
    )
    if (embed_each := getattr(encoder, "embed_each", None)) is None:
        return
    lengths = [speech.shape[1], encoder.min_samples, (speech.shape[1] + encoder.min_samples) // 2]
    waveforms = [row[:length] for row, length in zip(speech, lengths, strict=True)]
    alone = torch.cat([_embed(encoder, waveform.unsqueeze(0), "one row") for waveform in waveforms])
    with torch.no_grad(), calling(encoder, "embed_each of waveforms of different lengths"):
        each = embed_each(waveforms)
    require(
        each.shape == alone.shape and _close(alone, each),
        f"embed_each of {name} gives other embeddings than forward gives for each waveform alone: it must not pad.",
    )


def sends_the_gradient_to_the_waveform(make: Factory) -> None:
    """Check that a gradient arrives in each row, also in quiet and half-silent speech, and is finite in silence."""
    encoder = _frozen(make)
    speech = _speech(encoder, 2)
    half = speech.clone()
    half[:, : speech.shape[1] // 2] = 0.0
    cases = {
        "speech": speech,
        "quiet speech (-60 dBFS)": _QUIET_RMS / speech.square().mean().sqrt() * speech,
        "half-silent speech": half,
    }
    name = type(encoder).__name__
    for case, waveform in cases.items():
        gradient = _gradient(encoder, waveform, case)
        silent = [row for row, norm in enumerate(gradient.norm(dim=1).tolist()) if norm == 0.0]
        require(
            not silent,
            f"the gradient of {name} at {case} is 0 in rows {silent}: look for thresholds, gates and clamps before the "
            "layers.",
        )
    _gradient(encoder, torch.zeros_like(speech), "silence")


def has_the_gradient_of_its_embedding(make: Factory) -> None:
    """Check the gradient against differences of embeddings, in float64 if the encoder computes in it."""
    encoder = _frozen(make)
    speech = _speech(encoder, 1, 0.0).double()
    double = _in_float64(encoder, speech)
    generator = torch.Generator().manual_seed(1)
    way = torch.randn(1, encoder.embedding_dim, generator=generator).double()

    def value(parts: Any) -> Tensor:
        embedding = encoder(parts[0].float()) if double is None else double(parts[0])
        return cosine_similarity(embedding.double(), way).sum()

    with calling(encoder, "the shortest waveform"):
        if double is None:  # too coarse for the small slope in a direction at random
            error = slope_error(value, [speech], torch.float32, directions=0)
        else:
            error = slope_error(value, [speech], torch.float64, directions=2)
    require(
        error < 0.05,
        f"the gradient of {type(encoder).__name__} at the waveform is off by {100 * error:.0f} % from the slopes that "
        f"small steps measure. {_NOT_DIFFERENTIABLE}",
    )


def takes_its_shortest_waveform(make: Factory) -> None:
    """Check embedding and gradient at exactly `min_samples`, to which a run tiles what is shorter."""
    encoder = _frozen(make)
    shortest = _speech(encoder, 2, 0.0)
    case = f"min_samples = {encoder.min_samples} samples"
    embedding, gradient = _embed(encoder, shortest, case), _gradient(encoder, shortest, case)
    name = type(encoder).__name__
    require(bool(embedding.isfinite().all()), f"{name} gives an embedding that is not finite with {case}: raise it.")
    require(bool((gradient.norm(dim=1) > 0).all()), f"{name} gives no gradient with {case}: raise it.")


def leaves_the_waveform_as_it_was(make: Factory) -> None:
    """Check that nothing is written to the waveform, which other encoders and the mel loss read after it."""
    encoder = _frozen(make)
    for rows, generated in itertools.product((1, 2), (False, True)):
        kept = _speech(encoder, rows)
        speech = kept.clone().requires_grad_(generated) * 1.0  # with its graph, as a generator makes it
        with calling(encoder, f"{rows} rows"):
            encoder(speech)
        require(
            speech.shape == kept.shape and torch.equal(speech, kept),
            f"{type(encoder).__name__} writes to the waveform: compute on copies, without methods that end in an "
            "underscore.",
        )


def stays_as_it_is_under_every_freezing_policy(make: Factory) -> None:
    """Check for each registered policy that freezes: no bit moves in training steps, no gradient is kept, no key saved.

    The encoder is passed as a run passes it. The gradient must still reach the waveform.
    """
    for policy_name, entry in registry.installed().freeze_policies.items():
        policy = entry.cls()
        if not policy.trainable:
            encoder = make()
            require_frozen(encoder, policy, _speech(encoder, 2), policy_name)


def gives_feature_maps_with_a_gradient(make: Factory) -> None:
    """Check `features` and `embed_with_features` where the encoder offers feature maps."""
    encoder = _frozen(make)
    if not offers_features(encoder):
        return
    name, speech = type(encoder).__name__, _speech(encoder, 2).requires_grad_()
    maps, longer = (_maps(encoder, waveform) for waveform in (speech, torch.cat([speech, speech], dim=1)))
    for index, (one, other) in enumerate(zip(maps, longer, strict=True)):
        where = f"map {index} of {name}"
        require(
            one.ndim == 3 and one.shape[0] == len(speech) and one.shape[:2] == other.shape[:2],
            f"{where} has the shapes {list(one.shape)}, and {list(other.shape)} for twice the samples: expected "
            "[B, C, frames], with frames last.",
        )
        require(
            other.shape[2] > one.shape[2],
            f"{where} has {one.shape[2]} frames for one length and {other.shape[2]} for twice as much: leave pooled "
            "values out.",
        )
        with calling(encoder, "the backward pass of its features"):
            (gradient,) = torch.autograd.grad(one.square().mean(), speech, retain_graph=True, allow_unused=True)
        require(
            gradient is not None and bool(gradient.isfinite().all() and (gradient.norm(dim=1) > 0).all()),
            f"{where} gives no finite gradient at the waveform. {_NOT_DIFFERENTIABLE}",
        )
    if (both := getattr(encoder, "embed_with_features", None)) is not None:
        with calling(encoder, "embed_with_features"):
            embedding, joint = both(speech)
            alone = encoder(speech)
        require(
            _close(embedding, alone)
            and len(joint) == len(maps)
            and all(torch.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in zip(joint, maps, strict=True)),
            f"embed_with_features of {name} gives something else than forward and features.",
        )


ENCODER_CHECKS: tuple[Check, ...] = (
    says_what_it_takes,
    gives_one_unit_vector_a_row,
    embeds_the_same_twice,
    embeds_a_row_alone_as_in_a_batch,
    sends_the_gradient_to_the_waveform,
    has_the_gradient_of_its_embedding,
    takes_its_shortest_waveform,
    leaves_the_waveform_as_it_was,
    stays_as_it_is_under_every_freezing_policy,
    gives_feature_maps_with_a_gradient,
)
"""All checks of a speaker encoder; each takes a factory."""


def check_encoder(make: Factory, *, skip: Collection[str] = ()) -> None:
    """Run all checks of a speaker encoder.

    Args:
        make: Returns a new encoder at each call, such as `MyEncoder` or `lambda: build_encoder("mine")`.
        skip: Names of checks that the encoder fails by design.

    Raises:
        AssertionError: some checks fail; the message says which and what to do.
        ValueError: `skip` names no check.
    """
    run_checks(ENCODER_CHECKS, make, skip)


# --- what the checks share --------------------------------------------------------------------------------------------


def _frozen(make: Factory) -> Any:
    """Return a new encoder as a frozen one is: in eval mode, no gradient for its weights."""
    return make().eval().requires_grad_(False)


def _speech(encoder: Any, rows: int, seconds: float = _SECONDS) -> Tensor:
    """Return `[rows, T]` at the encoder's rate, no shorter than it takes."""
    return speech_like(rows, max(encoder.min_samples, round(seconds * encoder.sample_rate)), encoder.sample_rate)


def _embed(encoder: Any, waveform: Tensor, case: str) -> Tensor:
    with torch.no_grad(), calling(encoder, case):
        embedding: Tensor = encoder(waveform)
    require(
        isinstance(embedding, Tensor),
        f"{type(encoder).__name__} returned {type(embedding).__name__} with {case}: return a tensor [B, "
        "embedding_dim].",
    )
    return embedding


def _gradient(encoder: Any, waveform: Tensor, case: str) -> Tensor:
    """Return the finite gradient of the cosine of each row's embedding with a direction of its own: `[B, T]`."""
    waveform = waveform.clone().requires_grad_()
    with calling(encoder, f"{case}, with a gradient"):
        embedding = encoder(waveform)
        way = torch.randn(embedding.shape, generator=torch.Generator().manual_seed(1))
        similarity = cosine_similarity(embedding, way).sum()
        found = torch.autograd.grad(similarity, waveform, allow_unused=True)[0] if similarity.requires_grad else None
    name = type(encoder).__name__
    require(found is not None, f"no gradient passes through {name} to the waveform. {_NOT_DIFFERENTIABLE}")
    gradient = torch.zeros_like(waveform) if found is None else found
    require(
        bool(gradient.isfinite().all()),
        f"the gradient of {name} at {case} is not finite: add a small number under each square root, and clamp before "
        "each logarithm and division, not after it.",
    )
    return gradient


def _in_float64(encoder: Any, speech: Tensor) -> Any:
    """Return a copy of the encoder in float64 if it takes and gives that; else None."""
    try:
        double = copy.deepcopy(encoder).double()
        embedding = double(speech)
    except (RuntimeError, TypeError, ValueError):  # such as constants in float32: the contract does not ask for float64
        return None
    return double if embedding.dtype == torch.float64 else None


def _maps(encoder: Any, waveform: Tensor) -> list[Tensor]:
    with calling(encoder, "features"):
        maps = encoder.features(waveform)
    require(
        isinstance(maps, list | tuple) and len(maps) > 0 and all(isinstance(one, Tensor) for one in maps),
        f"features of {type(encoder).__name__} must return a list of tensors [B, C, frames], at least one.",
    )
    return list(maps)


def _close(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() < _SAME)


def _difference(one: Tensor, other: Tensor) -> str:
    return f"up to {(one - other).abs().max().item():.1e}"
