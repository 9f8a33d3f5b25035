"""Options of the demo. Light, so that the command's help is fast."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer


@dataclass(frozen=True)
class DemoOptions:
    """Options of `coqui-scl demo`."""

    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder with metadata.csv in Coqui's `coqui` format, and its audio. Default: bundled speech."
        ),
    ] = None
    steps: Annotated[int, typer.Option(min=1, help="Training steps of each of the two runs.")] = 100
    batch_size: Annotated[int, typer.Option(min=2, help="Segments per step.")] = 4
    weight: Annotated[float, typer.Option(min=0.0, help="Weight of the speaker consistency loss.")] = 9.0
    seed: Annotated[int, typer.Option(min=0, help="Seed of data order, slices and speech from text.")] = 0
    out: Annotated[Path, typer.Option(help="Folder for results.json, the plot and audio.")] = Path("demo_out")
