"""The config of `SclVits`: Coqui's VitsConfig with an `scl` section."""

import argparse
import os
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from TTS.tts.configs.vits_config import VitsConfig

from coqui_scl_plugin.config import (
    SECTION,
    EncoderConfig,
    LossConfig,
    ModuleRuleConfig,
    SclConfig,
    WindowConfig,
    check_class,
    check_config,
    check_object,
    overrides,
    read_config_file,
)
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.plugins.parameters import check_value
from coqui_scl_plugin.utils.plain import check_plain
from coqui_scl_plugin.utils.shown import named, shown
from coqui_scl_plugin.utils.suggest import did_you_mean

_FREEZE_FLAGS = {
    "freeze_encoder": ("text_encoder", "emb_l"),
    "freeze_PE": ("posterior_encoder",),
    "freeze_DP": ("duration_predictor",),
    "freeze_flow_decoder": ("flow",),
    "freeze_waveform_decoder": ("waveform_decoder",),
}
"""Modules that each `freeze_*` field of stock's `model_args` freezes."""


def section_from_stock(model_args: Any, alpha: Any) -> SclConfig:
    """Return the section that a config without one implies.

    If stock's own loss is on (`use_speaker_encoder_as_loss`), this is the cosine loss of its slices, with its encoder
    and alpha; otherwise the default section.

    Raises:
        ConfigError: stock's loss is on, but no encoder is given, or alpha is no weight.
    """
    if not isinstance(model_args, Mapping):
        raise ConfigError(f"model_args = {shown(model_args)}: must be a section.")
    if not model_args.get("use_speaker_encoder_as_loss"):
        return SclConfig()
    check_value(alpha, float, "speaker_encoder_loss_alpha", ge=0)
    files = {
        "model_path": model_args.get("speaker_encoder_model_path"),
        "config_path": model_args.get("speaker_encoder_config_path"),
    }
    for name, path in files.items():
        key = f"model_args.speaker_encoder_{name}"
        if not path:
            raise ConfigError(f"model_args.use_speaker_encoder_as_loss is on: {key} must name a file.")
        check_value(path, str, key)
        check_plain(path, key)
    return SclConfig(
        weight=float(alpha),
        loss=LossConfig(name="cosine"),
        encoders=[EncoderConfig(name="coqui", params=files)],
        window=WindowConfig(seconds=0.0, items=None, every_n_steps=1),
    )


def rules_from_flags(config: "SclVitsConfig", modules: Container[str]) -> None:
    """Turn stock's `freeze_*` flags into rules, placed before those of the section, and switch the flags off.

    Stock applies the flags at the start of each epoch, never unfreezes, and leaves modules in train mode.

    Args:
        config: Config to change in place.
        modules: Names of the model's modules; only models of several languages have `emb_l`.
    """
    rules = []
    for flag, names in _FREEZE_FLAGS.items():
        if config.model_args[flag]:
            rules += [ModuleRuleConfig(pattern=name) for name in names if name in modules]
            config.model_args[flag] = False
    config.scl.freeze.modules = rules + config.scl.freeze.modules


