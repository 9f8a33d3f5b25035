"""Make the demo corpus: four voices of `flite`, each with its own sentences, as Coqui's `coqui` formatter reads it.

    python scripts/make_demo_corpus.py OUT

OUT must not exist; it gets `metadata.csv` and one folder of FLAC files a voice. Only this script needs `flite`
(`apt-get install flite`): what it makes is bundled in `coqui_scl_plugin/demo/corpus`, whose README says more.
"""

import argparse
import logging
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

log = logging.getLogger("make_demo_corpus")

VOICES = ("awb", "kal16", "rms", "slt")
SENTENCES = Path(__file__).with_name("demo_sentences.txt")
HEADER = "audio_file|text|speaker_name"

SAMPLE_RATE = 16_000
FRAME = SAMPLE_RATE // 100  # 10 ms
MARGIN = SAMPLE_RATE // 20  # 50 ms
SPEECH_LEVEL = 0.01  # of the loudest frame's RMS: 40 dB down, above the voices' noise and below their fricatives
SHORTEST, LONGEST = 1.5, 3.5  # seconds

Samples = NDArray[np.int16]


class CorpusError(Exception):
    """The corpus cannot be made; the message says why and what to do."""


@dataclass(frozen=True)
class Utterance:
    """One line of the corpus."""

    voice: str
    number: int
    sentence: str

    @property
    def audio_file(self) -> str:
        """Where it goes, relative to the corpus."""
        return f"{self.voice}/{self.voice}_{self.number:02d}.flac"

    @property
    def row(self) -> str:
        """Its line of `metadata.csv`."""
        return f"{self.audio_file}|{normalise(self.sentence)}|{self.voice}"


def normalise(sentence: str) -> str:
    """Lower case, and of the punctuation only apostrophes."""
    return " ".join(re.sub(r"[^a-z' ]", " ", sentence.lower()).split())


def plan(path: Path) -> list[Utterance]:
    """Deal the sentences out, in the order of the file: the first quarter to the first voice, and so on."""
    sentences = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    each, left_over = divmod(len(sentences), len(VOICES))
    if not each or left_over:
        raise CorpusError(f"{path}: {len(sentences)} sentences cannot be shared equally by {len(VOICES)} voices")
    if len({normalise(sentence) for sentence in sentences}) < len(sentences):
        raise CorpusError(f"{path}: a sentence occurs twice")
    return [Utterance(VOICES[i // each], i % each + 1, sentence) for i, sentence in enumerate(sentences)]


def find_flite() -> str:
    """Find the program, and make sure that it has the voices: given an unknown one it would use another."""
    flite = shutil.which("flite")
    if flite is None:
        raise CorpusError("flite is missing: apt-get install flite")
    listing = subprocess.run([flite, "-lv"], capture_output=True, text=True).stdout  # noqa: S603 - no shell, no input
    if missing := set(VOICES) - set(listing.partition(":")[2].split()):
        raise CorpusError(f"{flite} lacks the voices {', '.join(sorted(missing))}; it said: {listing.strip()}")
    return flite


def synthesise(flite: str, utterance: Utterance, wav: Path) -> Samples:
    """Have `flite` speak the sentence."""
    command = [flite, "-voice", utterance.voice, "-t", utterance.sentence, "-o", str(wav)]
    done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603 - no shell, and our own sentences
    if done.returncode or not wav.is_file():
        raise CorpusError(f"flite failed ({done.returncode}): {done.stderr.strip()}")
    samples: Samples
    samples, rate = sf.read(wav, dtype="int16")
    if rate != SAMPLE_RATE or samples.ndim != 1:
        raise CorpusError(f"expected mono at {SAMPLE_RATE} Hz, flite gave {samples.shape} at {rate} Hz")
    return samples


def trim(samples: Samples) -> Samples:
    """Cut the silence before and after the speech to the margin."""
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME).astype(np.float64)
    rms = np.sqrt((frames**2).mean(axis=1))
    speech = np.flatnonzero(rms > SPEECH_LEVEL * rms.max(initial=0.0))
    if not speech.size:
        raise CorpusError("nothing but silence")
    return samples[max(0, speech[0] * FRAME - MARGIN) : (speech[-1] + 1) * FRAME + MARGIN]


def check(samples: Samples) -> None:
    """Refuse what is too short, too long or clipped."""
    seconds = len(samples) / SAMPLE_RATE
    if not SHORTEST <= seconds <= LONGEST:
        raise CorpusError(f"{seconds:.2f} s long; change the sentence: {SHORTEST} s to {LONGEST} s are wanted")
    limits = np.iinfo(np.int16)
    if samples.max() >= limits.max or samples.min() <= limits.min:
        raise CorpusError("the audio clips")


def make_corpus(utterances: list[Utterance], out: Path) -> None:
    """Synthesise into a temporary folder beside `out`, then rename it: `out` is there whole or not at all."""
    if out.exists():
        raise CorpusError(f"{out} exists; name a new folder")
    flite = find_flite()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        wav, corpus = Path(scratch, "sentence.wav"), Path(scratch, "corpus")
        seconds = 0.0
        for utterance in utterances:
            try:
                samples = trim(synthesise(flite, utterance, wav))
                check(samples)
            except CorpusError as error:
                raise CorpusError(f"{utterance.audio_file} ({utterance.sentence!r}): {error}") from error
            wav.unlink()
            flac = corpus / utterance.audio_file
            flac.parent.mkdir(parents=True, exist_ok=True)
            sf.write(flac, samples, SAMPLE_RATE, subtype="PCM_16", compression_level=1.0)
            seconds += len(samples) / SAMPLE_RATE
            log.debug("%s: %.2f s", utterance.audio_file, len(samples) / SAMPLE_RATE)
        rows = [HEADER, *(utterance.row for utterance in utterances)]
        (corpus / "metadata.csv").write_text("\n".join(rows) + "\n", encoding="utf-8", newline="\n")
        size = sum(path.stat().st_size for path in corpus.rglob("*") if path.is_file())
        corpus.rename(out)
    log.info("%s: %d files, %.1f s, %d bytes", out, len(utterances), seconds, size)


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Make the demo corpus with flite.")
    parser.add_argument("out", type=Path, help="the folder to make; it must not exist")
    parser.add_argument("--sentences", type=Path, default=SENTENCES, help="one a line (default: %(default)s)")
    parser.add_argument("-v", "--verbose", action="store_true", help="report every file")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.DEBUG if arguments.verbose else logging.INFO, format="%(message)s")
    try:
        make_corpus(plan(arguments.sentences), arguments.out)
    except (CorpusError, OSError) as error:
        log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
