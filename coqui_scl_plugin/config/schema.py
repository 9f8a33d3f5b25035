"""The `scl` section of a config: Coqpit dataclasses with the strict checks that Coqpit lacks.

Coqpit drops unknown keys and replaces values of the wrong type with the default. Inside `scl`, either is a
`ConfigError` that names the key's path, the value, and what is allowed. A class used by itself has paths that begin
with its own name, such as `encoder.weight`.
"""

import argparse
import copy
import functools
import os
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, Literal

from coqpit import Coqpit

from coqui_scl_plugin.config import overrides
from coqui_scl_plugin.config.config_file import read_config_file
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.plugins import parameters
from coqui_scl_plugin.utils.plain import check_plain
from coqui_scl_plugin.utils.shown import key_path, shown
from coqui_scl_plugin.utils.suggest import did_you_mean

SECTION = "scl"
ENSEMBLE = "ensemble"
"""Name of the loss that compares with several encoders; any other loss takes a single one."""
_MISSING = "???"

Check = Callable[[type["StrictConfig"], Any, str], None]
"""Checks a section: its class, the section, and its path."""


@dataclass
class StrictConfig(Coqpit):
    """A Coqpit that refuses unknown keys and invalid values, whatever way they come in.

    What the constructor is given is checked at once, attributes that are set later by `check_values`.
    """

    def __post_init__(self) -> None:
        """Check what differs from a default. Raises ConfigError."""
        self._initialized = True  # as Coqpit does, which also hides some errors of `check_values`
        path = self.own_path()
        for spec in fields(self):
            if (value := vars(self)[spec.name]) is not spec.default:
                _check_field(spec, value, f"{path}.{spec.name}", check_class)

    @classmethod
    def own_path(cls) -> str:
        """Return the name with which the paths of this class begin where it is used by itself.

        >>> SclConfig.own_path(), EncoderConfig.own_path(), ModuleRuleConfig.own_path()
        ('scl', 'encoder', 'module_rule')
        """
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__.removesuffix("Config")).lower()

    def check_values(self) -> None:
        """Check every attribute. Raises ConfigError."""
        check_object(type(self), self, self.own_path())

    def deserialize(self, data: dict[str, Any]) -> typing.Self:
        """Take over the values of a mapping, and leave others as they are; nothing is changed if one is refused.

        Raises:
            ConfigError: a key is unknown or its value invalid; see `check_section`.
        """
        check_section(type(self), data, self.own_path())
        current = {spec.name: vars(self)[spec.name] for spec in fields(self)}
        changed = type(self)(**current | _values_of(type(self), data))
        changed.check_values()
        vars(self).update(vars(changed))
        return self

    @classmethod
    def deserialize_immutable(cls, data: dict[str, Any]) -> typing.Self:
        """Build from a mapping read from JSON. Raises ConfigError; see `check_section`."""
        check_section(cls, data, cls.own_path())
        config = cls(**_values_of(cls, data))
        config.check_values()
        return config

    def load_json(self, file_name: str | os.PathLike[Any]) -> None:
        """Take over the values of a JSON or YAML file. Raises ConfigError."""
        self.deserialize(read_config_file(os.fspath(file_name)))

    @classmethod
    def init_argparse(cls, **kwargs: Any) -> argparse.ArgumentParser:
        """Return Coqpit's parser for `--coqpit.*`, changed to yield only what is given; it raises ConfigError."""
        parser = kwargs.pop("parser", None) or overrides.StrictParser(allow_abbrev=False)
        kwargs["relaxed_parser"] = True  # or else Coqpit refuses lists of sections that are empty
        return overrides.made_strict(super().init_argparse(parser=parser, **kwargs), kwargs.get("arg_prefix", "coqpit"))

    def parse_args(self, args: argparse.Namespace | list[str] | None = None, arg_prefix: str = "coqpit") -> None:
        """Apply `--coqpit.*` overrides. Raises ConfigError."""
        if not isinstance(args, argparse.Namespace):
            args = self.init_argparse(instance=self, arg_prefix=arg_prefix).parse_args(args)
        with overrides.refused():
            super().parse_args(overrides.with_null_lists(args), arg_prefix)


@dataclass
class LossConfig(StrictConfig):
    """The loss that compares generated speech with real speech."""

    name: str = field(default=ENSEMBLE, metadata={"help": "A registered loss; see `coqui-scl list`."})
    params: dict[str, Any] = field(default_factory=dict, metadata={"help": "Keyword arguments of the loss."})


