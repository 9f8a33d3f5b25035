"""What the figures ought to be."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Target:
    """A bound of a value of a figure."""

    what: str
    figure: str
    case: str
    key: str
    bound: float
    digits: int = 2
    percent: bool = False
    at_least: bool = False

    def value(self, figures: dict[str, Any]) -> float | None:
        """Return the median that was measured; None if it was not."""
        rows = figures.get(self.figure, {}).get("rows", [])
        found = next((row[self.key] for row in rows if row["case"] == self.case and self.key in row), None)
        return found["median"] if isinstance(found, dict) else found

    def is_met(self, value: float) -> bool:
        """Tell whether a value keeps the bound."""
        return value >= self.bound if self.at_least else value <= self.bound


TARGETS = (
    Target("the term against stock's: cached references", "term", "cached references", "of_stock", 0.34),
    Target("the same in bfloat16", "bfloat16", "cached references", "of_stock", 0.24),
    Target("the same with `segment` references", "term", "segment references", "of_stock", 0.48),
    Target("memory that the term's graph keeps, against stock's", "term", "cached references", "mib_of_stock", 0.35),
    Target("a step of 8 recordings, the loss as by default, against one without", "step", "default, batch of 8",
           "of_without", 1.25),
    Target("a step of 32", "step", "default, batch of 32", "of_without", 1.25),
    Target("an ensemble of 3, against the sum of its members", "ensembles", "3, default window", "of_the_sum", 0.95),
    Target("`angular_margin`, 100,000 prototypes, ms beyond `cosine`", "speakers", "100,000 speakers", "excess_ms", 10),
    Target("no encoder and no decoder pass, of a step", "own", "default", "share", 0.01, 1, percent=True),
    Target("waits for the device that the package adds to a step", "waits", "default", "ours", 0, 0),
    Target(
        "`coqui-scl embed`, times as fast as Coqui's", "embed", "100 recordings", "times_as_fast", 5, 1, at_least=True
    ),
    Target(
        "`coqui-scl evaluate`, times as fast as one recording at a time", "evaluate", "1,000 pairs", "times_as_fast", 4,
        1, at_least=True,
    ),
    Target("`coqui-scl -h`, against `import typer`", "help", "coqui-scl -h", "of_typer", 1.5),
    Target("`coqui-scl -h` imports torch", "help", "coqui-scl -h", "imports_torch", 0, 0),
    Target("`coqui-scl train` until step 1 is done, against stock's", "start", "step 1 is done", "of_stock", 1.3),
)  # fmt: skip
