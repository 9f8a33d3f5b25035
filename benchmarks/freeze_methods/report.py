"""The rows as a table for the console and for the documentation."""

import importlib.metadata
import platform
from collections.abc import Sequence
from typing import NamedTuple

import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table
from torch import nn

from benchmarks.freeze_methods.measure import Row
from benchmarks.freeze_methods.setting import RATE, SAMPLES, Setting
from benchmarks.markdown import table

_PACKAGES = ("torch", "coqui-tts")


class Column(NamedTuple):
    """A yes or no of a row."""

    field: str
    heading: str
    short: str
    """The heading for narrow columns, in words that fit their width."""
    wanted: bool
    """The value for an encoder that trains the generator and stays frozen."""


COLUMNS = (
    Column("weights_move", "weights move", "weights move", False),
    Column("buffers_move", "buffers move", "buffers move", False),
    Column("gradient_reaches_waveform", "gradient reaches the waveform", "grad at wave", True),
    Column("gradient_on_weights", "gradient on the weights", "grad on weights", False),
    Column("gradients_pile_up", "gradients pile up", "piles up", False),
    Column("left_by_model_zero_grad", "left by `model.zero_grad()`", "past zero_ grad", False),
    Column("survives_train", "in eval after `model.train()`", "eval after train", True),
    Column("moves_with_to", "moves with `model.to()`", "moves with to", True),
)


def _yes(row: Row, column: Column, bold: str) -> str:
    value: bool = getattr(row, column.field)
    text = "yes" if value else "no"
    return text if value == column.wanted else bold.format(text)


def _costs(row: Row) -> tuple[str, str]:
    return f"{row.milliseconds:.0f}", f"{row.mebibytes:.0f}"


def console_table(rows: Sequence[Row], without_term: Row) -> Table:
    """Format the rows for a terminal."""
    ms, mib = _costs(without_term)
    shown = Table(
        title="Ways to freeze a speaker encoder, measured; undesired values are bold",
        caption=f"A step without the speaker consistency loss: {ms} ms, {mib} MiB",
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=0,
    )
    shown.add_column("method", overflow="fold")
    for heading in (*(column.short for column in COLUMNS), "ms", "MiB"):
        shown.add_column(heading, justify="right", width=max(4, *map(len, heading.split())))
    for row in rows:
        shown.add_row(row.method, *(_yes(row, column, "[bold red]{}[/]") for column in COLUMNS), *_costs(row))
    return shown


def markdown(rows: Sequence[Row], without_term: Row, setting: Setting, steps: int) -> str:
    """Format the rows for the documentation, followed by the conditions of the measurement."""
    headings = ["method", *(column.heading for column in COLUMNS), "ms a step", "MiB a step"]
    lines = [[row.method, *(_yes(row, column, "**{}**") for column in COLUMNS), *_costs(row)] for row in rows]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    ms, mib = _costs(without_term)
    return (
        "<!-- made by `python -m benchmarks.freeze_methods --markdown docs/freeze_methods_table.md` -->\n"
        f"{table(headings, lines)}\n"
        f"Python {platform.python_version()}, {versions}; {torch.get_num_threads()} threads of a CPU. "
        f"Median of {steps} steps, peak of two. Batches of {len(setting.batches[0].real)} segments of {SAMPLES:,} "
        f"samples at {RATE:,} Hz. Parameters: generator {_size(setting.generator)}, "
        f"ResNet encoder {_size(setting.encoders['resnet'])}, LSTM encoder {_size(setting.encoders['lstm'])}. "
        f"The same step without the speaker consistency loss: {ms} ms, {mib} MiB.\n"
    )


def _size(module: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in module.parameters()):,}"
