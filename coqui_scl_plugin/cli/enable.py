"""`coqui-scl enable`: let Coqui's own commands know `scl_vits`."""

import json
import sys
from typing import Annotated

import typer


def enable(as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a sentence.")] = False) -> None:
    """Let Coqui's own commands know scl_vits: python -m TTS.bin.train_tts, tts and tts-server, and any script.

    Writes one file with one line, coqui_scl_plugin-enable.pth, into the packages of the active environment. Python then
    starts as fast as before. coqui-scl disable removes it.
    """
    from coqui_scl_plugin.utils import startup_line
    from coqui_scl_plugin.utils.shown import printable

    file, changed = startup_line.enable()
    environment = startup_line.in_virtual_environment()
    if as_json:
        found = {"enabled": True, "changed": changed, "file": str(file), "interpreter": sys.executable}
        sys.stdout.write(json.dumps({**found, "virtual_environment": environment}, indent=2) + "\n")
        return
    did = "Enabled" if changed else "Already enabled, nothing changed"
    where = "" if environment else ", which is no virtual environment: it holds for every program that it runs"
    sys.stdout.write(printable(f"{did} for {sys.executable}{where}.") + "\n" + printable(f"  {file}") + "\n")
