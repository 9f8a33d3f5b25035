"""Checks of the recordings as files: names, existence, endings, sample rates and lengths; and the evaluation set."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from coqui_scl_plugin.errors import PreflightError
from coqui_scl_plugin.preflight.config_values import is_lost
from coqui_scl_plugin.preflight.facts import DataFacts, RunFacts, Sample
from coqui_scl_plugin.preflight.headers import ENDINGS, Header, Problem
from coqui_scl_plugin.preflight.metadata import is_misread
from coqui_scl_plugin.preflight.metadata_rows import MAX_LOST_SHARE
from coqui_scl_plugin.preflight.missing_files import reasons_of
from coqui_scl_plugin.preflight.report import NEEDS, Finding, NotMeasuredError, agree, some, warning

_MIN_SEGMENT_SECONDS = 0.1
_MANY_LEFT_OUT = 0.5
"""Of the samples to train on. min_audio_len and its like are there to leave some out."""
_AFFECTED_BATCHES = 0.1
"""Up to this share of the batches may be cut short or padded by short recordings without a warning."""


def shared_names(samples: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a sentence about the first two recordings that share a name, if any do."""
    files: dict[str, str] = {}
    for sample in samples:
        name, file = sample["audio_unique_name"], str(sample["audio_file"])
        if files.setdefault(name, file) != file:
            return [f"{files[name]} and {file} share the name {name!r}."]
    return []


_OWN_NAMES = "Give each entry of `datasets` its own dataset_name."


def check_names(samples: Sequence[Mapping[str, Any]]) -> None:
    """Check that names are unique; otherwise one recording would stand for another. Raises PreflightError."""
    for sentence in shared_names(samples):
        raise PreflightError(f"{sentence} {_OWN_NAMES}")


def check_recordings(facts: DataFacts) -> list[Finding]:
    """Recordings are listed where they are needed, exist, can be read and used, and have unique names."""
    consistency = facts.consistency
    if consistency is not None and consistency.needs_recordings and facts.train_samples is None:
        return [
            Finding(
                "The references, prototypes or calibration of this config come from all recordings of the data set, "
                "but the trainer was given no train_samples.",
                "Pass them to the Trainer, or use reference.source = 'utterance', prototypes = 'batch', and "
                "calibrate and stop_at_ceiling = false.",
            )
        ]
    shared = [Finding(sentence, _OWN_NAMES) for sentence in shared_names(facts.all_samples)]
    return [*shared, *_unusable(facts), *_left_out_by_length(facts)]


_PROBLEMS: Mapping[Problem, tuple[str, str]] = {
    "gone": ("do not exist", "Correct their names in the metadata or the data set's path, or remove their rows."),
    "folder": ("do not name a file, but a folder or a device", "Name files."),
    "unreadable": ("may not be read by this user", "Change their permissions."),
    "no audio": ("are not readable audio", "Repair or remove them."),
    "empty": ("are empty", "Record them again, or remove them."),
    "ending": (
        "have an ending that Coqui leaves out of the training ({endings}; by the name's ending, it reads "
        f"{', '.join(ENDINGS)})",
        "Convert them, e.g. with ffmpeg -i IN OUT.wav, and name the new files in the metadata.",
    ),
}


def by_cause(headers: Iterable[Header], total: int, what: str) -> str:
    """Say how many of the recordings have a defect, and name the first of them."""
    paths = [header.path for header in headers]
    return f"{len(paths)} of {total} recordings {agree(len(paths), what)}: {some(paths)}"


def _unusable(facts: DataFacts) -> list[Finding]:
    """Find recordings that Coqui cannot use, by cause, in one finding for errors and one for warnings."""
    headers = facts.headers.once(facts.all_samples)
    by_problem: dict[Problem, list[Header]] = defaultdict(list)
    for header in headers:
        if header.problem:
            by_problem[header.problem].append(header)
    lost = sum(map(len, by_problem.values()))
    findings = []
    for problem, (what, change) in _PROBLEMS.items():
        if not (concerned := by_problem[problem]):
            continue
        if problem == "gone":
            concerned = _without_misread(facts, concerned)
        if not concerned:
            continue
        reasons = reasons_of(Path(header.path) for header in concerned) if problem == "gone" else ""
        if kinds := sorted({header.kind for header in concerned if header.kind}):
            reasons = f"; they are {' or '.join(kinds)}"
        endings = ", ".join(sorted({header.ending for header in concerned}))
        found = f"{by_cause(concerned, len(headers), what.format(endings=endings))}{reasons}."
        findings.append(Finding(found, change, is_error=_stops(facts, lost, len(headers))))
    if facts.train_samples is not None and not facts.train_samples:
        findings.append(Finding("There is no recording to train on.", "Add recordings, or lower eval_split_size."))
    return findings


