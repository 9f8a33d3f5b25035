"""Checks of recordings: that they are there, of what rate and length, and that some are left to evaluate with."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import soundfile

from coqui_scl_plugin.errors import ConfigError, PreflightError
from coqui_scl_plugin.preflight.facts import RunFacts, Sample
from coqui_scl_plugin.preflight.report import Finding, some, warning
from coqui_scl_plugin.references.recordings import recordings_of

_LOOKED_AT = 500  # recordings whose headers are read, evenly spread over the data set
_SHORTEST_SEGMENT = 0.1  # seconds


def shared_names(samples: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for the first two recordings that have one name, or nothing."""
    files: dict[str, str] = {}
    for sample in samples:
        name, file = sample["audio_unique_name"], str(sample["audio_file"])
        if files.setdefault(name, file) != file:
            return [f"{files[name]} and {file} share the name {name!r}."]
    return []


_OWN_NAMES = "Give each entry of `datasets` its own dataset_name."


def check_names(samples: Sequence[Mapping[str, Any]]) -> None:
    """Recordings must have names of their own, or one would be compared with another. Raises PreflightError."""
    for sentence in shared_names(samples):
        raise PreflightError(f"{sentence} {_OWN_NAMES}")


def check_recordings(setup: RunFacts) -> list[Finding]:
    """Recordings are known where they are needed, exist, can be read and used, and have names of their own."""
    consistency = setup.consistency
    if consistency is not None and consistency.needs_recordings and setup.train_samples is None:
        return [
            Finding(
                "The references, prototypes or calibration of this config come from all recordings of the data set, "
                "but the trainer was given no train_samples.",
                "Pass them to the Trainer, or use reference.source = 'utterance', prototypes = 'batch' and calibrate = "
                "false.",
            )
        ]
    shared = [Finding(sentence, _OWN_NAMES) for sentence in shared_names(setup.all_samples)]
    return shared + _unusable(setup)


def _unusable(setup: RunFacts) -> list[Finding]:
    """Recordings that are not there, or a data set of which Coqui would leave out all."""
    findings, samples = [], setup.train_samples
    wanted = setup.consistency is not None and setup.consistency.uses_recordings  # else Coqui leaves them out
    gone = {str(s["audio_file"]) for s in setup.all_samples if not Path(s["audio_file"]).is_file()}
    if gone:
        found = f"{len(gone)} recordings of the data set do not exist: {some(gone)}."
        findings.append(Finding(found, "Correct the list of samples, or its paths.", is_error=wanted))
    broken = {str(s["audio_file"]) for s in _spread(setup.all_samples) if not _is_audio(s)} - gone
    if broken:
        found = f"{len(broken)} of the recordings looked at are empty, or no audio that can be read: {some(broken)}."
        findings.append(Finding(found, "Repair them, or leave them out.", is_error=wanted))
    if samples is not None and not samples:
        findings.append(Finding("There is no recording to train on.", "Add some, or lower eval_split_size."))
    headers = list(_headers(samples or ()))
    if headers and not any(_fits(setup, sample, round(length * rate)) for sample, rate, length in headers):
        found = f"None of the {len(headers)} samples to train on that were looked at can be used for their lengths."
        change = "Set min_audio_len, max_audio_len (in samples), min_text_len and max_text_len to what the data has."
        findings.append(Finding(found, change))
    return findings


def _is_audio(sample: Sample) -> bool:
    try:
        return recordings_of([sample])[0].seconds > 0.0
    except ConfigError:
        return False


def _fits(setup: RunFacts, sample: Sample, frames: int) -> bool:
    """Whether Coqui does not leave out a sample of this length."""
    config = setup.config
    fits = config.min_audio_len <= frames <= config.max_audio_len
    return bool(fits and config.min_text_len <= len(sample["text"]) <= config.max_text_len)


