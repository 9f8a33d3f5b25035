"""`coqui-scl disable`: undo `coqui-scl enable`."""

import json
import sys
from typing import Annotated

import typer


def disable(as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a sentence.")] = False) -> None:
    """Undo coqui-scl enable: remove its line from the packages of the active environment."""
    from coqui_scl_plugin.utils import startup_line
    from coqui_scl_plugin.utils.shown import printable

    removed = startup_line.disable()
    if as_json:
        found = {"enabled": False, "changed": bool(removed), "removed": [str(file) for file in removed]}
        sys.stdout.write(json.dumps({**found, "interpreter": sys.executable}, indent=2) + "\n")
        return
    did = "Disabled" if removed else "Was not enabled, nothing changed"
    lines = [f"{did} for {sys.executable}.", *(f"  removed {file}" for file in removed)]
    sys.stdout.write("".join(f"{printable(line)}\n" for line in lines))
