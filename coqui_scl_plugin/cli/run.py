"""`coqui-scl run`: Coqui's own commands with this package imported, so that they know `scl_vits`."""

import importlib.util
import sys
from collections.abc import Sequence

import typer

from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.utils.suggest import did_you_mean


def run(ctx: typer.Context) -> None:
    """Run any Coqui command with this package imported: run -m TTS.bin.NAME ..., or run tts ..."""
    arguments = list(ctx.args)
    if arguments[:1] == ["-m"] and len(arguments) > 1:
        run_module(arguments[1], arguments[2:])
    elif arguments and not arguments[0].startswith("-"):
        run_script(arguments[0], arguments[1:])
    else:
        raise ConfigError("run needs a command: coqui-scl run -m TTS.bin.NAME ..., or coqui-scl run tts ...")


def run_module(name: str, arguments: Sequence[str]) -> None:
    """Do `python -m NAME ARGUMENTS` in this process. Raises ConfigError if there is no such module."""
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise ConfigError(f"There is no module {name!r}. Coqui's own are named TTS.bin.NAME.")
    import runpy

    sys.argv = [name, *arguments]
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def run_script(name: str, arguments: Sequence[str]) -> None:
    """Run a console script of an installed distribution, such as `tts`. Raises ConfigError if there is none."""
    import importlib.metadata

    scripts = importlib.metadata.entry_points(group="console_scripts")
    for script in scripts.select(name=name):
        sys.argv = [name, *arguments]
        sys.exit(script.load()())
    coqui = {script.name for script in scripts if script.value.startswith("TTS.")}
    raise ConfigError(f"{name!r} is not an installed command; for a module, use -m. {did_you_mean(name, coqui)}")