def _without_misread(facts: DataFacts, headers: Sequence[Header]) -> list[Header]:
    """Leave out what a formatter took for names of recordings by mistake: the check `metadata` says why."""
    misread = [listing for listing in facts.list_datasets() if is_misread(listing)]
    files = {str(sample["audio_file"]) for listing in misread for sample in listing.samples or ()}
    return [header for header in headers if header.path not in files]


def _stops(facts: DataFacts, lost: int, total: int) -> bool:
    """Tell whether recordings that cannot be used stop a run: with the loss on, all but a few; else Coqui skips them.

    References of the whole recording cannot do without any of them.
    """
    if lost == total:
        return True
    loss = facts.consistency
    return loss is not None and (loss.uses_recordings or lost > MAX_LOST_SHARE * total)


def _usable(facts: DataFacts, samples: Iterable[Sample]) -> list[tuple[Sample, Header]]:
    """Return the samples that Coqui can read, with their headers."""
    kept = list(samples)
    return [(sample, header) for sample, header in zip(kept, facts.headers.of(kept), strict=True) if not header.problem]


def _left_out_by_length(facts: DataFacts) -> list[Finding]:
    """Find that the limits of the config leave out most of what is trained on."""
    usable = _usable(facts, facts.train_samples or ())
    out = [(sample, header) for sample, header in usable if not _fits(facts, sample, header.frames)]
    if not usable or len(out) < _MANY_LEFT_OUT * len(usable):
        return []
    change = "Set min_audio_len, max_audio_len (in samples), min_text_len and max_text_len to what the data has"
    frames, texts = [header.frames for _, header in usable], [len(sample["text"]) for sample, _ in usable]
    has = (
        f": recordings of {min(frames)} to {max(frames)} samples, and texts of {min(texts)} to {max(texts)} characters."
    )
    if len(out) == len(usable):
        return [Finding(f"None of the {len(usable)} samples to train on has an accepted length.", change + has)]
    found = (
        f"{len(out)} of the {len(usable)} samples to train on are left out for the length of their recording or text: "
        f"{some(header.path for _, header in out)}."
    )
    return [warning(found, change + has)]


def _fits(facts: DataFacts, sample: Sample, frames: int) -> bool:
    """Tell whether Coqui accepts a sample of this length."""
    config = facts.config
    fits = config.min_audio_len <= frames <= config.max_audio_len
    return bool(fits and config.min_text_len <= len(sample["text"]) <= config.max_text_len)


def check_sample_rate(facts: DataFacts) -> list[Finding]:
    """Recordings have the sample rate of the config, and no encoder expects a higher rate than the model's."""
    rate, findings = facts.config.audio.sample_rate, []
    if is_lost(facts, "audio.sample_rate"):
        raise NotMeasuredError(f"{NEEDS} values.")
    headers = [header for header in facts.headers.once(facts.all_samples) if header.rate]
    wrong: dict[int, list[str]] = defaultdict(list)
    for header in headers:
        if header.rate != rate:
            wrong[header.rate].append(header.path)
    if wrong:
        count = sum(map(len, wrong.values()))
        listed = "; ".join(
            f"{len(files)} {agree(len(files), 'have')} {own} Hz: {some(files)}" for own, files in sorted(wrong.items())
        )
        found = (
            f"audio.sample_rate = {rate}, but {count} of {len(headers)} recordings {agree(count, 'have')} another rate "
            f"({listed}). Coqui does not resample: they would play too fast or too slow, also for the encoders."
        )
        findings.append(Finding(found, "Resample them (python -m TTS.bin.resample), or set audio.sample_rate."))
    encoders = facts.consistency.encoders.segment_encoders if facts.consistency is not None else {}
    for alias, encoder in encoders.items():
        if encoder.sample_rate > rate:
            findings.append(
                warning(
                    f"The speaker encoder {alias!r} expects {encoder.sample_rate} Hz, the model generates {rate} Hz: "
                    f"the band above {rate // 2} Hz is empty, in generated and in real speech.",
                    "Prefer an encoder whose sample rate is not higher than the model's.",
                )
            )
    return findings


