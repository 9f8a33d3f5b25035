"""Checks of the speakers: enough of them in a batch, and each one known by name."""

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from coqui_scl_plugin.preflight.facts import RunFacts
from coqui_scl_plugin.preflight.report import Finding, agree, some, warning

_SEARCHED_NAMES = 5_000  # among which the nearest one is looked for


def _shares(facts: RunFacts, counts: Mapping[str, int]) -> dict[str, float]:
    """Return each speaker's share of the samples in batches, with Coqui's weighted sampler where it is on."""
    config, weights = facts.config, dict(counts)
    if config.use_weighted_sampler and list(config.weighted_sampler_attrs)[-1:] == ["speaker_name"]:
        multipliers = (config.weighted_sampler_multipliers or {}).get("speaker_name") or {}
        weights = {speaker: multipliers.get(speaker, 1.0) for speaker in counts}
    total = sum(weights.values())
    return {speaker: weight / total for speaker, weight in weights.items()}


def check_speakers(facts: RunFacts) -> list[Finding]:
    """Batches contain as many speakers as the loss needs."""
    if facts.consistency is None or not facts.train_samples:
        return []
    loss, batch_size, heard = facts.consistency.loss, facts.config.batch_size, facts.config.scl.window.items
    size, key = min((batch_size, "batch_size"), (heard or batch_size, "scl.window.items"))
    size *= facts.processes  # the loss compares the items of all of them
    name, needed = loss.name, loss.min_speakers
    counts = Counter(sample["speaker_name"] for sample in facts.train_samples)
    if len(counts) < needed:
        return [
            Finding(
                f"{name} needs at least {needed} speakers, the training data has {len(counts)}: it would have no "
                "negatives and teach nothing.",
                "Use the loss 'cosine', or add speakers.",
            )
        ]
    needed = loss.min_batch_speakers
    if needed < 2:
        return []
    if size < needed:
        return [Finding(f"{name} needs at least {needed} speakers in a batch, {key} is {size}.", f"Raise {key}.")]
    shares = _shares(facts, counts)
    alone = sum(share**size for share in shares.values())
    most = max(shares, key=lambda speaker: shares[speaker])
    of_all = f" in each of {facts.processes} processes" if facts.processes > 1 else ""
    found = (
        f"{name} needs several speakers in a batch: with {shares[most]:.0%} of the samples in batches by {most!r} and "
        f"{key} {size // facts.processes}{of_all}, {alone:.0%} of the batches have one speaker and teach nothing."
    )
    change = f"Balance the speakers (use_weighted_sampler), raise {key}, or use prototypes = 'centroid'."
    return [] if alone < 0.1 else [warning(found, change)] if alone < 0.5 else [Finding(found, change)]


def _nearest(name: str, known: Iterable[str]) -> str:
    names = list(known)
    ends = [key for key in names if key.endswith(name) or name.endswith(key)]
    near = ends[:1] or difflib.get_close_matches(name, names[:_SEARCHED_NAMES], n=1)
    return f" Nearest to {name!r}: {near[0]!r}." if near else ""


def missing(what: str, wanted: set[str], known: Iterable[str], where: str, change: str) -> list[Finding]:
    """Find the names that are wanted and not known."""
    known = set(known)
    if not (unknown := wanted - known):
        return []
    first = min(unknown)
    found = f"{len(unknown)} of {len(wanted)} {what} are not in {where}: {some(unknown)}.{_nearest(first, known)}"
    return [Finding(found, change)]


def speakers_of(d_vectors: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Return the speakers in a d-vector file."""
    return {str(entry["name"]) for entry in d_vectors.values()}


def check_d_vectors(facts: RunFacts) -> list[Finding]:
    """The d-vector file contains every recording and speaker of the data, and its d-vectors have the model's size."""
    if facts.d_vectors is None or facts.train_samples is None:
        return []
    samples, args = facts.all_samples, facts.config.model_args
    change = (
        "The file must be computed with the same names of the data set (datasets.dataset_name, the formatter): compute "
        "it again with this config, e.g. with coqui-scl embed --export."
    )
    where = f"model_args.d_vector_file ({args.d_vector_file})"
    findings = missing("recordings", {s["audio_unique_name"] for s in samples}, facts.d_vectors, where, change)
    speakers = {s["speaker_name"] for s in samples}
    findings += missing("speakers", speakers, speakers_of(facts.d_vectors), where, change)
    return [*findings, *_sizes(facts.d_vectors, args.d_vector_dim, where)]


def _sizes(d_vectors: Mapping[str, Mapping[str, Any]], size: int, where: str) -> Iterator[Finding]:
    """Compare the sizes of d-vectors with that of the config, or with each other."""
    others = {name: len(entry["embedding"]) for name, entry in d_vectors.items() if len(entry["embedding"]) != size}
    sizes = sorted(set(others.values()))
    if not sizes:
        return
    found = f"model_args.d_vector_dim = {size}, but"
    if len(others) == len(d_vectors) and len(sizes) == 1:
        yield Finding(f"{found} {where} has embeddings of {sizes[0]} numbers.", f"Set it to {sizes[0]}.")
    else:
        have = f"{agree(len(others), 'have')} {' or '.join(map(str, sizes))} numbers: {some(others)}"
        found = f"{found} of the {len(d_vectors)} embeddings of {where}, {len(others)} {have}."
        yield Finding(found, "Compute the file with one encoder, e.g. with coqui-scl embed --export.")


def check_known_speakers(facts: RunFacts) -> list[Finding]:
    """The model has an embedding for each speaker of the data."""
    if facts.speakers is None or facts.train_samples is None:
        return []
    wanted = {sample["speaker_name"] for sample in facts.all_samples}
    change = "List all speakers in `speakers` of the config, spelled as in the data."
    return missing("speakers", wanted, facts.speakers, "the model's table of speakers", change)
