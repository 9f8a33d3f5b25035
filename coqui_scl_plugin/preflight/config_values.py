"""Check of single values in Coqui's half of the config: their types, and the numbers that they may be."""

import dataclasses
import importlib.util
import inspect
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from coqui_scl_plugin.preflight.config_types import Misfit, at, default_at, fit
from coqui_scl_plugin.preflight.coqui_tools import CoquiTools
from coqui_scl_plugin.preflight.facts import ConfigFacts
from coqui_scl_plugin.preflight.report import Finding
from coqui_scl_plugin.utils.shown import shortened, typed
from coqui_scl_plugin.utils.suggest import nearest

_ABOVE_0 = (
    "epochs", "batch_size", "eval_batch_size", "print_step", "plot_step", "save_step", "save_n_checkpoints",
    "log_model_step", "run_eval_steps", "lr_gen", "lr_disc", "r", "eval_split_max_size",
    "audio.hop_length", "audio.win_length",
)  # fmt: skip
_ARGS_ABOVE_0 = (
    "out_channels", "spec_segment_size", "hidden_channels", "hidden_channels_ffn_text_encoder",
    "num_heads_text_encoder", "kernel_size_text_encoder", "kernel_size_posterior_encoder",
    "dilation_rate_posterior_encoder", "kernel_size_flow", "dilation_rate_flow", "resblock_kernel_sizes_decoder",
    "resblock_dilation_sizes_decoder", "upsample_rates_decoder", "upsample_initial_channel_decoder",
    "upsample_kernel_sizes_decoder", "periods_multi_period_discriminator", "length_scale", "max_inference_len",
    "speaker_embedding_channels", "embedded_language_dim", "encoder_sample_rate",
)  # fmt: skip
_NOT_BELOW_0 = (
    "num_loader_workers", "num_eval_loader_workers", "precompute_num_workers", "batch_group_size", "save_best_after",
    "min_audio_len", "max_audio_len", "min_text_len", "max_text_len", "eval_split_size", "kl_loss_alpha",
    "disc_loss_alpha", "gen_loss_alpha", "feat_loss_alpha", "mel_loss_alpha", "dur_loss_alpha",
    "speaker_encoder_loss_alpha", "training_seed", "grad_clip", "audio.trim_db",
    "model_args.d_vector_dim", "model_args.noise_scale", "model_args.inference_noise_scale",
    "model_args.noise_scale_dp", "model_args.inference_noise_scale_dp", "model_args.num_layers_text_encoder",
    "model_args.num_layers_posterior_encoder", "model_args.num_layers_flow",
)  # fmt: skip
_SHARES = ("model_args.dropout_p_text_encoder", "model_args.dropout_p_duration_predictor")
_LAYERS = tuple(f"model_args.num_layers_{name}" for name in ("text_encoder", "posterior_encoder", "flow"))
_MAX_LAYERS = 1000  # of which a model is not made within minutes
_MAX_SEED = 2**32 - 1  # of numpy
_NAMES = {
    "precision": ("fp16", "bf16"),
    "dashboard_logger": ("tensorboard", "wandb", "mlflow", "aim", "clearml"),
    "model_args.resblock_type_decoder": ("1", "2"),
}
"""What keys may be whose type says no more than that they are strings."""


_PLAIN_SCHEDULES = ("ExponentialLR", "StepLR")


def check_values(facts: ConfigFacts) -> list[Finding]:
    """Each value of Coqui's half of the config has the type of its key, and is a number that can be."""
    config = facts.config
    wrong = {misfit.key: misfit for misfit in fit(config, config)[1]}
    for misfit in fit(facts.written or {}, type(config))[1]:
        if not _is_overridden(config, misfit.key):
            wrong[misfit.key] = misfit
    findings = [_misfit(misfit, type(config)) for misfit in wrong.values()]
    findings += [finding for key, finding in _numbers(config) if not _is_about(key, wrong)]
    if facts.written is not None:  # the samples of a script may come from elsewhere
        findings += [
            f for i, dataset in enumerate(config.datasets) for f in _dataset(f"datasets.{i}", dataset, facts.coqui)
        ]
    return findings + (_pairs(config) + _training(config, facts.coqui) if not findings else [])