def _spread(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Up to about `_LOOKED_AT` of the samples."""
    return samples[:: max(1, len(samples) // _LOOKED_AT)]


def _headers(samples: Sequence[Sample]) -> Iterator[tuple[Sample, int, float]]:
    """Sample, rate in Hz and length in seconds of up to `_LOOKED_AT` recordings whose header soundfile can read."""
    for sample in _spread(samples):
        try:
            info = soundfile.info(sample["audio_file"])
        except soundfile.SoundFileError:  # another format, or broken, which the data loader will say
            continue
        yield sample, int(info.samplerate), float(info.duration)


def check_sample_rate(setup: RunFacts) -> list[Finding]:
    """Recordings have the rate of the config, since Coqui does not resample them; encoders hear no empty band."""
    rate, findings = setup.config.audio.sample_rate, []
    wrong = {str(sample["audio_file"]): own for sample, own, _ in _headers(setup.all_samples) if own != rate}
    if wrong:
        file, own = next(iter(wrong.items()))
        findings.append(
            Finding(
                f"audio.sample_rate = {rate}, but {len(wrong)} of the recordings looked at have another rate: {file} "
                f"has {own} Hz. Coqui would take them as they are, too fast or too slow, and so would the encoders.",
                "Resample them (python -m TTS.bin.resample), or set audio.sample_rate.",
            )
        )
    encoders = setup.consistency.segment_encoders if setup.consistency is not None else {}
    for alias, encoder in encoders.items():
        if encoder.sample_rate > rate:
            findings.append(
                warning(
                    f"The speaker encoder {alias!r} hears {encoder.sample_rate} Hz, the model makes {rate} Hz: above "
                    f"{rate // 2} Hz it hears nothing, in generated and in real speech.",
                    "An encoder of a rate no higher than the model's judges better.",
                )
            )
    return findings


def check_segment_length(setup: RunFacts) -> list[Finding]:
    """The slice that encoders hear is long enough to hear a speaker in it, and not padded with silence."""
    findings = []
    seconds = setup.segment_seconds
    if seconds < _SHORTEST_SEGMENT:
        findings.append(
            Finding(
                f"The generator makes slices of {seconds:.3f} s. Repeated to what an encoder needs, they are a buzz in "
                "which no speaker can be heard.",
                f"Raise model_args.spec_segment_size to at least {_SHORTEST_SEGMENT} s.",
            )
        )
    short = [
        str(sample["audio_file"])
        for sample, rate, length in _headers(setup.train_samples or ())
        if length < seconds and _fits(setup, sample, round(length * rate))
    ]
    if short:
        findings.append(
            warning(
                f"{len(short)} of the recordings looked at are shorter than a slice of {seconds:.2f} s, and are padded "
                f"with zeros: {some(short)}.",
                f"Leave them out: min_audio_len = {round(seconds * setup.config.audio.sample_rate)}.",
            )
        )
    return findings


def check_evaluation_set(setup: RunFacts) -> list[Finding]:
    """There is something to evaluate with, and it makes at least one batch."""
    if not setup.config.run_eval or setup.own_eval_loader or setup.train_samples is None:
        return []
    change = "Raise eval_split_size, name meta_file_val, or set run_eval to false."
    if not setup.eval_samples:
        return [
            Finding("run_eval is on, but the evaluation set is empty: the run would end at its first epoch.", change)
        ]
    try:
        batches = setup.count_eval_batches()
    except RuntimeError as error:  # Coqui: `No samples left`
        found = f"None of the {len(setup.eval_samples)} samples to evaluate with can be used: {error}"
        return [Finding(found, f"{change} Their lengths must be within min_audio_len and max_audio_len.")]
    except AssertionError as error:  # Coqui's sampler, of a speaker that it was given a multiplier for
        found = f"Coqui's weighted sampler fails on the {len(setup.eval_samples)} samples to evaluate with: {error}."
        return [Finding(found, "Give weighted_sampler_multipliers only for what is in both sets.")]
    if batches == 0:
        found = (
            f"The {len(setup.eval_samples)} samples to evaluate with do not make one batch, since the weighted sampler "
            "drops an incomplete one: the run would end at its first evaluation."
        )
        return [Finding(found, change)]
    return []
