"""Speech of two runs, made up of real recordings: bits of 0.4 s, so that a browser soon hears all of them."""

from pathlib import Path

import pytest
import soundfile

from coqui_scl_plugin.demo.corpus_files import BUNDLED
from coqui_scl_plugin.evaluation.evaluation_set import EvaluationSet, SyntheticRecording
from coqui_scl_plugin.references.recordings import Recording

SPEAKERS = ("awb", "kal16", "slt")
SECONDS = 0.4


def write_bit(path: Path, speaker: str, number: int, gain: float) -> Path:
    """Write a bit of a recording of the bundled corpus, at another loudness."""
    samples, rate = soundfile.read(BUNDLED / speaker / f"{speaker}_{number:02}.flac")
    path.parent.mkdir(parents=True, exist_ok=True)
    start = rate // 2
    soundfile.write(path, gain * samples[start : start + int(SECONDS * rate)], rate)
    return path


@pytest.fixture(scope="session")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[EvaluationSet, EvaluationSet]:
    """Return the evaluation sets of a quiet and a loud run: a sentence or two of each of three speakers."""
    folder = tmp_path_factory.mktemp("two-runs")
    real = [
        Recording(f"{speaker}/{n}", write_bit(folder / "real" / f"{speaker}-{n}.wav", speaker, n, 0.5), speaker)
        for speaker in SPEAKERS
        for n in (1, 2, 3)
    ]
    sentences = [("awb", 1), ("kal16", 1), ("slt", 1), ("slt", 2)]
    sets = []
    for label, first, gain in (("quiet", 4, 0.1), ("loud", 6, 0.9)):
        made = [
            SyntheticRecording(
                f"{speaker}-{n}", write_bit(folder / label / f"{speaker}-{n}.wav", speaker, first + n, gain), speaker,
                reference=f"{speaker}/{n}",
            )
            for speaker, n in sentences
        ]  # fmt: skip
        sets.append(EvaluationSet(label, {}, real, made))
    return sets[0], sets[1]