@dataclass
class EncoderConfig(StrictConfig):
    """A speaker encoder and its freeze policy."""

    name: str = field(default="ge2e", metadata={"help": "A registered speaker encoder; see `coqui-scl list`."})
    alias: str = field(default="", metadata={"help": "Name in logs and files. Default: `name`."})
    params: dict[str, Any] = field(default_factory=dict, metadata={"help": "Keyword arguments of the encoder."})
    weight: float = field(default=1.0, metadata={"help": "Relative weight in an ensemble.", "gt": 0})
    policy: str = field(default="frozen", metadata={"help": "A registered freeze policy; see `coqui-scl list`."})
    floor: float | None = field(
        default=None,
        metadata={
            "help": "Mean cosine of real recordings of different speakers. Default: measured before step 1.",
            "ge": -1,
            "le": 1,
        },
    )
    ceiling: float | None = field(
        default=None,
        metadata={
            "help": "Mean cosine of different real recordings of one speaker. Default: measured before step 1.",
            "ge": -1,
            "le": 1,
        },
    )

    @property
    def label(self) -> str:
        """The alias, or the name if no alias is given."""
        return self.alias or self.name


@dataclass
class ReferenceConfig(StrictConfig):
    """The real speech that generated speech is compared with."""

    source: Literal["segment", "utterance", "cross_utterance", "centroid"] = field(
        default="utterance",
        metadata={
            "help": "The reference: `segment`, the real slice at the same place; `utterance`, the whole recording; "
            "`cross_utterance`, another recording of the speaker; `centroid`, the mean of the speaker's recordings."
        },
    )
    cache: str | None = field(
        default="speaker_references.safetensors",
        metadata={
            "help": "File that caches embeddings, relative to `output_path`. Null: keep them in memory only.",
            "min_length": 1,
        },
    )


@dataclass
class WindowConfig(StrictConfig):
    """The stretch of generated speech that the loss listens to."""

    seconds: float = field(
        default=2.0,
        metadata={
            "help": "Decode a window of this length for the loss alone, or as long as the shortest item allows. 0: "
            "listen to the slice that Coqui decodes for its other losses.",
            "ge": 0,
            "le": 60,
        },
    )
    items: int | None = field(  # type: ignore[assignment]  # hides a method that Coqpit itself does not call
        default=4, metadata={"help": "Number of items of the batch to listen to. Null: all of them.", "ge": 1}
    )
    every_n_steps: int = field(
        default=1, metadata={"help": "Listen in every n-th step only, from `start_step` on.", "ge": 1}
    )


@dataclass
class SegmentConfig(StrictConfig):
    """The slice of generated speech that the encoders embed."""

    min_seconds: float = field(
        default=0.0,
        metadata={
            "help": "Shorter slices are tiled to this length. 0: to the shortest length that the encoder accepts.",
            "ge": 0,
            "le": 60,
        },
    )
    detach_posterior: bool = field(
        default=False,
        metadata={"help": "Pass no gradient to the posterior encoder, at the cost of running the decoder twice."},
    )


@dataclass
class AugmentConfig(StrictConfig):
    """What stands between generated speech and the encoders in a training step; every effect is off by default."""

    gain_db: float = field(
        default=0.0, metadata={"help": "Largest gain, up and down, in dB. 0: off.", "ge": 0, "le": 40}
    )
    equaliser_db: float = field(
        default=0.0,
        metadata={"help": "Largest gain of a band of the equaliser, up and down, in dB. 0: off.", "ge": 0, "le": 24},
    )
    noise_snr_db: list[float] | None = field(
        default=None,
        metadata={
            "help": "Lowest and highest ratio of speech to noise in dB, such as [10, 30]. Null: no noise.",
            "min_length": 2,
            "max_length": 2,
        },
    )
    room_seconds: float = field(
        default=0.0, metadata={"help": "Longest reverberation time (60 dB) of a room. 0: off.", "ge": 0, "le": 0.5}
    )
    speed: float = field(
        default=0.0,
        metadata={
            "help": "Largest change of speed and pitch, up and down, as a share, in steps of 0.01. 0: off.",
            "ge": 0,
            "le": 0.2,
        },
    )


@dataclass
class ModuleRuleConfig(StrictConfig):
    """A rule for training matching modules of the generator or the discriminator; the last one that matches applies."""

    pattern: str = field(
        default="",
        metadata={
            "help": "Names of modules, with wildcards, such as `text_encoder` or `waveform_decoder.ups.*`.",
            "min_length": 1,
        },
    )
    until_step: int | None = field(
        default=None, metadata={"help": "Step from which they train like all others. Null: never.", "ge": 1}
    )
    lr_scale: float = field(
        default=0.0, metadata={"help": "Factor of the learning rate. 0: frozen.", "ge": 0, "le": 1000}
    )
    eval_mode: bool = field(
        default=True, metadata={"help": "Keep frozen modules in eval mode, whatever mode the model is in."}
    )