@dataclass
class SclVitsConfig(VitsConfig):
    """VitsConfig with the section `scl`; see `SclConfig` for its keys."""

    model: str = "scl_vits"
    scl: SclConfig = field(default=None)  # type: ignore[assignment]  # None until __post_init__ resolves it

    _checked = None  # the section that was last checked; without an annotation, so that it is not a field

    def __post_init__(self) -> None:
        """Give a config without a section the one that it implies. Raises ConfigError if it has one of another kind."""
        super().__post_init__()
        if vars(self)[SECTION] is None:
            self.scl = section_from_stock(self.model_args, self.speaker_encoder_loss_alpha)
        check_class(SclConfig, vars(self)[SECTION], SECTION)

    @property
    def reference_cache(self) -> Path | None:
        """Path of the reference cache; None if embeddings are kept in memory only."""
        cache = self.scl.reference.cache
        return Path(self.output_path) / cache if cache is not None else None

    @classmethod
    def of(cls, config: VitsConfig) -> "SclVitsConfig":
        """Return the config itself, or convert a stock config on which `--coqpit.model scl_vits` was set.

        Raises:
            ConfigError: the config is of any other kind.
        """
        if isinstance(config, SclVitsConfig):
            return config
        if isinstance(config, VitsConfig) and config.model == "scl_vits":
            return SclVitsConfig.from_stock(config)
        raise ConfigError(
            f"SclVits needs an SclVitsConfig, got {type(config).__name__}: use SclVitsConfig.from_stock(config)."
        )

    @classmethod
    def from_stock(cls, config: VitsConfig) -> Self:
        """Return the same config as an SclVitsConfig, with the section that it implies."""
        return cls.new_from_dict({**config.to_dict(), "model": "scl_vits"})

    def deserialize(self, data: dict[str, Any]) -> Self:
        """Read a mapping, strictly inside `scl`; nothing is changed if the section is refused.

        Raises:
            ConfigError: a key of `scl` is unknown, or its value cannot be used.
        """
        super().deserialize(_with_section(data, self.speaker_encoder_loss_alpha))
        self.check_values()
        return self

    @classmethod
    def deserialize_immutable(cls, data: dict[str, Any]) -> Self:
        """Build from a mapping, strictly inside `scl`. Raises ConfigError as `deserialize` does."""
        return super().deserialize_immutable(_with_section(data, cls.speaker_encoder_loss_alpha))

    def load_json(self, file_name: str | os.PathLike[Any]) -> None:
        """Take over the values of a JSON or YAML file. Raises ConfigError."""
        self.deserialize(read_config_file(os.fspath(file_name)))

    def check_values(self) -> None:
        """Check the section: Coqpit calls this after reading and after overrides, `SclVits` before it is built.

        Registered names and keys that must agree are not checked again unless something changed.

        Raises:
            ConfigError: the section cannot be used.
        """
        section: Any = vars(self).get(SECTION)  # as an attribute, Coqpit hides some texts
        check_object(SclConfig, section, SECTION)
        if (state := repr(section.to_dict())) != self._checked:
            check_config(section)
            self._checked = state

    @classmethod
    def init_argparse(cls, **kwargs: Any) -> argparse.ArgumentParser:
        """Return Coqpit's parser for `--coqpit.*`, changed to yield only what is given; it raises ConfigError.

        Unchanged, it turns an empty mapping into None, fails on an empty list that has a default, and cannot replace a
        list that has entries; see also `config/overrides.py`.
        """
        parser = kwargs.pop("parser", None) or overrides.StrictParser(allow_abbrev=False)
        super().init_argparse(parser=parser, **kwargs)
        skip = f"{kwargs.get('arg_prefix', 'coqpit')}.{SECTION}.preflight.skip".lstrip(".")
        if f"--{skip}" not in parser._option_string_actions:
            parser.add_argument(f"--{skip}", nargs="*", dest=skip)
        return overrides.made_strict(parser, skip)

    def parse_args(self, args: argparse.Namespace | list[str] | None = None, arg_prefix: str = "coqpit") -> None:
        """Apply `--coqpit.*` overrides.

        Raises:
            ConfigError: an override is unknown, or its value cannot be used.
        """
        if not isinstance(args, argparse.Namespace):
            args = self.init_argparse(instance=self, arg_prefix=arg_prefix, relaxed_parser=True).parse_args(args)
        with overrides.refused():
            super().parse_args(overrides.with_null_lists(args), arg_prefix)

    def parse_known_args(
        self, args: Any = None, arg_prefix: str = "coqpit", *, relaxed_parser: bool = False
    ) -> list[str]:
        """Apply `--coqpit.*` overrides and return unknown arguments; an unknown `--coqpit.scl.*` is an error.

        Raises:
            ConfigError: an override of `scl` is unknown, or its value cannot be used.
        """
        parser = self.init_argparse(instance=self, arg_prefix=arg_prefix, relaxed_parser=relaxed_parser)
        given, unknown = (args, []) if isinstance(args, argparse.Namespace) else parser.parse_known_args(args)
        if vars(given):
            self.parse_args(given, arg_prefix=arg_prefix)
        prefix = f"--{arg_prefix}.{SECTION}."
        for argument in unknown:
            if argument.startswith(prefix):
                options = [o for action in parser._actions for o in action.option_strings if o.startswith(prefix)]
                raise ConfigError(
                    f"{named(argument)}: unknown option. {did_you_mean(argument.partition('=')[0], options)}"
                )
        return unknown


def _with_section(data: Any, alpha: Any) -> dict[str, Any]:
    """Return a mapping with its section checked, or else with the one that it implies; `alpha` is stock's default."""
    if not isinstance(data, Mapping):
        raise ConfigError(f"The config is {shown(data)}: must be an object of keys and values.")
    if SECTION in data:
        section = SclConfig.new_from_dict(data[SECTION])
    else:
        section = section_from_stock(data.get("model_args") or {}, data.get("speaker_encoder_loss_alpha", alpha))
    return {**data, SECTION: section.to_dict()}
