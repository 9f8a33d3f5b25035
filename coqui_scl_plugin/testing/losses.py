"""Conformance tests of a loss; `plugins/hookspecs.py` has the contract."""

import copy
import io
import itertools
import math
from collections.abc import Collection
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from coqui_scl_plugin.losses.base import calibrate_loss
from coqui_scl_plugin.losses.calibration import Calibration
from coqui_scl_plugin.plugins.optional import (
    compares_features,
    speakers_needed,
    takes_calibration,
    wants_ceiling,
    wants_prototypes,
)
from coqui_scl_plugin.testing.loss_batches import (
    Batch,
    batch_of,
    built,
    gradient_of,
    norm_of,
    set_ceiling,
    set_step,
    value_of,
)
from coqui_scl_plugin.testing.running import Check, Factory, calling, require, run_checks
from coqui_scl_plugin.testing.slopes import slope_error

_USUAL = "an ordinary batch"
_LATE_STEP = 100_000
_CALIBRATION = Calibration(0.3, 0.7)


def returns_a_float32_scalar(make: Factory) -> None:
    """Check that the value is a finite float32 scalar, at step 0 and late in a run."""
    loss = built(make)
    for step in (0, _LATE_STEP):
        set_step(loss, step)
        value = value_of(loss, batch_of(loss), f"{_USUAL} at step {step}")
        _require_float32(loss, value, f"{_USUAL} at step {step}")
        require(bool(value.isfinite()), f"{type(loss).__name__} gives {value.item()} with {_USUAL} at step {step}.")


def teaches_with_the_speakers_it_needs(make: Factory) -> None:
    """Check that a gradient arrives as soon as a batch holds as many speakers as `min_speakers` says."""
    loss = built(make)
    needed = 1 if wants_prototypes(loss) else speakers_needed(loss)
    _, gradient = gradient_of(loss, batch_of(loss, [*range(needed)] * 2), f"a batch of {needed} speakers")
    require(
        norm_of(gradient) > 0,
        f"{type(loss).__name__} gives no gradient with a batch of {needed} speakers, and says that it needs no more. "
        "If it compares items with those of other speakers, set min_speakers = 2, so that a run in which every "
        "batch is like that is refused before step 1; otherwise look for a clamp or a detach.",
    )


def falls_as_generated_speech_nears_its_references(make: Factory) -> None:
    """Check that steps down the gradient lower the value, and bring generated embeddings nearer to their references."""
    loss = built(make)
    batch = batch_of(loss)
    first, _ = gradient_of(loss, batch, _USUAL)
    moved = [part.clone() for part in batch.generated]
    length = norm_of(moved)
    for _ in range(20):
        _, gradient = gradient_of(loss, batch.with_sides(moved, batch.reference), "a step down the gradient")
        size = norm_of(gradient)
        if size > 0:
            moved = [part - 0.02 * length / size * way for part, way in zip(moved, gradient, strict=True)]
    name, last = type(loss).__name__, value_of(loss, batch.with_sides(moved, batch.reference), _USUAL)
    require(
        bool(last < first),
        f"{name} is {first.item():.4g} before and {last.item():.4g} after 20 steps down its gradient: it must fall. "
        "Compare the gradient with the formula, and look for a wrong sign.",
    )
    if not compares_features(loss):
        before, after = (_similarity(parts, batch) for parts in (batch.generated, moved))
        require(
            after > before + 0.01,
            f"20 steps down the gradient of {name} bring the mean cosine of generated embeddings and their references "
            f"from {before:.3f} to {after:.3f}: it must rise. Look for a wrong sign, or a reference of another item.",
        )


def has_the_gradient_of_its_value(make: Factory) -> None:
    """Check the gradient against differences of values, in float64 if the loss computes in it."""
    loss = built(make)
    batch, double = batch_of(loss), _in_float64(loss)

    def value(parts: object) -> Tensor:
        given = batch.to(torch.float64).with_sides(parts, [p.double() for p in batch.reference])  # type: ignore[arg-type]
        if double is not None:
            return value_of(copy.deepcopy(double), given, "embeddings in float64")
        return value_of(copy.deepcopy(loss), given.to(torch.float32), _USUAL)

    computed_in = torch.float32 if double is None else torch.float64
    error = slope_error(value, [part.double() for part in batch.generated], computed_in)
    require(
        error < 0.02,
        f"the gradient of {type(loss).__name__} is off by {100 * error:.0f} % from the slopes that small steps "
        "measure: look for detach, torch.no_grad, rounding, or a backward of its own. If a part of the formula is "
        "to have no gradient, skip this check.",
    )