@dataclass
class FreezeConfig(StrictConfig):
    """The rules for modules, and the guard of the frozen encoders."""

    modules: list[ModuleRuleConfig] = field(default_factory=list)
    check_every: int = field(
        default=100, metadata={"help": "Steps between checks that no frozen encoder changed.", "ge": 1}
    )
    on_drift: Literal["raise", "restore", "warn"] = field(
        default="raise",
        metadata={"help": "If a frozen encoder changed: end the run, put the encoder back, or only warn."},
    )


@dataclass
class RestoreConfig(StrictConfig):
    """What a run takes from the checkpoint that it starts from (`--restore_path`)."""

    match_rows: bool = field(
        default=False,
        metadata={
            "help": "Carry the row of each speaker, language and character to its new place in the table, and start "
            "new rows at the mean of the known. False: restore rows by position, as Coqui does."
        },
    )


@dataclass
class PreflightConfig(StrictConfig):
    """The checks before step 1."""

    skip: list[str] = field(
        default_factory=list, metadata={"help": "Ids of checks that may fail, as listed in docs/preflight.md."}
    )


@dataclass
class EvaluationConfig(StrictConfig):
    """The similarity measured at evaluation, and the thresholds that flag a run."""

    max_seconds: float = field(
        default=5.0, metadata={"help": "Reconstruct and embed at most this much of a recording.", "gt": 0, "le": 600}
    )
    training_rise: float = field(
        default=0.02,
        metadata={
            "help": "Flag a run in which a training encoder's similarity exceeds its previous maximum by this while "
            "no held-out encoder gains `holdout_rise`.",
            "gt": 0,
        },
    )
    holdout_rise: float = field(
        default=0.01,
        metadata={
            "help": "Gain of a held-out encoder's similarity that keeps `training_rise` from flagging a run.",
            "ge": -2,
            "le": 2,
        },
    )


