"""The checkpoint that a run continues or starts from: read safely, judged as a file, and loaded as the trainer does."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from trainer.generic_utils import set_partial_state_dict
from TTS.tts.models.vits import Vits

from coqui_scl_plugin.coqui.row_names import config_beside, rows_of_checkpoint
from coqui_scl_plugin.coqui.sound_checkpoint import sound_beside
from coqui_scl_plugin.errors import ConfigError, RestoreError
from coqui_scl_plugin.preflight.facts import Restored
from coqui_scl_plugin.preflight.report import some
from coqui_scl_plugin.utils.checkpoint import damaged_part, read_checkpoint, why_unreadable, with_present_names
from coqui_scl_plugin.utils.log_level import log_level

_MODELS = ("vits", "scl_vits")
_ENCODERS = "speaker_encoder"
"""Beginning of the names of encoders, and of the loss, which a run makes anew."""
_GENERATOR = ("text_encoder.", "posterior_encoder.", "flow.", "duration_predictor.", "waveform_decoder.")
_KINDS = {
    "a vocoder": ("model_g.", "model_disc.", "generator.", "conv_pre.", "resblocks."),
    "a speaker encoder": ("layers.0.lstm", "torch_spec.", "instancenorm.", "lstm.", "conv1."),
    "a VITS of another project (its names of modules differ, as in MMS)": ("enc_p.", "enc_q.", "dec."),
    "XTTS or Tortoise": ("gpt.", "xtts.", "autoregressive."),
    "another model of Coqui's": ("encoder.", "decoder.", "embedding."),
}
"""Beginnings of the names of tensors, by what they are of."""
_MAX_SHOWN, _MAX_INTEGER, _CONFIG_DEPTH = 80, 2**63, 10


def read_restored(path: str, *, continues: bool, match_rows: bool = False) -> Restored | None:
    """Read the checkpoint that a run continues or starts from; None if it is not a local file.

    Args:
        path: Its path.
        continues: Whether the run goes on with its optimizer state.
        match_rows: Whether rows of its tables are carried by name; a continued run does not need it.

    Raises:
        ConfigError: it is not a checkpoint of a VITS by Coqui's trainer; says what it is.
    """
    match_rows = match_rows and not continues
    if not Path(path).is_file():
        if match_rows:
            raise ConfigError(
                f"scl.restore.match_rows = true needs a local file: download {path}, and name the copy in "
                "--restore_path."
            )
        return None
    where = f"The checkpoint {path}" if continues else f"--restore_path {path}"
    try:
        state = read_checkpoint(path)
    except Exception as error:  # whatever the bytes of a file of the wrong kind bring about
        instead = sound_beside(Path(path))
        hint = f" The newest sound checkpoint beside it is {instead}." if instead is not None else ""
        msg = f"{where} is not a readable checkpoint: it is {why_unreadable(path, error)}.{hint}"
        raise ConfigError(msg) from error
    if (wrong := _why_no_weights(state) or _why_not_vits(state) or _why_not_trainers(state)) is not None:
        raise ConfigError(f"{where} is not a checkpoint of a VITS by Coqui's trainer: {wrong}.")
    weights = with_present_names(state["model"])
    sizes = {name: tuple(value.shape) for name, value in weights.items() if isinstance(value, Tensor)}
    own, damaged = state.get("config"), damaged_part(path)
    config = _plain(own if isinstance(own, Mapping) and own else config_beside(Path(path)))
    return Restored(
        str(path),
        sizes,
        continues=continues,
        continues_optimizers=continues and any(state_of.get("state") for state_of in _optimizers(state)),
        matches_rows=match_rows,
        rows=rows_of_checkpoint(config, Path(path), sizes),
        config=config,
        damaged=damaged,
        instead=None if damaged is None or (sound := sound_beside(Path(path))) is None else str(sound),
    )


def restore(model: Vits, restored: Restored) -> None:
    """Load a checkpoint as Coqui's trainer does, which leaves out weights that do not fit. Raises RestoreError."""
    weights = read_checkpoint(restored.path)["model"]
    check_usable(model, weights, restored)
    try:
        model.load_state_dict(weights)
    except (KeyError, RuntimeError, ValueError):
        with log_level(logging.WARNING, "trainer"):  # the check of the weights says which are left out
            model.load_state_dict(set_partial_state_dict(model.state_dict(), weights, model.config))


# --- the file ---------------------------------------------------------------------------------------------------------


def _optimizers(state: Mapping[str, Any]) -> list[Any]:
    given = state.get("optimizer")
    return [given] if isinstance(given, Mapping) else given or []


def _why_no_weights(state: Any) -> str | None:
    """Say what a file holds in place of tensors by name under `model`; None if it has those."""
    if not isinstance(state, Mapping):
        return f"its content is {_kind(state)} instead of a mapping"
    if "model" not in state:
        if state and all(isinstance(value, Tensor) for value in state.values()):
            return (
                "it holds weights alone, under no key 'model'. If they are a VITS's, save them as "
                '{"model": weights, "step": 0, "epoch": 0}'
            )
        return f"it has no key 'model', but {_shown(state)}"
    weights = state["model"]
    if not isinstance(weights, Mapping):
        return f"its 'model' is {_kind(weights)} instead of tensors by name"
    if others := [name for name in weights if not isinstance(name, str)]:
        return f"its 'model' has keys that are no names of tensors, such as {_short(others[0])}"
    if not any(isinstance(value, Tensor) for value in weights.values()):
        return f"its 'model' holds no tensors, but {_shown(weights)}" if weights else "its 'model' is empty"
    return None