def is_finite_at_edges(make: Factory) -> None:
    """Check value and gradient where embeddings equal or oppose their references, or are 0."""
    loss = built(make)
    for case, batch in batch_of(loss).edges().items():
        _require_finite(loss, batch, case)


def computes_in_float32_under_autocast(make: Factory) -> None:
    """Check that mixed precision changes neither the value nor its type."""
    loss = built(make)
    batch = batch_of(loss)
    plain = value_of(loss, batch, _USUAL)
    for dtype in (torch.bfloat16, torch.float16):
        case = f"autocast to {_named(dtype)}"
        with torch.autocast("cpu", dtype=dtype):
            value, gradient = gradient_of(loss, batch, case)
        _require_float32(loss, value, case)
        close = torch.allclose(value, plain, rtol=1e-4, atol=1e-5) and all(bool(g.isfinite().all()) for g in gradient)
        require(
            close,
            f"{type(loss).__name__} is {plain.item():.6g}, but {value.item():.6g} under {case}: compute within "
            "`with torch.autocast(generated.device.type, enabled=False)`, or derive from SpeakerConsistencyLoss.",
        )


def takes_embeddings_in_half_precision(make: Factory) -> None:
    """Check that embeddings in bfloat16 and float16 give a finite float32 value and a finite gradient."""
    loss = built(make)
    batch = batch_of(loss)
    cases = {_USUAL: batch} | {case: edge for case, edge in batch.edges().items() if "0" not in case}
    for dtype in (torch.bfloat16, torch.float16):
        for case, edge in cases.items():
            _require_finite(loss, edge.to(dtype), f"{case}, in {_named(dtype)}")


def takes_small_batches(make: Factory) -> None:
    """Check batches of one item, of one speaker, and without `speaker_ids`: the last of an epoch may be such."""
    loss = built(make)
    _require_finite(loss, batch_of(loss, [0]), "a batch of one item")
    _require_finite(loss, batch_of(loss, [1] * 4), "a batch of one speaker")
    _require_finite(loss, batch_of(loss, [0, 1, 1, 1]), "a batch in which one speaker has a single item")
    if not wants_prototypes(loss):
        _require_finite(loss, replace(batch_of(loss), speaker_ids=None), "speaker_ids = None")


def takes_any_speaker_ids(make: Factory) -> None:
    """Check that `speaker_ids` only tell speakers apart; with `wants_prototypes` they are rows, and are not checked."""
    loss = built(make)
    if wants_prototypes(loss):
        return
    batch = batch_of(loss)
    known = value_of(loss, batch, _USUAL)
    other = replace(batch, speaker_ids=None if batch.speaker_ids is None else 900_001 - 1000 * batch.speaker_ids)
    value = value_of(loss, other, "speaker_ids that are large integers")
    require(
        torch.allclose(value, known, rtol=1e-4, atol=1e-6),
        f"{type(loss).__name__} is {known.item():.6g}, and {value.item():.6g} with other integers for the same "
        "speakers: use speaker_ids only to tell whether two items are of one speaker, not as rows or as an order.",
    )


def joins_the_batches_of_several_processes(make: Factory) -> None:
    """Check that processes which share a batch compute the gradient that one process computes.

    Each of them passes the loss the embeddings of all, with a gradient to its own alone, and with random numbers of its
    own; see `consistency/joint_batch.py`. Feature maps are not gathered, so a loss of them must be a mean over items.
    """
    loss = built(make)
    batch = batch_of(loss)
    if compares_features(loss):
        _check_mean_over_items(loss, batch)
        return
    state = copy.deepcopy(loss.state_dict())
    value, (gradient,) = gradient_of(loss, batch, _USUAL)
    generated, name = batch.generated[0], type(loss).__name__
    bounds = [0, 3, len(generated)]
    for rank, (first, last) in enumerate(itertools.pairwise(bounds)):
        process = built(make)
        process.load_state_dict(state)
        own = generated[first:last].clone().requires_grad_()
        joint = [torch.cat([generated[:first], own, generated[last:]])]
        case = f"the joint batch of process {rank} of 2"
        found = value_of(process, batch.with_sides(joint, batch.reference), case, seed=rank)
        (own_gradient,) = torch.autograd.grad(found, own)
        same = torch.allclose(found, value, rtol=1e-4, atol=1e-6)
        same = same and torch.allclose(own_gradient, gradient[first:last], rtol=1e-3, atol=1e-5 * norm_of([gradient]))
        require(
            same,
            f"{name} gives process {rank} of 2 another value ({found.item():.6g}) or gradient than a single process "
            f"has ({value.item():.6g}). All processes must compute the same from the same batch: draw random numbers "
            "from a torch.Generator that set_step seeds, and treat items with and without a gradient alike.",
        )


