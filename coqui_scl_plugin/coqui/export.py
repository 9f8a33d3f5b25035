"""Export of a run as a folder that a stock Coqui loads, without this package."""

import glob
import json
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from coqui_scl_plugin.config import read_config_file
from coqui_scl_plugin.coqui.card_facts import card_facts
from coqui_scl_plugin.coqui.onnx_model import export_onnx, import_onnxruntime
from coqui_scl_plugin.coqui.run_folder import TrainedRun, load_run
from coqui_scl_plugin.coqui.stock_model import StockModel, check_same_speech, load_stock, stock_model
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.evaluation.model_card import model_card, to_fill_in
from coqui_scl_plugin.utils.atomic import replacing_folder
from coqui_scl_plugin.utils.leftovers import remove_leftovers
from coqui_scl_plugin.utils.log_level import log_level
from coqui_scl_plugin.utils.shown import shorten

CARD = "README.md"
FORMER_CARD = "README.former.md"
_MARK = ("config.json", "model.pth", CARD)
"""Files by which a former export is known."""
_OTHERS = ("speaker_ids.json", "language_ids.json", "d_vectors.json", "model.onnx")


@dataclass(frozen=True)
class ExportOptions:
    """What to export, and where to."""

    run: Path
    out: Path
    checkpoint: Path | None = None
    """Model of the run; None: its best, or else its latest."""
    discriminator: bool = False
    onnx: bool = False
    force: bool = False
    """Replace a former export in `out`; a card that was completed stays as `FORMER_CARD`."""
    overrides: Sequence[str] = ()
    """`--coqpit.KEY VALUE` for the run's config."""


def export_run(options: ExportOptions, announce: Callable[[str], None]) -> dict[str, Any]:
    """Write the folder `options.out`, whole or not at all, and return what is in it.

    Before the folder appears, a stock model is loaded from it and compared with the run's, bit by bit.

    Args:
        options: What to export.
        announce: Called with the name of each stage as it begins.

    Raises:
        ConfigError: the run or an option cannot be used, or the folder cannot be written.
        SclError: the exported model would not speak the same.
    """
    out = _resolved(options.out)
    remove_leftovers(out.parent, f"{glob.escape(out.name)}.*")
    check_out(options)
    if options.onnx:
        import_onnxruntime()
    announce("Reading the run")
    run = _load(options)
    stock = stock_model(run, discriminator=options.discriminator)
    try:
        with log_level(logging.ERROR, "TTS"), replacing_folder(out) as temporary:
            difference = _fill(temporary, run, stock, options, announce)
            files = {file.name: file.stat().st_size for file in sorted(temporary.iterdir())}
    except OSError as error:
        raise ConfigError(f"{shorten(out)}: cannot be written: {error.strerror or error}.") from error
    return {
        "out": str(out), "run": str(run.folder), "checkpoint": run.checkpoint.name, "step": run.step,
        "speakers": stock.speakers, "languages": stock.languages, "sample_rate": stock.config["audio"]["sample_rate"],
        "discriminator": options.discriminator, "onnx_difference": difference, "files": files,
    }  # fmt: skip


def check_out(options: ExportOptions) -> None:
    """Check that the folder of an export may be written where it is to be. Raises ConfigError."""
    out, run = _resolved(options.out), _resolved(options.run)
    if out == run or run in out.parents or out in run.parents:
        raise ConfigError(f"{shorten(options.out)}: OUT must lie outside of the run folder {shorten(options.run)}.")
    try:
        taken = {file.name for file in out.iterdir()} if out.exists() else set()
    except NotADirectoryError as error:
        raise ConfigError(f"{shorten(options.out)}: OUT must be a folder to make; this is a file.") from error
    except OSError as error:
        raise ConfigError(f"{shorten(options.out)}: cannot be written: {error.strerror}.") from error
    if taken and not options.force:
        raise ConfigError(f"{shorten(options.out)} exists: name another folder, or replace it by --force.")
    if taken and (missing := [name for name in _MARK if name not in taken]):
        raise ConfigError(
            f"{shorten(options.out)}: --force replaces a former export only, and this folder lacks "
            f"{', '.join(missing)}. Name another folder."
        )
    if others := sorted(taken.difference(_MARK, _OTHERS)):
        raise ConfigError(
            f"{shorten(options.out)}: --force replaces a former export only, and this folder also has "
            f"{shorten(', '.join(others))}. Move that away, or name another folder."
        )


def _resolved(path: Path) -> Path:
    """Return what a path leads to in the end; of a link that leads to itself, the link."""
    return Path(os.path.realpath(path))


def _load(options: ExportOptions) -> TrainedRun:
    if not options.run.is_dir():
        raise ConfigError(f"{shorten(options.run)}: there is no such run folder.")
    with log_level(logging.ERROR, "TTS"):
        return load_run(options.run, options.checkpoint, options.overrides)


def _fill(
    folder: Path, run: TrainedRun, stock: StockModel, options: ExportOptions, announce: Callable[[str], None]
) -> float | None:
    """Write every file; return how far onnxruntime is from torch, None without it."""
    announce("Writing the weights")
    _write_json(folder / "config.json", stock.config)
    _write_weights(folder / "model.pth", {"model": stock.weights, "step": run.step or 0, "epoch": 0})
    if stock.speakers:
        _write_json(folder / "speaker_ids.json", {name: index for index, name in enumerate(stock.speakers)})
    if run.config.model_args.use_language_embedding:
        _write_json(folder / "language_ids.json", {name: index for index, name in enumerate(stock.languages)})
    if stock.d_vectors:
        entries = {name: {"name": name, "embedding": vector} for name, vector in stock.d_vectors.items()}
        _write_json(folder / "d_vectors.json", entries)
    announce("Comparing its speech with the run's")
    with torch.random.fork_rng(devices=[]):
        exported = load_stock(folder)
    check_same_speech(run, exported, stock.speakers)
    difference = None
    if options.onnx:
        announce("Writing model.onnx and comparing it with torch")
        difference = export_onnx(exported, folder / "model.onnx")
    card = model_card(card_facts(run, stock, read_config_file(str(run.folder / "config.json")), difference))
    (folder / CARD).write_text(card, encoding="utf-8", errors="backslashreplace")
    former = options.out / CARD
    if former.is_file() and to_fill_in(former.read_text(encoding="utf-8", errors="replace")) != to_fill_in(card):
        shutil.copyfile(former, folder / FORMER_CARD)
    return difference


def _write_json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _write_weights(file: Path, content: dict[str, Any]) -> None:
    with file.open("wb") as stream:  # given a path instead, torch hides why the disk refuses
        torch.save(content, stream)
