"""The `scl` section of a config: its keys, their types, ranges and defaults."""

from dataclasses import dataclass, field
from typing import Any, Literal

from coqui_scl_plugin.config.strict import StrictConfig

SECTION = "scl"
ENSEMBLE = "ensemble"
"""Name of the loss that compares with several encoders; any other loss takes a single one."""


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
    dtype: Literal["float32", "bfloat16"] = field(
        default="float32",
        metadata={
            "help": "Precision in which layers with weights hear generated speech in training. References and "
            "evaluations are always in float32."
        },
    )
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

    measured: dict[str, Any] = field(
        default_factory=dict,
        metadata={"help": "Written by a run: with which encoder it measured `floor`, `ceiling` and `sha256`."},
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
        default=4,
        metadata={
            "help": "Listen in every n-th step only, from `start_step` on. Its gradient there is n times as large, so "
            "that `weight` or `gradient_share` is the mean over all steps.",
            "ge": 1,
        },
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
    max_bad_steps: int = field(
        default=10,
        metadata={"help": "End the run after so many steps in a row with numbers that are not finite.", "ge": 1},
    )
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
        """Return the weight at a training step, without `gradient_share` and `factor_at`.

        >>> config = SclConfig(weight=8.0, start_step=10, ramp_steps=4)
        >>> [config.weight_at(step) for step in (0, 9, 10, 12, 13, 100)]
        [0.0, 0.0, 2.0, 6.0, 8.0, 8.0]
        """
        return self.weight * self.ramp_at(step)

    def factor_at(self, step: int) -> int:
        """Return by what the weighted loss is multiplied in a training step: 0 where it takes no part.

        In every n-th step it is n, so that the expected gradient is that of taking part in every step, as in the lazy
        regularization of Karras et al. ("Analyzing and improving the image quality of StyleGAN", 2020, appendix B).

        >>> config = SclConfig(start_step=2, window=WindowConfig(every_n_steps=3))
        >>> [config.factor_at(step) for step in range(9)]
        [0, 0, 3, 0, 0, 3, 0, 0, 3]
        """
        every = self.window.every_n_steps
        return every if self.weight_at(step) > 0 and (step - self.start_step) % every == 0 else 0

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
