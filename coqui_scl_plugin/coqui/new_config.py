"""A config for this package, made from a stock one or from nothing, with the reason for each value that it sets."""

import copy
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coqui_scl_plugin.config import SclConfig
from coqui_scl_plugin.coqui.found_data import FoundData
from coqui_scl_plugin.coqui.run_config import usable_config
from coqui_scl_plugin.coqui.vits_config import section_from_stock
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.utils.shown import shown

TRAINING, HOLDOUT = ("ge2e", "campplus"), ("dvector",)
"""The encoders that the ablation found best to train against and to judge by."""
_SMALL_DATA, _USUAL_RATE = 2000, 24_000
_GIGABYTES_FIXED, _GIGABYTES_WINDOW, _GIGABYTES_ITEM = 2.5, 2.7, 0.47
"""Weights with their gradients, moments and CUDA itself; four windows of 2 s; one item of a batch. From what a step of
Coqui's default size keeps for its backward pass (docs/speed.md), at 22.05 kHz."""
_USABLE = 0.8
_MAX_BATCH, _CPU_BATCH = 64, 8


@dataclass(frozen=True)
class Change:
    """A value that was set."""

    key: str
    """Its place, with dots between levels."""
    before: Any
    """The former value; None if there was none."""
    after: Any
    why: str


@dataclass
class NewConfig:
    """A config as it will be written, and what was changed in it."""

    data: dict[str, Any]
    changes: list[Change] = field(default_factory=list)

    def set(self, key: str, value: Any, why: str) -> None:
        """Set a value; its sections are made where they are missing."""
        *sections, name = key.split(".")
        place = self.data
        for section in sections:
            if not isinstance(place.get(section), dict):
                place[section] = {}
            place = place[section]
        self.changes.append(Change(key, copy.deepcopy(place.get(name)), value, why))
        place[name] = value

    @property
    def comments(self) -> dict[str, str]:
        """The reasons by key."""
        return {change.key: _with_former(change) for change in self.changes}

    def check(self) -> None:
        """Check that the config can be used. Raises ConfigError."""
        usable_config(self.data, [])


def _with_former(change: Change) -> str:
    if change.before is None or isinstance(change.before, Mapping | list):
        return change.why
    return f"{change.why} (was {json.dumps(change.before, ensure_ascii=False)})"


def from_stock(
    data: Mapping[str, Any], *, keeps_loss: bool, encoders: Sequence[str], holdout: Sequence[str]
) -> NewConfig:
    """Turn the config of a stock VITS into one with a section.

    Args:
        data: The stock config.
        keeps_loss: Whether the section is to be that of stock's own loss, which must be on.
        encoders: Otherwise, the encoders to train against.
        holdout: The encoders to hold out.

    Raises:
        ConfigError: it is no config of a stock VITS, or has no loss to keep.
    """
    model = data.get("model")
    if model == "scl_vits":
        raise ConfigError("model = 'scl_vits': the config is one of this package already.")
    if model != "vits":
        raise ConfigError(f"model = {shown(model)}: only configs of Coqui's 'vits' can be turned into 'scl_vits'.")
    config = NewConfig(copy.deepcopy(dict(data)))
    config.check()
    args = data.get("model_args") or {}
    has_loss = bool(args.get("use_speaker_encoder_as_loss"))
    config.set("model", "scl_vits", "Coqui's VITS with the section scl; checkpoints remain those of a stock VITS")
    if keeps_loss and not has_loss:
        raise ConfigError("--keep-loss: model_args.use_speaker_encoder_as_loss is off, so there is no loss to keep.")
    if has_loss:
        _turn_off_stock_loss(config)
    if keeps_loss:
        _keep_loss(config, section_from_stock(args, data.get("speaker_encoder_loss_alpha", SclConfig.weight)), holdout)
    else:
        _set_section(config, encoders, holdout)
    return config


def _turn_off_stock_loss(config: NewConfig) -> None:
    config.set(
        "model_args.use_speaker_encoder_as_loss",
        False,
        "Stock's loss puts its encoder into the optimizer, where it learns to please the generator; see scl",
    )


def _keep_loss(config: NewConfig, section: SclConfig, holdout: Sequence[str]) -> None:
    """Write the section that stock's flags stand for."""
    config.set("scl.weight", section.weight, "speaker_encoder_loss_alpha")
    config.set("scl.loss", {"name": section.loss.name}, "Stock's cosine, plus 1")
    (encoder,) = section.encoders
    config.set(
        "scl.encoders",
        [{"name": encoder.name, "params": encoder.params}],
        "Stock's own encoder, frozen here",
    )
    window = {"seconds": section.window.seconds, "items": None, "every_n_steps": 1}
    config.set("scl.window", window, "As in stock: the slices that Coqui decodes for its other losses, in every step")
    _set_holdout(config, holdout)


