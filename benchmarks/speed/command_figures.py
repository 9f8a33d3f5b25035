"""Figures of whole commands, from their start on."""

import functools
import itertools
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.speech import listed
from benchmarks.speed.commands import COQUI_SCL, Timed, python
from benchmarks.speed.data import PAIRS, write_config, write_pairs
from benchmarks.speed.models import resnet_files
from benchmarks.speed.results import Row
from benchmarks.speed.timing import Effort, Times, by_turns

_PLACES = {"step 1 begins": "> TRAINING (", "step 1 is done": "-- STEP: "}
"""What Coqui's trainer writes when it is there."""
_JUDGES = ("ge2e", "campplus")
_HAS_TORCH = """import contextlib, sys
sys.argv = ["coqui-scl", "-h"]
from coqui_scl_plugin.cli import main
with contextlib.suppress(SystemExit):
    main()
sys.exit("torch" in sys.modules)"""


def _around(ours: Callable[[], float], other: Callable[[], float]) -> Times:
    """Time a command before and after another one, which takes minutes."""
    first, between, last = ours(), other(), ours()
    return Times({"ours": [first, last], "other": [between] * 2})


def help_of_the_command_line(effort: Effort) -> list[Row]:
    """Compare `coqui-scl -h` with `python -c "import typer"`."""
    with tempfile.TemporaryDirectory() as folder:
        timed = Timed(effort, Path(folder))
        works = {
            "coqui-scl -h": functools.partial(timed.seconds, [COQUI_SCL, "-h"]),
            "import typer": functools.partial(timed.seconds, python("-c", "import typer")),
        }
        times = Times(by_turns(works, 1 + 2 * effort.rounds))
        status = subprocess.run(python("-c", _HAS_TORCH), check=False, capture_output=True, cwd=folder).returncode
    return [{
        "case": "coqui-scl -h", "ms": times.milliseconds("coqui-scl -h"), "of_typer": times.ratio(*works),
        "imports_torch": bool(status),
    }]  # fmt: skip


def embedding(effort: Effort) -> list[Row]:
    """Compare `coqui-scl embed` with `TTS.bin.compute_embeddings`: Coqui's ResNet and the same recordings."""
    files, recordings = resnet_files(), listed()
    numbers = itertools.count()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        timed = Timed(effort, folder)
        section = {"encoders": [{"name": "coqui", "params": files.params()}]}

        def ours() -> float:
            empty = folder / f"run {next(numbers)}"
            empty.mkdir()
            return timed.seconds(
                [COQUI_SCL, "embed", "--config_path", str(write_config(empty, recordings, scl=section))]
            )

        config = str(write_config(folder, recordings, model="vits", scl=section))
        stock = python("-m", "TTS.bin.compute_embeddings", "--no_eval", "--config_dataset_path", config)
        stock += ["--model_path", str(files.model_path), "--config_path", str(files.config_path)]
        stock += ["--output_path", str(folder / "speakers.pth")]
        times = _around(ours, functools.partial(timed.seconds, stock))
    return [{
        "case": f"{len(recordings)} recordings", "s": times.of("ours"), "stock_s": times.of("other"),
        "times_as_fast": times.ratio("other", "ours"),
    }]  # fmt: skip


def evaluating(effort: Effort) -> list[Row]:
    """Compare `coqui-scl evaluate` of 1,000 pairs with a loop that embeds one recording at a time."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pairs, timed = str(write_pairs(folder)), Timed(effort, folder)
        chosen = [part for judge in _JUDGES for part in ("--encoder", judge)]
        command = [COQUI_SCL, "evaluate", "--pairs", pairs, *chosen, "--out", str(folder / "out")]
        loop = python("-m", "benchmarks.speed.one_by_one", pairs, *_JUDGES)
        times = _around(functools.partial(timed.seconds, command), functools.partial(timed.seconds, loop))
    return [{
        "case": f"{PAIRS:,} pairs", "s": times.of("ours"), "loop_s": times.of("other"),
        "times_as_fast": times.ratio("other", "ours"),
    }]  # fmt: skip


def starting(effort: Effort) -> list[Row]:
    """Compare `coqui-scl train` of the recipe, references cached, with stock's training command and the same model."""
    numbers = itertools.count()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        timed = Timed(effort, folder)
        ours = str(write_config(folder, listed(), print_step=1))
        stock = str(write_config(folder, listed(), print_step=1, model="vits", scl=None))
        timed.seconds([COQUI_SCL, "embed", "--config_path", ours])

        def started(command: Sequence[str]) -> list[float]:
            return timed.seconds_until([*command, f"--coqpit.run_name=run{next(numbers)}"], list(_PLACES.values()))

        commands = {
            "ours": [COQUI_SCL, "train", "--config_path", ours],
            "stock": python("-m", "TTS.bin.train_tts", "--config_path", stock),
        }
        works = {whose: functools.partial(started, command) for whose, command in commands.items()}
        found = by_turns(works, min(2, effort.rounds))
        checks = [timed.seconds([COQUI_SCL, "preflight", "--config_path", ours])] * len(found["stock"])
    places = [
        (place, Times({whose: [times[number] for times in runs] for whose, runs in found.items()} | {"checks": checks}))
        for number, place in enumerate(_PLACES)
    ]
    rows = [
        {"case": place, "s": t.of("ours"), "stock_s": t.of("stock"), "of_stock": t.ratio("ours", "stock")}
        for place, t in places
    ]
    begins = places[0][1]
    return [
        *rows,
        {"case": "`coqui-scl preflight` alone", "s": begins.of("checks"), "of_stock": begins.ratio("checks", "stock")},
    ]