def keeps_its_state_in_the_state_dict(make: Factory) -> None:
    """Check that a new loss goes on where a checkpoint of another one ended."""
    loss = built(make)
    batch, name = batch_of(loss), type(loss).__name__
    for step in range(3):
        set_step(loss, step)
        value = value_of(loss, batch, _USUAL)
        if weights := [parameter for parameter in loss.parameters() if parameter.requires_grad]:
            gradients = torch.autograd.grad(value, weights, allow_unused=True)
            with torch.no_grad():
                for weight, gradient in zip(weights, gradients, strict=True):
                    weight.sub_(0.1 if gradient is None else 0.1 * gradient)
    other = built(make)
    with calling(loss, "its state dict saved and loaded with weights_only=True"):
        file = io.BytesIO()
        torch.save(loss.state_dict(), file)
        file.seek(0)
        other.load_state_dict(torch.load(file, weights_only=True))
    for one in (loss, other):
        set_step(one, 3)
    ended, went_on = (value_of(one, batch, "the step after a checkpoint") for one in (loss, other))
    require(
        torch.equal(ended, went_on),
        f"{name} gives {ended.item():.6g} where it went on and {went_on.item():.6g} after its state dict was loaded "
        "into a new one, so a continued run would differ. Register what it learns or remembers as parameters or "
        "buffers, and draw random numbers from a torch.Generator that set_step seeds.",
    )


def leaves_its_inputs_as_they_were(make: Factory) -> None:
    """Check that nothing is written to embeddings, feature maps, `speaker_ids` or prototypes."""
    loss = built(make)
    batch = batch_of(loss)
    kept = copy.deepcopy(batch)
    value_of(loss, batch, _USUAL)
    pairs = [*zip((*batch.generated, *batch.reference), (*kept.generated, *kept.reference), strict=True)]
    for one, other in ((batch.speaker_ids, kept.speaker_ids), (batch.prototypes, kept.prototypes)):
        pairs += [(one, other)] if one is not None and other is not None else []
    require(
        all(torch.equal(one, other) for one, other in pairs),
        f"{type(loss).__name__} writes to its arguments, which other losses read after it: compute on copies, without "
        "methods that end in an underscore.",
    )


def uses_its_calibration(make: Factory) -> None:
    """Check that a calibration changes what a loss with `takes_calibration` teaches, and that all stays finite."""
    loss = built(make)
    if not takes_calibration(loss):
        return
    batch = batch_of(loss)
    _, before = gradient_of(loss, batch, _USUAL)
    with calling(loss, "set_calibration(calibration)"):
        calibrate_loss(loss, _CALIBRATION)
    _, after = gradient_of(loss, batch, "a calibration")
    require(
        not all(torch.allclose(one, other) for one, other in zip(before, after, strict=True)),
        f"{type(loss).__name__} has takes_calibration, but the same gradient with the calibration "
        f"{tuple(_CALIBRATION)} as without: apply calibration.rescale to its cosines, or remove takes_calibration.",
    )
    for case, edge in batch.edges().items():
        _require_finite(loss, edge, f"a calibration and {case}")


