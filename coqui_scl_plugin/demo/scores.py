"""SECS of the reconstructed held-out recordings of both arms."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import soundfile
from torch import Tensor

from coqui_scl_plugin.demo.arms import ARMS, TRAINING_ENCODER
from coqui_scl_plugin.demo.corpus_files import Corpus, load_beginning
from coqui_scl_plugin.evaluation.encoders import encoder_specs, load_encoders
from coqui_scl_plugin.evaluation.evaluation_set import EvaluationSet, SyntheticRecording
from coqui_scl_plugin.evaluation.verification import EmbeddedRecording, Verification, verify
from coqui_scl_plugin.references.recordings import Recording
from coqui_scl_plugin.utils.atomic import replacing_folder

HELD_OUT_ENCODER = "dvector"


def write_audio(
    folder: Path, corpus: Corpus, reconstructed: Mapping[str, Sequence[Tensor]]
) -> dict[str, EvaluationSet]:
    """Write the beginnings of the held-out recordings, and the reconstructions by each arm, as KIND/SPEAKER/FILE.

    Args:
        folder: The files replace all of its content.
        corpus: The corpus.
        reconstructed: By arm, one waveform for each held-out recording.

    Returns:
        Evaluation sets by arm, in the order of the held-out recordings.
    """
    real: list[Recording] = []
    synthetic: dict[str, list[SyntheticRecording]] = {arm: [] for arm in reconstructed}
    with replacing_folder(folder) as temporary:
        for index, sample in enumerate(corpus.held_out):
            name, speaker = sample["audio_unique_name"], sample["speaker_name"]
            file = Path(speaker.replace("/", "_")) / f"{index:03d}-{Path(sample['audio_file']).stem}.wav"
            waveforms = {"real": load_beginning(sample), **{arm: made[index] for arm, made in reconstructed.items()}}
            for kind, waveform in waveforms.items():
                path = temporary / kind / file
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, waveform.numpy(), corpus.rate, subtype="FLOAT")
            real.append(Recording(name, folder / "real" / file, speaker))
            for arm, made in synthetic.items():
                made.append(SyntheticRecording(name, folder / arm / file, speaker, reference=name))
    return {arm: EvaluationSet(ARMS[arm], {"audio": str(folder)}, real, made) for arm, made in synthetic.items()}


def _secs(verification: Verification, encoder: str) -> list[float]:
    """Return the cosine of each reconstruction and its recording; both lists are in the same order."""
    pairs = zip(verification.synthetic, verification.real, strict=True)
    return [float(made.embeddings[encoder] @ real.embeddings[encoder]) for made, real in pairs]


def score(
    evaluation_sets: Mapping[str, EvaluationSet],
) -> tuple[dict[str, dict[str, list[float]]], dict[str, dict[str, float]]]:
    """Verify the reconstructions by the training and the held-out encoder, loaded anew and so untouched by training.

    Returns:
        SECS of each recording, by arm and encoder; and the floor and ceiling of real speech, by encoder, if there are
        enough recordings to measure them.
    """
    encoders, _ = load_encoders(encoder_specs((), (TRAINING_ENCODER, HELD_OUT_ENCODER)))
    memory: dict[Path, EmbeddedRecording] = {}
    found = {arm: verify(one, encoders, memory=memory) for arm, one in evaluation_sets.items()}
    secs = {arm: {encoder: _secs(one, encoder) for encoder in encoders} for arm, one in found.items()}
    of_real = next(iter(found.values())).scores
    calibrations = {encoder: {"floor": one.floor, "ceiling": one.ceiling} for encoder, one in of_real.items()}
    return secs, {
        encoder: {name: value for name, value in calibration.items() if value is not None}
        for encoder, calibration in calibrations.items()
    }
