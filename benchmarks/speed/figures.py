"""All figures: how each is measured, and the columns of its table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from benchmarks.speed import command_figures, step_figures, term_figures
from benchmarks.speed.results import Row
from benchmarks.speed.timing import Effort


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    title: str
    digits: int = 0
    """Digits after the point of a number."""
    percent: bool = False


_MS, _SECONDS, _MIB = Column("ms"), Column("s", 1), Column("MiB kept")


@dataclass(frozen=True)
class Figure:
    """A figure."""

    measure: Callable[[Effort], list[Row]]
    columns: Mapping[str, Column]
    """By key of a row."""
    case: str = "case"
    """Title of the first column."""
    one_thread: bool = field(default=False)
    """Whether it is measured with one thread as well."""


_AGAINST_STOCK = {
    "ms": _MS,
    "of_stock": Column("time, of stock's", 2),
    "mib": _MIB,
    "mib_of_stock": Column("memory, of stock's", 2),
}

FIGURES: Mapping[str, Figure] = {
    "term": Figure(term_figures.against_stock, _AGAINST_STOCK, "term with Coqui's ResNet", one_thread=True),
    "bfloat16": Figure(term_figures.in_bfloat16, _AGAINST_STOCK, "the same in bfloat16", one_thread=True),
    "encoders": Figure(
        term_figures.by_encoder, {"ms": _MS, "of_resnet": Column("time, of the ResNet's", 2), "mib": _MIB}, "encoder"
    ),
    "ensembles": Figure(
        term_figures.ensembles, {"ms": _MS, "of_the_sum": Column("time, of the members' alone", 2)}, "encoders"
    ),
    "speakers": Figure(
        term_figures.by_speakers,
        {
            "excess_ms": Column("ms more than `cosine`", 1),
            "cosine_ms": Column("ms of `cosine`", 1),
            "mib": Column("MiB kept", 1),
        },
        "`angular_margin`, centroids of",
    ),
    "step": Figure(
        step_figures.of_a_step,
        {
            "ms": Column("ms of a step with the loss"),
            "of_without": Column("time, of a step without the loss", 2),
            "mib": _MIB,
        },
        "window, items, steps",
        one_thread=True,
    ),
    "full_step": Figure(
        step_figures.of_a_full_size_step,
        {
            "ms": Column("ms of a step with the loss"),
            "of_without": Column("time, of a step without the loss", 2),
            "mib": _MIB,
        },
        "window, items, steps",
    ),
    "own": Figure(
        step_figures.own_share,
        {
            "ms": Column("ms of a step"),
            "own_ms": Column("ms of it in this package, no pass", 1),
            "share": Column("share", 1, percent=True),
        },
        "section",
    ),
    "waits": Figure(
        step_figures.waits,
        {"ours": Column("waits of this package"), "stock": Column("waits of Coqui's own")},
        "section",
    ),
    "guards": Figure(
        step_figures.guards,
        {
            "a_step": Column("times a step", 2),
            "ms": Column("ms each", 1),
            "share": Column("share of a step", 2, percent=True),
        },
        "guard",
    ),
    "help": Figure(
        command_figures.help_of_the_command_line,
        {"ms": _MS, "of_typer": Column("time, of `import typer`", 2), "imports_torch": Column("imports torch")},
        "command",
    ),
    "start": Figure(
        command_figures.starting,
        {"s": _SECONDS, "stock_s": Column("s, stock's", 1), "of_stock": Column("time, of stock's", 2)},
        "`coqui-scl train`, until",
    ),
    "embed": Figure(
        command_figures.embedding,
        {"s": _SECONDS, "stock_s": Column("s, `compute_embeddings`", 1), "times_as_fast": Column("times as fast", 1)},
        "`coqui-scl embed`",
    ),
    "evaluate": Figure(
        command_figures.evaluating,
        {"s": _SECONDS, "loop_s": Column("s, one at a time", 1), "times_as_fast": Column("times as fast", 1)},
        "`coqui-scl evaluate`",
    ),
}