@dataclass
class SclConfig(StrictConfig):
    """The speaker consistency loss: its weight, encoders and references, freezing, and checks."""

    enabled: bool = field(
        default=True, metadata={"help": "False: train a stock VITS without any speaker consistency loss."}
    )
    weight: float = field(default=9.0, metadata={"help": "Factor of the loss; alpha in YourTTS.", "ge": 0})
    gradient_share: float | None = field(
        default=None,
        metadata={
            "help": "Instead of `weight`: keep the gradient of the loss at the generated waveform at this share of the "
            "mel loss's.",
            "gt": 0,
            "le": 100,
        },
    )
    start_step: int = field(default=0, metadata={"help": "The weight is 0 before this step.", "ge": 0})
    ramp_steps: int = field(default=0, metadata={"help": "The weight rises linearly over this many steps.", "ge": 0})
    loss: LossConfig = field(default_factory=LossConfig)
    encoders: list[EncoderConfig] = field(
        default_factory=lambda: [EncoderConfig(name="ge2e"), EncoderConfig(name="campplus")]
    )
    holdout: list[EncoderConfig] = field(default_factory=list)
    reference: ReferenceConfig = field(default_factory=ReferenceConfig)
    window: WindowConfig = field(default_factory=WindowConfig)
    segment: SegmentConfig = field(default_factory=SegmentConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    freeze: FreezeConfig = field(default_factory=FreezeConfig)
    restore: RestoreConfig = field(default_factory=RestoreConfig)
    preflight: PreflightConfig = field(default_factory=PreflightConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def ramp_at(self, step: int) -> float:
        """Return the factor of the weight at a training step: 0 before `start_step`, then rising to 1.

        It rises linearly over `ramp_steps`, and stays 0 if the section is off.

        >>> config = SclConfig(start_step=10, ramp_steps=4)
        >>> [config.ramp_at(step) for step in (0, 9, 10, 12, 13, 100)]
        [0.0, 0.0, 0.25, 0.75, 1.0, 1.0]
        """
        if not self.enabled or step < self.start_step:
            return 0.0
        return min(1.0, (step - self.start_step + 1) / self.ramp_steps) if self.ramp_steps else 1.0

    def weight_at(self, step: int) -> float:
        """Return the weight at a training step, without `gradient_share`.

        >>> config = SclConfig(weight=8.0, start_step=10, ramp_steps=4)
        >>> [config.weight_at(step) for step in (0, 9, 10, 12, 13, 100)]
        [0.0, 0.0, 2.0, 6.0, 8.0, 8.0]
        """
        return self.weight * self.ramp_at(step)

    def listens_at(self, step: int) -> bool:
        """Tell whether the loss takes part in a training step.

        >>> config = SclConfig(start_step=2, window=WindowConfig(every_n_steps=3))
        >>> [step for step in range(9) if config.listens_at(step)]
        [2, 5, 8]
        """
        return self.weight_at(step) > 0 and (step - self.start_step) % self.window.every_n_steps == 0

    @property
    def always_listens(self) -> bool:
        """Whether the loss takes part in every training step."""
        return self.enabled and self.weight > 0 and self.start_step == 0 and self.window.every_n_steps == 1

    def check_values(self) -> None:
        """Check the whole section, also registered names, their parameters, and keys that must agree.

        Raises:
            ConfigError: a key cannot be used.
        """
        from coqui_scl_plugin.config.validate import check_config  # which builds on this module

        check_config(self)


@functools.cache
def _section_class(spec: Field[Any]) -> tuple[type[StrictConfig] | None, bool]:
    """Return the class of the section that a key holds, if it does, and whether it holds a list of them."""
    item = next(iter(typing.get_args(spec.type)), None)
    for kind, is_list in ((spec.type, False), (item, True)):
        if isinstance(kind, type) and issubclass(kind, StrictConfig):
            return kind, is_list
    return None, False


def _check_list(item: type[StrictConfig], value: Any, path: str, check: Check) -> None:
    if not isinstance(value, list):
        raise ConfigError(f"{path} = {shown(value)}: must be a list of sections.")
    for index, element in enumerate(value):
        check(item, element, f"{path}.{index}")


def _check_field(spec: Field[Any], value: Any, path: str, check: Check) -> None:
    """Check the value of a key; `check` checks a section in it."""
    section, is_list = _section_class(spec)
    if section is not None and is_list:
        _check_list(section, value, path, check)
    elif section is not None:
        check(section, value, path)
    else:
        constraints = {key: bound for key, bound in spec.metadata.items() if key != "help"}
        parameters.check_value(value, spec.type, path, **constraints)
        check_plain(value, path)
        if value == _MISSING:
            raise ConfigError(f"{path} = {value!r}: Coqpit takes this for a value that is missing; choose another one.")


def check_section(cls: type[StrictConfig], data: Any, path: str) -> None:
    """Check a mapping read from JSON against a config class: keys, types, ranges, and all nested sections.

    An object of the class will do in place of a mapping, and is checked like one.

    Raises:
        ConfigError: a key is unknown or its value invalid; names the path, the value, and what is allowed.
    """
    if isinstance(data, cls):
        check_object(cls, data, path)
        return
    if not isinstance(data, Mapping) or isinstance(data, Coqpit):
        keys = ", ".join(spec.name for spec in fields(cls))
        raise ConfigError(f"{path} = {shown(data)}: must be a section with the keys {keys}.")
    known = {spec.name: spec for spec in fields(cls)}
    for key, value in data.items():
        place = key_path(path, key)
        if key not in known:
            raise ConfigError(f"{place}: unknown key. {did_you_mean(key, known)}")
        _check_field(known[key], value, place, check_section)


def check_class(cls: type[StrictConfig], config: Any, path: str) -> None:
    """Raise a ConfigError that names `path` unless `config` is an object of the class."""
    if not isinstance(config, cls):
        hint = f"; {cls.__name__}.new_from_dict reads a mapping" if isinstance(config, Mapping) else ""
        raise ConfigError(f"{path} = {shown(config)}: must be of the class {cls.__name__}{hint}.")


def check_object(cls: type[StrictConfig], config: Any, path: str) -> None:
    """Check the attributes of a config object, and that the sections in it are objects too.

    Raises:
        ConfigError: it is not of the class, or an attribute is unknown or its value invalid.
    """
    check_class(cls, config, path)
    known = {spec.name: spec for spec in fields(cls)}
    for key in vars(config):
        if key not in known and not key.startswith("_"):
            raise ConfigError(f"{key_path(path, key)}: unknown key. {did_you_mean(key, known)}")
    for key, spec in known.items():
        if key not in vars(config):
            raise ConfigError(f"{path}.{key}: is missing, since this attribute was deleted.")
        _check_field(spec, vars(config)[key], f"{path}.{key}", check_object)


def _values_of(cls: type[StrictConfig], data: Mapping[str, Any] | StrictConfig) -> dict[str, Any]:
    """Return the arguments of the constructor that a checked mapping, or another object, stands for."""
    known = {spec.name: spec for spec in fields(cls)}
    given = vars(data) if isinstance(data, StrictConfig) else data
    return {key: _value_of(known[key], value) for key, value in given.items() if key in known}


def _value_of(spec: Field[Any], value: Any) -> Any:
    section, is_list = _section_class(spec)
    if section is not None:
        built = [section(**_values_of(section, element)) for element in (value if is_list else [value])]
        return built if is_list else built[0]
    takes_float = float in (spec.type, *typing.get_args(spec.type))
    return float(value) if takes_float and isinstance(value, int) else copy.deepcopy(value)
