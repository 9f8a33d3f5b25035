"""The config of `SclVits`: Coqui's VitsConfig with an `scl` section."""

import argparse
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast

from TTS.tts.configs.vits_config import VitsConfig

from coqui_scl_plugin.config import (
    SECTION,
    EncoderConfig,
    LossConfig,
    ModuleRuleConfig,
    SclConfig,
    WindowConfig,
    check_config,
)
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.utils.suggest import did_you_mean

_FREEZE_FLAGS = {
    "freeze_encoder": ("text_encoder", "emb_l"),
    "freeze_PE": ("posterior_encoder",),
    "freeze_DP": ("duration_predictor",),
    "freeze_flow_decoder": ("flow",),
    "freeze_waveform_decoder": ("waveform_decoder",),
}
"""Modules that each `freeze_*` field of stock's `model_args` freezes."""


def section_from_stock(model_args: Any, alpha: float) -> SclConfig:
    """Return the section that a config without one implies.

    If stock's own loss is on (`use_speaker_encoder_as_loss`), this is the cosine loss of its slices, with its encoder
    and alpha; otherwise the default section.

    Raises:
        ConfigError: stock's loss is on, but no encoder is given.
    """
    if not model_args.get("use_speaker_encoder_as_loss"):
        return SclConfig()
    files = {
        "model_path": model_args.get("speaker_encoder_model_path"),
        "config_path": model_args.get("speaker_encoder_config_path"),
    }
    for name, path in files.items():
        if not path:
            msg = f"model_args.use_speaker_encoder_as_loss is on: model_args.speaker_encoder_{name} must name a file."
            raise ConfigError(msg)
    return SclConfig(
        weight=alpha,
        loss=LossConfig(name="cosine"),
        encoders=[EncoderConfig(name="coqui", params=files)],
        window=WindowConfig(seconds=0.0, items=None),
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
        """Give a config without a section the one that it implies."""
        super().__post_init__()
        if self.scl is None:
            self.scl = section_from_stock(self.model_args, self.speaker_encoder_loss_alpha)

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
        """Read a mapping, strictly inside `scl`.

        Raises:
            ConfigError: a key of `scl` is unknown, or its value cannot be used.
        """
        if SECTION not in data:
            alpha = data.get("speaker_encoder_loss_alpha", self.speaker_encoder_loss_alpha)
            section = section_from_stock(data.get("model_args") or {}, cast(float, alpha))
            data = {**data, SECTION: section.to_dict()}
        super().deserialize(data)
        self.check_values()
        return self

    def check_values(self) -> None:
        """Check the section, unless it has not changed since the last check.

        Coqpit calls this after reading and after overrides, `SclVits` before it is built.

        Raises:
            ConfigError: the section cannot be used.
        """
        section = repr(self.scl.to_dict()) if isinstance(self.scl, SclConfig) else None
        if section is None or section != self._checked:
            check_config(self.scl)
            self._checked = section

    @classmethod
    def init_argparse(cls, **kwargs: Any) -> argparse.ArgumentParser:
        """Return Coqpit's parser for `--coqpit.*`, changed to yield only what is given.

        Unchanged, it prints hundreds of options before a message, turns an empty mapping into None, fails on an empty
        list that has a default, and cannot replace a list that has entries.
        """
        parser = super().init_argparse(**kwargs)
        skip = f"{kwargs.get('arg_prefix', 'coqpit')}.{SECTION}.preflight.skip".lstrip(".")
        if f"--{skip}" not in parser._option_string_actions:
            parser.add_argument(f"--{skip}", nargs="*", dest=skip)
        parser.usage = argparse.SUPPRESS
        for action in parser._actions:
            action.default = argparse.SUPPRESS
        return parser

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
                raise ConfigError(f"{argument}: unknown option. {did_you_mean(argument.partition('=')[0], options)}")
        return unknown
