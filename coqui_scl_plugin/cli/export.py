"""The command `coqui-scl export`. Heavy imports are inside functions, so that its help is fast."""

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer


def export(
    ctx: typer.Context,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder, as Coqui's trainer leaves it.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to make.")],
    checkpoint: Annotated[
        Path | None, typer.Option(help="Model of the run. Default: its best model, or else its latest checkpoint.")
    ] = None,
    discriminator: Annotated[
        bool, typer.Option("--discriminator", help="Take the discriminator along, for further training.")
    ] = False,
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Also write model.onnx, checked against torch; needs [onnx].")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a former export in OUT; a completed card is kept.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the summary.")] = False,
) -> None:
    """Export a run as a stock model folder, which tts, tts-server and TTS.api load without this package.

    It holds weights, config.json with "model": "vits", speakers and languages, and a README.md to complete; no path of
    this machine. Before it appears, its speech is compared with the run's, bit by bit. At the end of the line,
    --coqpit.KEY VALUE overrides single values of the run's config. See docs/export.md.
    """
    from rich.console import Console

    from coqui_scl_plugin.coqui.export import ExportOptions, export_run

    options = ExportOptions(run, out, checkpoint, discriminator, onnx, force, ctx.args)
    with Console(stderr=True).status("Exporting") as status:
        found = export_run(options, lambda stage: status.update(stage))
    if as_json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    else:
        sys.stdout.write(_summary(found))


def _summary(found: Mapping[str, Any]) -> str:
    from coqui_scl_plugin.utils.shown import printable

    out, speakers, languages = Path(found["out"]), found["speakers"], found["languages"]
    lines = [
        f"Exported {found['checkpoint']} to {out}",
        f"  speakers: {len(speakers) or 'one, without a name'}; languages: {', '.join(languages)}",
        "  speaks the same as the run, bit by bit",
        *(f"  {name:18} {size / 1e6:8.2f} MB" for name, size in found["files"].items()),
    ]
    if (difference := found["onnx_difference"]) is not None:
        lines.append(f"  model.onnx differs from torch by {difference:.1g} of the loudest sample at most")
    speaker = f" --speaker_idx {shlex.quote(speakers[0])}" if len(speakers) > 1 else ""
    language = f" --language_idx {shlex.quote(languages[0])}" if len(languages) > 1 else ""
    model, config = (shlex.quote(str(out / name)) for name in ("model.pth", "config.json"))
    if "README.former.md" in found["files"]:
        lines.append("README.former.md is the card that you had completed.")
    lines += [
        "README.md has a section to fill in: the licence of the data.",
        f"tts --model_path {model} --config_path {config}{speaker}{language} --text ...",
    ]
    return "".join(f"{printable(line)}\n" for line in lines)
