"""Train the demo's model with encoders passed plainly and leanly, and compare the similarities of its speech."""

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from rich.console import Console
from rich.progress import Progress

from coqui_scl_plugin.demo.arms import train_arm
from coqui_scl_plugin.demo.corpus_files import BUNDLED, Corpus
from coqui_scl_plugin.demo.options import DemoOptions
from coqui_scl_plugin.demo.scores import score, write_audio
from coqui_scl_plugin.demo.small_vits import demo_section
from coqui_scl_plugin.demo.speech import speech_of
from coqui_scl_plugin.demo.start import Start
from coqui_scl_plugin.encoders import segment_encoder

_ARM = "with_scl"


@contextlib.contextmanager
def _passed(kind: str) -> Iterator[None]:
    """Within the block, pass encoders `leanly` or `plainly`."""
    with (
        patch.object(segment_encoder, "is_frozen", lambda encoder: False)
        if kind == "plainly"
        else contextlib.nullcontext()
    ):
        yield


def _similarities(kind: str, steps: int, seed: int, folder: Path) -> dict[str, float]:
    """Train, and return the mean SECS of held-out recordings by kind of speech and encoder, and seconds a step."""
    corpus = Corpus.load(BUNDLED.resolve())
    section = demo_section(corpus)
    options = DemoOptions(out=folder, steps=steps, seed=seed)
    with Progress(console=Console(stderr=True)) as progress, contextlib.redirect_stdout(sys.stderr), _passed(kind):
        arm, model = train_arm(_ARM, options, corpus, Start.load(), section, progress)
        speech = {_ARM: speech_of(model, corpus, seed)}
    secs, _ = score(write_audio(folder / "audio", corpus, speech), section)
    means = {f"{kind} {alias}": statistics.mean(s) for kind, by in secs[_ARM].items() for alias, s in by.items()}
    return means | {"seconds_per_step": arm.seconds_per_step, "loss_mel": arm.history["loss_mel"][-1]}


def main() -> None:
    """Print the figures of each training as a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100, help="steps of each training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="a training of each kind for each")
    options = parser.parse_args()
    for seed in options.seeds:
        for kind in ("plainly", "leanly"):
            with tempfile.TemporaryDirectory() as folder:
                found = _similarities(kind, options.steps, seed, Path(folder))
            sys.stdout.write(json.dumps({"passed": kind, "seed": seed, **found}) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