def stops_at_its_ceiling(make: Factory) -> None:
    """Check that a loss with `wants_ceiling` gives no gradient beyond the ceiling, and one below it."""
    loss = built(make)
    if not wants_ceiling(loss):
        return
    batch, name = batch_of(loss), type(loss).__name__
    near = [(part + 0.05 * way) for part, way in zip(batch.reference, batch.generated, strict=True)]
    beyond = batch.with_sides(near, batch.reference)
    for ceiling, teaches in ((0.5, False), (math.inf, True)):
        set_ceiling(loss, ceiling)
        _, gradient = gradient_of(loss, beyond, f"a ceiling of {ceiling}")
        require(
            (norm_of(gradient) > 0) is teaches,
            f"{name} gives {'no' if teaches else 'a'} gradient to items of cosine 0.99 and more with a ceiling of "
            f"{ceiling}: items beyond the ceiling, and only they, must get none. With infinity, which is set while the "
            "gradient is probed, all items teach.",
        )


LOSS_CHECKS: tuple[Check, ...] = (
    returns_a_float32_scalar,
    teaches_with_the_speakers_it_needs,
    falls_as_generated_speech_nears_its_references,
    has_the_gradient_of_its_value,
    is_finite_at_edges,
    computes_in_float32_under_autocast,
    takes_embeddings_in_half_precision,
    takes_small_batches,
    takes_any_speaker_ids,
    joins_the_batches_of_several_processes,
    keeps_its_state_in_the_state_dict,
    leaves_its_inputs_as_they_were,
    uses_its_calibration,
    stops_at_its_ceiling,
)
"""All checks of a loss; each takes a factory."""


def check_loss(make: Factory, *, skip: Collection[str] = ()) -> None:
    """Run all checks of a loss that compares what one encoder makes of speech; not of the loss `ensemble`.

    Args:
        make: Returns a new loss at each call, such as `MyLoss` or `lambda: build_loss("mine", {"scale": 2.0})`.
        skip: Names of checks that the loss fails by design.

    Raises:
        AssertionError: some checks fail; the message says which and what to do.
        ValueError: `skip` names no check.
    """
    run_checks(LOSS_CHECKS, make, skip)


# --- what the checks share --------------------------------------------------------------------------------------------


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _similarity(generated: list[Tensor], batch: Batch) -> float:
    return float(cosine_similarity(generated[0], batch.reference[0], dim=-1).mean())


def _require_float32(loss: nn.Module, value: Tensor, case: str) -> None:
    require(
        value.dtype == torch.float32,
        f"{type(loss).__name__} returned {_named(value.dtype)} with {case}: return float32, by `.float()` on its "
        "arguments, or derive from SpeakerConsistencyLoss.",
    )


def _require_finite(loss: nn.Module, batch: Batch, case: str) -> None:
    """Raise an AssertionError unless value and gradient are finite, and the value is of float32."""
    value, gradient = gradient_of(loss, batch, case)
    _require_float32(loss, value, case)
    name = type(loss).__name__
    require(
        bool(value.isfinite()),
        f"{name} gives {value.item()} with {case}: bound divisors, and the arguments of log, acos and sqrt.",
    )
    require(
        all(bool(part.isfinite().all()) for part in gradient),
        f"{name} has a gradient that is not finite with {case}, though its value is, {value.item():.4g}: look for "
        "acos, sqrt, norm or a division whose slope is infinite there; a clamp behind it does not help.",
    )


def _in_float64(loss: nn.Module) -> nn.Module | None:
    """Return a copy of the loss in float64 if it takes and gives that; else None."""
    double = copy.deepcopy(loss).double()
    try:
        value = value_of(double, batch_of(loss).to(torch.float64), "embeddings in float64")
    except AssertionError:  # such as constants in float32: the contract does not ask for float64
        return None
    return double if value.dtype == torch.float64 else None


def _check_mean_over_items(loss: nn.Module, batch: Batch) -> None:
    once = value_of(loss, batch, _USUAL)
    twice = batch.with_sides(*([torch.cat([part, part]) for part in side] for side in batch.sides))
    ids = None if batch.speaker_ids is None else torch.cat([batch.speaker_ids, batch.speaker_ids])
    doubled = value_of(loss, replace(twice, speaker_ids=ids), "each item twice")
    require(
        torch.allclose(once, doubled, rtol=1e-4, atol=1e-6),
        f"{type(loss).__name__} is {once.item():.6g}, and {doubled.item():.6g} with each item twice: several processes "
        "average their losses, so a loss of feature maps must be a mean over items, not a sum.",
    )
