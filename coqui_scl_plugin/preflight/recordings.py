"""Checks of the recordings: files, sample rates, lengths, and the evaluation set."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import soundfile

from coqui_scl_plugin.errors import ConfigError, PreflightError
from coqui_scl_plugin.preflight.facts import RunFacts, Sample
from coqui_scl_plugin.preflight.report import Finding, some, warning
from coqui_scl_plugin.references.recordings import recordings_of

_MAX_HEADERS = 500
"""Recordings whose headers are read, evenly spread over the data set."""
_MIN_SEGMENT_SECONDS = 0.1


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


def check_recordings(facts: RunFacts) -> list[Finding]:
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
    return shared + _unusable(facts)


def _unusable(facts: RunFacts) -> list[Finding]:
    """Find recordings that do not exist or cannot be read, and a data set that Coqui would skip as a whole."""
    findings, samples = [], facts.train_samples
    wanted = facts.consistency is not None and facts.consistency.uses_recordings  # else Coqui skips them
    gone = {str(s["audio_file"]) for s in facts.all_samples if not Path(s["audio_file"]).is_file()}
    if gone:
        found = f"{len(gone)} recordings of the data set do not exist: {some(gone)}."
        findings.append(Finding(found, "Correct the list of samples, or its paths.", is_error=wanted))
    broken = {str(s["audio_file"]) for s in _spread(facts.all_samples) if not _is_audio(s)} - gone
    if broken:
        found = f"{len(broken)} of the inspected recordings are empty or are not readable audio: {some(broken)}."
        findings.append(Finding(found, "Repair or remove them.", is_error=wanted))
    if samples is not None and not samples:
        findings.append(Finding("There is no recording to train on.", "Add recordings, or lower eval_split_size."))
    headers = list(_headers(samples or ()))
    if headers and not any(_fits(facts, sample, round(length * rate)) for sample, rate, length in headers):
        found = f"None of the {len(headers)} samples to train on that were inspected has an accepted length."
        change = "Set min_audio_len, max_audio_len (in samples), min_text_len and max_text_len to what the data has."
        findings.append(Finding(found, change))
    return findings


def _is_audio(sample: Sample) -> bool:
    try:
        return recordings_of([sample])[0].seconds > 0.0
    except ConfigError:
        return False


def _fits(facts: RunFacts, sample: Sample, frames: int) -> bool:
    """Tell whether Coqui accepts a sample of this length."""
    config = facts.config
    fits = config.min_audio_len <= frames <= config.max_audio_len
    return bool(fits and config.min_text_len <= len(sample["text"]) <= config.max_text_len)


def _spread(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Return up to about `_MAX_HEADERS` of the samples."""
    return samples[:: max(1, len(samples) // _MAX_HEADERS)]


def _headers(samples: Sequence[Sample]) -> Iterator[tuple[Sample, int, float]]:
    """Yield sample, rate in Hz and seconds of up to `_MAX_HEADERS` recordings whose header soundfile can read."""
    for sample in _spread(samples):
        try:
            info = soundfile.info(sample["audio_file"])
        except soundfile.SoundFileError:  # another format, or broken, which the data loader will say
            continue
        yield sample, int(info.samplerate), float(info.duration)


def check_sample_rate(facts: RunFacts) -> list[Finding]:
    """Recordings have the sample rate of the config, and no encoder expects a higher rate than the model's."""
    rate, findings = facts.config.audio.sample_rate, []
    wrong = {str(sample["audio_file"]): own for sample, own, _ in _headers(facts.all_samples) if own != rate}
    if wrong:
        file, own = next(iter(wrong.items()))
        findings.append(
            Finding(
                f"audio.sample_rate = {rate}, but {len(wrong)} of the inspected recordings have another rate: {file} "
                f"has {own} Hz. Coqui does not resample: they would play too fast or too slow, also for the encoders.",
                "Resample them (python -m TTS.bin.resample), or set audio.sample_rate.",
            )
        )
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
    lengths = [
        (str(sample["audio_file"]), length)
        for sample, rate, length in _headers(facts.train_samples or ())
        if _fits(facts, sample, round(length * rate))
    ]
    if below := [file for file, length in lengths if length < window]:
        findings.append(
            warning(
                f"{len(below)} of the inspected recordings are shorter than scl.window.seconds = {window:g}; in a "
                f"batch with one of them, the loss hears all items for only as long: {some(below)}.",
                f"Exclude them (min_audio_len = {round(window * facts.config.audio.sample_rate)}), or shorten the "
                "window.",
            )
        )
    short = [file for file, length in lengths if length < seconds]
    if short:
        findings.append(
            warning(
                f"{len(short)} of the inspected recordings are shorter than a slice of {seconds:.2f} s, and are padded "
                f"with zeros: {some(short)}.",
                f"Exclude them: min_audio_len = {round(seconds * facts.config.audio.sample_rate)}.",
            )
        )
    return findings


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
        found = f"None of the {len(facts.eval_samples)} samples to evaluate with can be used: {error}"
        return [Finding(found, f"{change} Their lengths must be within min_audio_len and max_audio_len.")]
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