def from_nothing(data: FoundData, *, encoders: Sequence[str], holdout: Sequence[str]) -> NewConfig:
    """Return a config that trains a VITS of Coqui's default size on a data set of many voices.

    Raises:
        ConfigError: the data set has a single speaker.
    """
    if len(data.speakers) < 2:
        raise ConfigError(
            f"{data.dataset['path']} has recordings of one speaker alone, {data.speakers[0]!r}. A voice from little "
            "speech starts from a model of many voices: --voices one --from CONFIG, the config.json of that model."
        )
    config = NewConfig({})
    config.set("model", "scl_vits", "Coqui's VITS with the section scl below")
    config.set("run_name", f"{data.name}-scl", "Name of run folders")
    config.set("output_path", "runs", "Where run folders are made")
    config.set("model_args.use_speaker_embedding", True, f"A row for each of the {len(data.speakers)} speakers")
    hint = "; up to 24 kHz are usual: python -m TTS.bin.resample" if data.rate > _USUAL_RATE else ""
    config.set("audio.sample_rate", data.rate, f"Of the recordings, which Coqui does not resample{hint}")
    _set_data(config, [data.dataset])
    config.set("text_cleaner", data.cleaner, "Letters, in lower case, not phonemes: these need a phonemizer")
    if data.characters is not None:
        config.set("characters", data.characters, f"Coqui's default lacks {len(data.unknown)} characters of the texts")
    text, speaker = data.sentence
    config.set("test_sentences", [[text, speaker]], "Spoken at each evaluation: a text and a speaker")
    _set_split(config, data)
    config.set("epochs", 1000, "Coqui's default; --continue_path goes on where a run was ended")
    _set_section(config, encoders, holdout)
    return config


def add_voice(config: NewConfig, data: FoundData) -> None:
    """Let a config of a trained model take up the new voices of a data set from that model's checkpoint."""
    former = [d for d in config.data.get("datasets") or [] if Path(d.get("path") or "").is_dir()]
    _set_data(config, [*former, data.dataset])
    _forget_speakers(config)
    config.set(
        "scl.restore.match_rows", True, "Known speakers keep their rows of the checkpoint; new ones start at the mean"
    )
    config.set(
        "use_weighted_sampler",
        True,
        "As many items of each speaker: a few minutes count, and no voice is forgotten",
    )
    config.set("weighted_sampler_attrs", {"speaker_name": 1.0}, "1.0 balances fully")
    for name in ("lr_gen", "lr_disc"):
        config.set(name, 1e-4, "Half of Coqui's default, since the model can speak already")
    text, speaker = data.sentence
    config.set("test_sentences", [[text, speaker]], "Spoken at each evaluation: a text and a speaker")
    _set_split(config, data)


def _forget_speakers(config: NewConfig) -> None:
    """Let Coqui list the speakers anew: a file of the former ones would hide the new voice."""
    for section, name in itertools.product(("", "model_args."), ("speakers_file", "num_speakers")):
        place = (config.data.get("model_args") or {}) if section else config.data
        if place.get(name):
            config.set(section + name, 0 if name == "num_speakers" else None, "Listed anew from the recordings")


def use_data(config: NewConfig, data: FoundData) -> None:
    """Let a config train on other data."""
    _set_data(config, [data.dataset])


def use_memory(config: NewConfig, gigabytes: float) -> None:
    """Set the sizes of batches by the memory of the GPU; 0: there is none."""
    if gigabytes <= 0:
        batch, why = _CPU_BATCH, "Without a GPU, a step takes half a minute"
    else:
        small = gigabytes < _GIGABYTES_FIXED + 3 * _GIGABYTES_WINDOW
        if small:
            config.set("scl.window.items", 2, "Half of the default, since decoding windows takes memory")
        fixed = _GIGABYTES_FIXED + _GIGABYTES_WINDOW / (2 if small else 1)
        batch = int((_USABLE * gigabytes - fixed) / _GIGABYTES_ITEM) // 4 * 4
        batch = min(max(batch, 2), _MAX_BATCH)
        why = f"Estimated for {gigabytes:g} GB; halve it if memory runs out, and double it if half is free"
        config.set("num_loader_workers", 4, "Processes that load recordings")
    config.set("batch_size", batch, why)
    config.set("eval_batch_size", min(batch, 16), "At evaluations")


def _set_data(config: NewConfig, datasets: list[dict[str, Any]]) -> None:
    config.set("datasets", datasets, "Paths are relative to the folder in which the command runs")


def _set_split(config: NewConfig, data: FoundData) -> None:
    if data.recordings < _SMALL_DATA:
        config.set("eval_split_size", 0.1, f"Of {data.recordings} recordings; the default, 1 %, would be too few")


def _set_section(config: NewConfig, encoders: Sequence[str], holdout: Sequence[str]) -> None:
    config.set("scl.weight", SclConfig.weight, "Of the loss; YourTTS's alpha. 3 to 27 were tried, see docs/ablation.md")
    reason = "Two networks of different kinds: judges of both kinds then find the gain. Frozen"
    if tuple(encoders) != TRAINING:
        reason = "The encoders that teach the speaker's voice. Frozen"
    config.set("scl.encoders", [{"name": name} for name in encoders], reason)
    _set_holdout(config, holdout)


def _set_holdout(config: NewConfig, holdout: Sequence[str]) -> None:
    reason = "Take no part in training: their similarity at evaluations is the one to look at"
    config.set("scl.holdout", [{"name": name} for name in holdout], reason)
