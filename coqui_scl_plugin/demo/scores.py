"""SECS of the speech of both arms for the held-out recordings."""

from collections.abc import Mapping
from pathlib import Path

from coqui_scl_plugin.config import SclConfig
from coqui_scl_plugin.demo.arms import ARMS
from coqui_scl_plugin.demo.corpus_files import Corpus, load_beginning
from coqui_scl_plugin.demo.speech import SPEECH, Speech
from coqui_scl_plugin.evaluation.encoders import encoder_specs, load_encoders
from coqui_scl_plugin.evaluation.evaluation_set import EvaluationSet, SyntheticRecording
from coqui_scl_plugin.evaluation.verification import EmbeddedRecording, Verification, verify
from coqui_scl_plugin.references.recordings import Recording
from coqui_scl_plugin.utils.atomic import replacing_folder
from coqui_scl_plugin.utils.wav_file import write_wav

Secs = dict[str, dict[str, list[float]]]
"""SECS of each held-out recording, by kind of speech and encoder."""


def write_audio(folder: Path, corpus: Corpus, speech: Mapping[str, Speech]) -> dict[tuple[str, str], EvaluationSet]:
    """Write the beginnings of the held-out recordings as real/SPEAKER/FILE, and the speech as KIND/ARM/SPEAKER/FILE.

    Args:
        folder: The files replace all of its content.
        corpus: The corpus.
        speech: By arm.

    Returns:
        Evaluation sets by arm and kind of speech, in the order of the held-out recordings.
    """
    real: list[Recording] = []
    synthetic: dict[tuple[str, str], list[SyntheticRecording]] = {(arm, kind): [] for arm in speech for kind in SPEECH}
    with replacing_folder(folder) as temporary:
        for index, sample in enumerate(corpus.held_out):
            name, speaker = sample["audio_unique_name"], sample["speaker_name"]
            file = Path(speaker.replace("/", "_")) / f"{index:03d}-{Path(sample['audio_file']).stem}.wav"
            waveforms = {Path("real"): load_beginning(sample)}
            waveforms |= {Path(kind, arm): speech[arm][kind][index] for arm, kind in synthetic}
            for place, waveform in waveforms.items():
                path = temporary / place / file
                path.parent.mkdir(parents=True, exist_ok=True)
                write_wav(path, waveform, corpus.rate, subtype="FLOAT")
            real.append(Recording(name, folder / "real" / file, speaker))
            for (arm, kind), made in synthetic.items():
                made.append(SyntheticRecording(name, folder / kind / arm / file, speaker, reference=name))
    return {
        (arm, kind): EvaluationSet(f"{ARMS[arm]}, {SPEECH[kind]}", {"audio": str(folder)}, real, made)
        for (arm, kind), made in synthetic.items()
    }


def _secs(verification: Verification, encoder: str) -> list[float]:
    """Return the cosine of each synthetic recording and its reference; both lists are in the same order."""
    pairs = zip(verification.synthetic, verification.real, strict=True)
    return [float(made.embeddings[encoder] @ real.embeddings[encoder]) for made, real in pairs]


def score(
    evaluation_sets: Mapping[tuple[str, str], EvaluationSet], section: SclConfig
) -> tuple[dict[str, Secs], dict[str, dict[str, float]]]:
    """Verify the speech by every encoder of a section, loaded anew and so untouched by training.

    Returns:
        SECS by arm; and the floor and ceiling of real speech, by encoder, if there are enough recordings to measure
        them.
    """
    encoders, _ = load_encoders(encoder_specs([section], ()))
    memory: dict[Path, EmbeddedRecording] = {}
    secs: dict[str, Secs] = {}
    for (arm, kind), one in evaluation_sets.items():
        found = verify(one, encoders, memory=memory)
        secs.setdefault(arm, {})[kind] = {encoder: _secs(found, encoder) for encoder in encoders}
    calibrations = {encoder: {"floor": one.floor, "ceiling": one.ceiling} for encoder, one in found.scores.items()}
    return secs, {
        encoder: {name: value for name, value in calibration.items() if value is not None}
        for encoder, calibration in calibrations.items()
    }