def is_lost(facts: ConfigFacts, key: str) -> bool:
    """Tell whether a key has its default because the value that was written for it, or its section, is unfit."""
    misfits = fit(facts.written or {}, type(facts.config))[1]
    lost = any(key == misfit.key or key.startswith(f"{misfit.key}.") for misfit in misfits)
    return lost and not _is_overridden(facts.config, key)


def _is_overridden(config: Any, key: str) -> bool:
    """Tell whether an option has put another value in the place of the one that was written and is unfit."""
    return bool(at(config, key) != default_at(type(config), key))


def _is_about(key: str, wrong: Iterable[str]) -> bool:
    return any(key == other or key.startswith(f"{other}.") or other.startswith(f"{key}.") for other in wrong)


def _misfit(misfit: Misfit, config: Any) -> Finding:
    key, value = misfit.key, misfit.value
    head, dot, _ = key.partition(".")
    default = default_at(config, key)
    if misfit.is_refused:
        change = "Correct it: Coqui refuses the config without a word."
    elif value is None:
        change = "Give it a value, or remove the key."
    elif isinstance(value, float) and math.isfinite(value) and misfit.expected.startswith("a whole number"):
        change = f"Correct it: Coqui would cut it to {typed(int(value))}."
    elif dot:
        change = f"Correct it: Coqui would only warn, and take the default of the whole of {head} instead."
    elif dataclasses.is_dataclass(default):
        change = "Correct it: Coqui would only warn, and take the defaults of the section instead."
    else:
        change = f"Correct it: Coqui would only warn, and take its default instead ({typed(default)})."
    return Finding(f"{key} = {typed(value)}: must be {misfit.expected}.", change)


# --- numbers ----------------------------------------------------------------------------------------------------------


def _numbers(config: Any) -> Iterator[tuple[str, Finding]]:
    for key in (*_ABOVE_0, *(f"model_args.{name}" for name in _ARGS_ABOVE_0)):
        yield from _bounded(config, key, "must be above 0", lambda number: number > 0)
    for key in _NOT_BELOW_0:
        yield from _bounded(config, key, "must not be below 0", lambda number: number >= 0)
    for key in _SHARES:
        yield from _bounded(config, key, "must be at least 0 and below 1", lambda number: 0 <= number < 1)
    for key in _LAYERS:
        yield from _bounded(config, key, f"must not be above {_MAX_LAYERS}", lambda layers: layers <= _MAX_LAYERS)
    yield from _bounded(config, "training_seed", f"must not be above {_MAX_SEED}", lambda seed: seed <= _MAX_SEED)
    yield from _bounded(config, "audio.min_level_db", "must not be 0", lambda level: level != 0)


def _bounded(config: Any, key: str, rule: str, holds: Any) -> Iterator[tuple[str, Finding]]:
    value = at(config, key)
    numbers = [number for number in _flat(value) if isinstance(number, int | float) and not isinstance(number, bool)]
    if not all(map(holds, numbers)):
        what = "" if value in numbers else "each of its numbers "
        yield key, Finding(f"{key} = {typed(value)}: {what}{rule}.", "Correct it.")


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _flat(item)
    else:
        yield value


# --- values that belong together --------------------------------------------------------------------------------------


