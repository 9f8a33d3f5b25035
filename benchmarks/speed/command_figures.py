"""Figures of whole commands, from their start on."""

import functools
import itertools
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.speed.commands import COQUI_SCL, Timed, python
from benchmarks.speed.data import PAIRS, rows, write_config, write_pairs
from benchmarks.speed.models import resnet_files
from benchmarks.speed.results import Row
from benchmarks.speed.timing import Effort, Times

_STEP_1 = r"-- STEP: \d+/"
"""What Coqui's trainer prints after the first step."""
_TRAINING = r"> TRAINING \("
"""What it prints before the first step."""
_JUDGES = ("ge2e", "campplus")
_HAS_TORCH = """import contextlib, sys
sys.argv = ["coqui-scl", "-h"]
from coqui_scl_plugin.cli import main
with contextlib.suppress(SystemExit):
    main()
sys.exit("torch" in sys.modules)"""


def _by_turns(works: dict[str, Callable[[], float]], rounds: int) -> Times:
    """Time commands once a round, in every other round from last to first."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds):
        for name in works if number % 2 == 0 else reversed(list(works)):
            seconds[name].append(works[name]())
    return Times(seconds)


def help_of_the_command_line(effort: Effort) -> list[Row]:
    """Compare `coqui-scl -h` with `python -c "import typer"`."""
    with tempfile.TemporaryDirectory() as folder:
        timed = Timed(effort, Path(folder))
        works = {
            "coqui-scl -h": functools.partial(timed.seconds, [COQUI_SCL, "-h"]),
            "import typer": functools.partial(timed.seconds, python("-c", "import typer")),
        }
        times = _by_turns(works, 1 + 2 * effort.rounds)
        status = subprocess.run(python("-c", _HAS_TORCH), check=False, capture_output=True, cwd=folder).returncode
    return [{
        "case": "coqui-scl -h", "ms": times.milliseconds("coqui-scl -h"), "of_typer": times.ratio(*works),
        "imports_torch": bool(status),
    }]  # fmt: skip


def embedding(effort: Effort) -> list[Row]:
    """Compare `coqui-scl embed` with `TTS.bin.compute_embeddings`: Coqui's ResNet and the same recordings."""
    files, recordings = resnet_files(), rows()
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

        config = str(write_config(folder, recordings, scl=section))
        stock = python("-m", "TTS.bin.compute_embeddings", "--no_eval", "--config_dataset_path", config)
        stock += ["--model_path", str(files.model_path), "--config_path", str(files.config_path)]
        stock += ["--output_path", str(folder / "speakers.pth")]
        seconds = [ours(), timed.seconds(stock), ours()]  # ours around stock's, since one of stock's takes a minute
    times = Times({"ours": seconds[::2], "stock": [seconds[1]] * 2})
    return [{
        "case": f"{len(recordings)} recordings", "s": times.of("ours"), "stock_s": times.of("stock"),
        "times_as_fast": times.ratio("stock", "ours"),
    }]  # fmt: skip


def evaluating(effort: Effort) -> list[Row]:
    """Compare `coqui-scl evaluate` of 1,000 pairs with a loop that embeds one recording at a time."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pairs, timed = str(write_pairs(folder)), Timed(effort, folder)
        chosen = [part for judge in _JUDGES for part in ("--encoder", judge)]
        command = [COQUI_SCL, "evaluate", "--pairs", pairs, *chosen, "--out", str(folder / "out")]
        loop = python("-m", "benchmarks.speed.one_by_one", pairs, *_JUDGES)
        seconds = [timed.seconds(command), timed.seconds(loop), timed.seconds(command)]
    times = Times({"ours": seconds[::2], "loop": [seconds[1]] * 2})
    return [{
        "case": f"{PAIRS:,} pairs", "s": times.of("ours"), "loop_s": times.of("loop"),
        "times_as_fast": times.ratio("loop", "ours"),
    }]  # fmt: skip


def starting(effort: Effort) -> list[Row]:
    """Compare `coqui-scl train` of the recipe, references cached, with stock's training command and the same model."""
    numbers = itertools.count()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        timed = Timed(effort, folder)
        ours = str(write_config(folder, rows(), print_step=1))
        stock = str(write_config(folder, rows(), print_step=1, model="vits", scl=None))
        timed.seconds([COQUI_SCL, "embed", "--config_path", ours])

        def until(place: str, command: Sequence[str]) -> float:
            return timed.seconds([*command, f"--coqpit.run_name=run{next(numbers)}"], until=place)

        train, stocks = (
            [COQUI_SCL, "train", "--config_path", ours],
            python("-m", "TTS.bin.train_tts", "--config_path", stock),
        )
        works = {
            f"{whose}, {where}": functools.partial(until, place, command)
            for where, place in (("step 1 begins", _TRAINING), ("step 1 is done", _STEP_1))
            for whose, command in (("coqui-scl", train), ("stock", stocks))
        }
        works["preflight"] = functools.partial(timed.seconds, [COQUI_SCL, "preflight", "--config_path", ours])
        times = _by_turns(works, min(2, effort.rounds))
    return [
        {
            "case": where,
            "s": times.of(f"coqui-scl, {where}"),
            "stock_s": times.of(f"stock, {where}"),
            "of_stock": times.ratio(f"coqui-scl, {where}", f"stock, {where}"),
        }
        for where in ("step 1 begins", "step 1 is done")
    ] + [
        {
            "case": "coqui-scl preflight",
            "s": times.of("preflight"),
            "of_stock": times.ratio("preflight", "stock, step 1 begins"),
        }
    ]
