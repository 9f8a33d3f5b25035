"""The command `coqui-scl demo`. Heavy imports are inside functions, so that its help is fast."""

import os
from typing import Annotated

import typer

from coqui_scl_plugin.cli.options import takes_options
from coqui_scl_plugin.demo.options import DemoOptions


@takes_options
def demo(
    options: DemoOptions,
    as_json: Annotated[bool, typer.Option("--json", help="Print results.json instead of the table.")] = False,
) -> None:
    """Fine-tune a small multi-speaker VITS twice from one start that speaks, without and with the loss, and compare.

    The loss trains against the encoders ge2e and campplus; dvector is held out. Ends with 1 if an encoder moved or no
    gradient arrived.
    """
    os.environ.setdefault("TQDM_DISABLE", "1")  # Coqui's bars for every data loader would tear the demo's own
    from coqui_scl_plugin.demo.run import run_demo

    run_demo(options, as_json=as_json)