def _pairs(config: Any) -> list[Finding]:
    findings = []
    for kind in ("audio", "text"):
        low, high = getattr(config, f"min_{kind}_len"), getattr(config, f"max_{kind}_len")
        if low > high:
            found = f"min_{kind}_len = {typed(low)} is above max_{kind}_len = {typed(high)}: no sample fits."
            findings.append(Finding(found, "Exchange or correct them."))
    clips = config.grad_clip
    if isinstance(clips, list | tuple) and len(clips) != 2:
        found = f"grad_clip = {typed(clips)}: must be a list of two numbers, for the discriminator and the generator."
        findings.append(Finding(found, "Correct it, e.g. [1000, 1000]; 0 stands for no clipping."))
    for key, names in _NAMES.items():
        value = at(config, key)
        if value is not None and value not in names and (key != "precision" or config.mixed_precision):
            found = f"{key} = {typed(value)}: must be {' or '.join(map(repr, names))}."
            findings.append(Finding(found, "Correct it."))
    logger = config.dashboard_logger
    if logger in _NAMES["dashboard_logger"] and importlib.util.find_spec(logger) is None:
        found = f"dashboard_logger = {typed(logger)}: the package {logger} is not installed."
        findings.append(Finding(found, f"Install it (pip install {logger}), or set dashboard_logger to 'tensorboard'."))
    return findings


def _dataset(key: str, dataset: Any, coqui: CoquiTools | None) -> Iterator[Finding]:
    if not dataset.path:
        found = f"{key}.path = {typed(dataset.path)}: must be the folder of the data set."
        yield Finding(found, "Set it.")
    name = dataset.formatter
    if coqui is not None and str(name).lower() not in coqui.formatters:
        near = nearest(name, coqui.formatters)
        hint = f"Did you mean {near[0]!r}?" if near else "It reads the table of the data set; the simplest is 'coqui'."
        yield Finding(f"{key}.formatter = {typed(name)}: Coqui has no such formatter.", hint)


def _training(config: Any, coqui: CoquiTools | None) -> list[Finding]:
    """Make the optimizer and the schedules of the config, on a parameter that nothing uses, and take a step."""
    if coqui is None:
        return []
    findings = []
    for part in ("gen", "disc"):
        try:
            optimizer = coqui.make_optimizer(config, getattr(config, f"lr_{part}"), [torch.nn.Parameter(torch.ones(1))])
        except Exception as error:  # noqa: BLE001  # whatever torch raises, it is about these two keys
            return [_unmade("optimizer", config.optimizer, config.optimizer_params, error, _optimizers())]
        name, params = (getattr(config, f"lr_scheduler_{part}{end}") for end in ("", "_params"))
        try:
            if (scheduler := coqui.make_scheduler(name, params, optimizer)) is not None:
                optimizer.step()
                scheduler.step()
        except Exception as error:  # noqa: BLE001  # as above
            findings.append(_unmade(f"lr_scheduler_{part}", name, params, error, _schedulers()))
    return findings


def _unmade(key: str, name: Any, params: Any, error: Exception, known: Sequence[str]) -> Finding:
    if isinstance(name, str) and isinstance(error, AttributeError) and name not in known:
        near = nearest(name, known, cutoff=0.5)
        hint = f"Did you mean {near[0]!r}?" if near else f"Name one, such as {', '.join(known[:3])}."
        return Finding(f"{key} = {typed(name)}: torch has none of that name.", hint)
    if isinstance(error, TypeError) and "step()" in str(error):  # such as ReduceLROnPlateau
        found = f"{key} = {typed(name)}: this schedule cannot be used, since Coqui's trainer gives its steps no value."
        return Finding(found, f"Name one whose step() takes none, such as {', '.join(_PLAIN_SCHEDULES)}.")
    found = f"{key} = {typed(name)} with {key}_params = {typed(params, 200)} cannot be used: {shown_error(error)}."
    return Finding(found, f"Correct {key}_params: its keys are the arguments of that class.")


def shown_error(error: Exception) -> str:
    """Return what an error says, on one line and not longer than 200 characters."""
    return shortened(" ".join(str(error).split()).removeprefix("[!] ").rstrip(".") or type(error).__name__)


def _optimizers() -> list[str]:
    return _classes(torch.optim, torch.optim.Optimizer)


def _schedulers() -> list[str]:
    return _classes(torch.optim.lr_scheduler, torch.optim.lr_scheduler.LRScheduler)


def _classes(module: Any, base: type) -> list[str]:
    return [n for n, c in inspect.getmembers(module, inspect.isclass) if issubclass(c, base) and c is not base]