def _why_not_trainers(state: Mapping[str, Any]) -> str | None:
    """Say which entry beside the weights is not what Coqui's trainer saves and reads; None if all are."""
    for key in ("step", "epoch"):
        if key not in state:
            return f"it lacks the key {key!r}, a number"
        if not isinstance(state[key], int | float) or isinstance(state[key], bool):
            return f"its {key!r} is {_kind(state[key])} instead of a number"
        if not 0 <= state[key] < _MAX_INTEGER:
            return f"its {key!r} is {_short(state[key])} instead of a count"
    given = state.get("optimizer")
    if given is not None and not isinstance(given, Mapping | list | tuple):
        return f"its 'optimizer' is {_kind(given)} instead of a list of states"
    if others := [each for each in _optimizers(state) if not isinstance(each, Mapping)]:
        return f"its 'optimizer' has an entry that is {_kind(others[0])} instead of a state"
    return None


def _why_not_vits(state: Mapping[str, Any]) -> str | None:
    """Say of what the weights in a checkpoint are, if no module of a VITS is among them."""
    weights, config = state["model"], state.get("config")
    if any(name.startswith(_GENERATOR) for name in weights):
        return None
    for name in weights:
        for module in _GENERATOR:
            if (prefix := name.partition(f".{module}")[0]) != name:
                return (
                    f"the names of its tensors begin with {_short(f'{prefix}.')}, as a wrapper such as DataParallel "
                    "saves them. Remove that from the names"
                )
    model = config.get("model") if isinstance(config, Mapping) else None
    if isinstance(model, str) and model not in _MODELS:
        return f"its config says that it is of the model {_short(model)} ({_shown(weights)})"
    kinds = [kind for kind, starts in _KINDS.items() if any(name.startswith(starts) for name in weights)]
    kind = kinds[0] if kinds else "something else"
    return f"it has none of the modules of a VITS; by its names it is of {kind} ({_shown(weights)})"


def _plain(value: Any, depth: int = _CONFIG_DEPTH) -> Any:
    """Return a value of a config as JSON could hold it, and None in place of anything else or deeper."""
    if depth and isinstance(value, Mapping):
        return {key: _plain(entry, depth - 1) for key, entry in value.items() if isinstance(key, str)}
    if depth and isinstance(value, list | tuple):
        return [_plain(entry, depth - 1) for entry in value]
    is_short = isinstance(value, str | bool | float) or (isinstance(value, int) and abs(value) < _MAX_INTEGER)
    return value if is_short else None


def _kind(value: Any) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"


def _short(value: Any) -> str:
    if isinstance(value, int) and abs(value) >= _MAX_INTEGER:
        return "a number of many digits"
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _shown(state: Mapping[Any, Any]) -> str:
    names = [name[:_MAX_SHOWN] if isinstance(name, str) else _short(name) for name in state]
    return f"the keys {some(names)}" if names else "nothing"


# --- the weights ------------------------------------------------------------------------------------------------------


def check_usable(model: Vits, weights: Mapping[str, Any], restored: Restored) -> None:
    """Check that a model can take each weight that fits it by its number of elements.

    Raises:
        RestoreError: one of them is no tensor of real numbers, has another shape, on which Coqui's trainer fails, or
            is not finite.
    """
    own, anew = model.state_dict(), getattr(model.config, "reinit_layers", None) or ()
    given = with_present_names(weights)
    names = [name for name in own if name in given and not name.startswith(_ENCODERS)]
    names = [name for name in names if not any(layer in name for layer in anew)]
    for name in restored.rows if restored.matches_rows else ():  # of which each row is carried by itself
        if name in names and isinstance(given[name], Tensor) and given[name].dim() == own[name].dim():
            own[name] = own[name].new_empty((len(given[name]), *own[name].shape[1:]))
    for wrong, change in _WRONGS:
        found = {name: said for name in names if (said := wrong(own[name], given[name])) is not None}
        if found:
            first = next(iter(found))
            more = f", and {len(found) - 1} more tensors" if len(found) > 1 else ""
            damaged = "" if restored.damaged is None else " The file is damaged: a checksum in it is wrong."
            raise RestoreError(f"{restored.path}: {first} {found[first]}{more}.{damaged} {change}")


def _no_numbers(own: Tensor, given: Any) -> str | None:
    if not isinstance(given, Tensor):
        return f"is {_kind(given)} instead of a tensor"
    if given.is_meta:
        return "has no content (a tensor of the device meta)"
    if given.layout != torch.strided or given.is_quantized:
        return f"is a {'quantized' if given.is_quantized else 'sparse'} tensor instead of a dense one"
    if own.is_floating_point() and not given.is_floating_point():
        return f"holds numbers of type {given.dtype} instead of {own.dtype}"
    return None


def _other_shape(own: Tensor, given: Tensor) -> str | None:
    if own.numel() != given.numel() or own.shape == given.shape:
        return None
    return f"has the size {list(given.shape)}, and the model's {list(own.shape)}: as many numbers in another order"


def _not_finite(own: Tensor, given: Tensor) -> str | None:
    if own.shape != given.shape or not given.is_floating_point():
        return None
    count = int((~given.to(torch.float32).isfinite()).sum())
    return f"has {count} of {given.numel()} numbers that are not finite (NaN or infinite)" if count else None


_WRONGS = (
    (_no_numbers, "Save the weights again as plain tensors of floating-point numbers."),
    (_other_shape, "Coqui's trainer fails on it: set model_args to the architecture of the checkpoint."),
    (_not_finite, "The training that saved it had diverged: start from an earlier checkpoint."),
)
"""Each of these, and what to do."""