def check_segment_length(facts: RunFacts) -> list[Finding]:
    """The generated slice is long enough to recognise a speaker, and not padded with silence."""
    findings, scl = [], facts.config.scl
    seconds, window = facts.segment_seconds, scl.window.seconds if scl.enabled else 0.0
    if (window or seconds) < _MIN_SEGMENT_SECONDS:
        heard, key = (window, "scl.window.seconds") if window else (seconds, "model_args.spec_segment_size")
        findings.append(
            Finding(
                f"The loss hears {heard:.3f} s of generated speech ({key}). Tiled to the length that an encoder needs, "
                "they become a buzz in which no speaker can be recognised.",
                f"Raise {key} to at least {_MIN_SEGMENT_SECONDS} s, or set scl.window.seconds to 2.",
            )
        )
    fitting = [
        header for sample, header in _usable(facts, facts.train_samples or ()) if _fits(facts, sample, header.frames)
    ]
    for length, what in (
        (
            window,
            f"scl.window.seconds = {window:g}; in a batch with one of them, the loss hears all items for only as long",
        ),
        (seconds, f"a slice of {seconds:.2f} s, and are padded with zeros"),
    ):
        short = [header.path for header in fitting if header.seconds < length]
        if (share := _affected_batches(facts, len(short), len(fitting))) <= _AFFECTED_BATCHES:
            continue
        least = f"min_audio_len = {round(length * facts.config.audio.sample_rate)}"
        change = f"Exclude them ({least}), or shorten the window." if length == window else f"Exclude them: {least}."
        found = (
            f"{len(short)} of {len(fitting)} recordings, in about {share:.0%} of the batches, are shorter than {what}"
        )
        findings.append(warning(f"{found}: {some(short)}.", change))
    return findings


def _affected_batches(facts: DataFacts, short: int, total: int) -> float:
    """Estimate the share of batches with a short recording: Coqui sorts by length, and shuffles within groups."""
    if not short:
        return 0.0
    size = max(1, facts.config.batch_size)
    group = size * max(1, facts.config.batch_group_size)
    if group <= size:
        return min(1.0, -(-short // size) / -(-total // size))
    whole, rest = divmod(short, group)
    within = 1.0 - (1.0 - rest / group) ** size
    return min(1.0, (whole + within) * group / total)


def check_evaluation_set(facts: RunFacts) -> list[Finding]:
    """The evaluation set is not empty, and fills at least one batch."""
    if not facts.config.run_eval or facts.has_eval_loader or facts.train_samples is None:
        return []
    change = "Raise eval_split_size, name meta_file_val, or set run_eval to false."
    if not facts.eval_samples:
        return [
            Finding("run_eval is on, but the evaluation set is empty: the run would end in its first epoch.", change)
        ]
    try:
        batches = facts.count_eval_batches()
    except RuntimeError as error:  # Coqui: `No samples left`
        return [_nothing_to_evaluate_with(facts, error, change)]
    except AssertionError as error:  # Coqui's sampler, of a speaker that it was given a multiplier for
        found = f"Coqui's weighted sampler fails on the {len(facts.eval_samples)} samples to evaluate with: {error}."
        return [Finding(found, "Set weighted_sampler_multipliers only for values that occur in both sets.")]
    if batches == 0:
        found = (
            f"The {len(facts.eval_samples)} samples to evaluate with do not fill one batch, and the weighted sampler "
            "drops an incomplete one: the run would end at its first evaluation."
        )
        return [Finding(found, change)]
    return []


def _nothing_to_evaluate_with(facts: RunFacts, error: Exception, change: str) -> Finding:
    """Say why Coqui can use none of the samples to evaluate with."""
    samples = facts.eval_samples or ()
    found = f"None of the {len(samples)} samples to evaluate with can be used: "
    if not _usable(facts, samples):
        return Finding(f"{found}they {_problems_of(facts, samples)}.", change)
    return Finding(
        f"{found}{str(error).strip().rstrip('.')}.",
        f"{change} Their lengths must be within min_audio_len and max_audio_len.",
    )


def _problems_of(facts: RunFacts, samples: Iterable[Sample]) -> str:
    """Say, of samples none of which can be used, why."""
    headers = facts.headers.of(samples)
    endings = ", ".join(sorted({header.ending for header in headers}))
    return " or ".join(_PROBLEMS[key][0].format(endings=endings) for key in sorted({h.problem for h in headers}))
