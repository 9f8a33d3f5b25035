"""The parts that this package adds to a stock `Vits`: the consistency term, module rules, and frozen encoders."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from TTS.tts.models.vits import Vits

from coqui_scl_plugin.config import SclConfig
from coqui_scl_plugin.consistency.build import build_consistency
from coqui_scl_plugin.consistency.term import SpeakerConsistency
from coqui_scl_plugin.coqui.match_rows import CarriedTable, carry_rows
from coqui_scl_plugin.coqui.vits_config import SclVitsConfig, rules_from_flags
from coqui_scl_plugin.freeze import FrozenPolicy
from coqui_scl_plugin.freeze.module_rules import ModuleRules
from coqui_scl_plugin.preflight.facts import Restored
from coqui_scl_plugin.preflight.report import PreflightReport

CONSISTENCY = "speaker_encoder_loss"
"""Attribute of the term. Stock's load_checkpoint ignores every key that contains `speaker_encoder`."""
_STOCK_ENCODER = "speaker_encoder"
_ENCODERS = f"{CONSISTENCY}.encoders."
_LOSS = f"{CONSISTENCY}.loss."
_GRADIENT_SHARE = f"{CONSISTENCY}.gradient_share."


class VitsParts:
    """The term, the rules and the encoders of a model, and the selection of tensors that its checkpoints hold."""

    def __init__(self, model: Vits, config: SclVitsConfig) -> None:
        """Resolve the rules against the model's modules, and freeze the encoder that stock may have loaded.

        Args:
            model: Model whose own constructor has finished.
            config: Config that the model was built from; stock's `freeze_*` flags in it become rules.

        Raises:
            ConfigError: a pattern matches no module, or the rules leave nothing to train.
        """
        self.model = model
        self.skipped_checks = tuple(config.scl.preflight.skip)  # copied, since --continue_path reads the config again
        self.checked: PreflightReport | None = None
        """The results of checks that a command ran before the run folder was made."""
        self.restored: Restored | None = None
        """The checkpoint that the trainer continues or starts from."""
        self.carried: dict[str, CarriedTable] = {}
        """Tables that take the place of a state dict's own while the checkpoint is loaded."""
        self.optimizers_made = False
        """Whether the model is being trained, so that the rules apply."""
        rules_from_flags(config, dict(model.named_children()))
        # without a discriminator the model only synthesises, which a rule for `disc` must not prevent
        rules = config.scl.freeze.modules if config.model_args.init_discriminator else []
        self.module_rules = ModuleRules(model, rules, "scl.freeze.modules", ignored=(CONSISTENCY, _STOCK_ENCODER))
        self.module_rules.refuse_to_freeze_all("discriminator", ["disc"])
        self.module_rules.refuse_to_freeze_all("generator", self.own_modules().keys() - {"disc"})
        self.freeze_stock_encoder()

    # --- what there is --------------------------------------------------------------------------------------------

    @property
    def scl(self) -> SclConfig:
        """The section of the model's config."""
        section: SclConfig = self.model.config.scl
        return section

    @property
    def consistency(self) -> SpeakerConsistency | None:
        """The speaker consistency term; None before training, and if the section is off."""
        consistency: SpeakerConsistency | None = getattr(self.model, CONSISTENCY)
        return consistency

    def build_consistency(self) -> None:
        """Load the encoders and build the loss, unless they exist or the section is off."""
        if self.scl.enabled and self.consistency is None:
            self.take_consistency(build_consistency(self.scl, accepts_changes="continued" in self.skipped_checks))

    def take_consistency(self, consistency: SpeakerConsistency | None) -> None:
        """Move a term to the model's device and make it part of the model."""
        device = next(self.model.parameters()).device
        setattr(self.model, CONSISTENCY, consistency.to(device) if consistency is not None else None)

    def own_modules(self) -> dict[str, nn.Module]:
        """Return the outermost modules of the generator and the discriminator, without speaker encoders."""
        children = self.model.named_children()
        return {name: module for name, module in children if name not in (CONSISTENCY, _STOCK_ENCODER)}

    def stock_encoder(self) -> nn.Module | None:
        """Return the encoder that the speaker manager loads to compute d-vectors; the loss does not use it."""
        encoder: nn.Module | None = getattr(self.model, _STOCK_ENCODER, None)
        return encoder

    def frozen_encoders(self) -> dict[str, nn.Module]:
        """Return all speaker encoders that must not move, by their name in messages."""
        consistency, stock = self.consistency, self.stock_encoder()
        encoders: dict[str, nn.Module] = {**consistency.encoders.frozen_encoders} if consistency is not None else {}
        return encoders if stock is None else {**encoders, "stock": stock}

    # --- keeping them as they are ---------------------------------------------------------------------------------

    def freeze_stock_encoder(self) -> None:
        """Freeze the encoder that stock loaded, if there is one."""
        if (encoder := self.stock_encoder()) is not None:
            FrozenPolicy().apply(encoder)

    def apply_policies(self) -> None:
        """Enforce the policy of every encoder."""
        self.freeze_stock_encoder()
        if self.consistency is not None:
            self.consistency.encoders.apply_policies()

    def follow_mode(self, step: int, *, training: bool) -> None:
        """Keep frozen encoders, and frozen modules unless their rule says otherwise, in eval mode."""
        self.freeze_stock_encoder()
        if self.optimizers_made:
            self.module_rules.apply(step, training=training)

    def enforce(self, step: int, *, training: bool) -> None:
        """Enforce policies and rules for a training step, whatever has changed since the last one."""
        self.apply_policies()
        self.module_rules.apply(step, training=training)

    def divide(self, optimizers: Sequence[torch.optim.Optimizer], step: int, *, training: bool) -> None:
        """Remove frozen encoders from stock's optimizers, and divide the rest as the rules say."""
        frozen = {id(p) for encoder in self.frozen_encoders().values() for p in encoder.parameters()}
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["params"] = [p for p in group["params"] if id(p) not in frozen]
        self.module_rules.divide(optimizers)
        self.optimizers_made = True
        self.module_rules.apply(step, training=training)

    # --- checkpoints ----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def carrying_rows(self, restored: Restored) -> Iterator[None]:
        """Within the block, load the tables of a checkpoint with each row at its place, if `restore.match_rows`."""
        self.carried = carry_rows(self.model, restored) if restored.matches_rows else {}
        try:
            yield
        finally:
            self.carried = {}

    def with_carried_rows(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return a state dict with the tables whose rows are carried by name.

        Coqui's trainer loads a checkpoint once as it is, and if that fails again with all that fits by size: whichever
        it is, the tables are those of `carry_rows`.
        """
        return {**state, **{name: table.weight for name, table in self.carried.items()}}

    def without_frozen_encoders(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return a state dict without the tensors of frozen encoders, which checkpoints neither hold nor restore."""
        if self.consistency is None:
            return dict(state)
        return self.consistency.encoders.without_frozen(state, _ENCODERS)

    def as_named_now(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return a state dict with current keys, and without a `gradient_share` that the config no longer has.

        The weights of a loss for a single encoder, formerly `loss.KEY`, are now `loss.members.ALIAS.KEY`.
        """
        if self.consistency is None or self.consistency.gradient_share is None:
            state = {key: value for key, value in state.items() if not key.startswith(_GRADIENT_SHARE)}
        aliases = list(self.consistency.loss.members) if self.consistency is not None else []
        if len(aliases) != 1 or self.consistency is None:
            return dict(state)
        own = {f"{_LOSS}{key}" for key in self.consistency.loss.state_dict()}
        member = f"{_LOSS}members.{aliases[0]}."

        def name_of(key: str) -> str:
            now = member + key.removeprefix(_LOSS)
            return now if key.startswith(_LOSS) and key not in own and now in own else key

        return {name_of(key): value for key, value in state.items()}

    @staticmethod
    def forgive_encoder_keys(module: nn.Module, incompatible_keys: Any) -> None:
        """Remove what a run makes anew from the keys that a checkpoint lacks; a hook of `load_state_dict`."""
        missing = incompatible_keys.missing_keys
        missing[:] = [key for key in missing if not key.startswith((_ENCODERS, _GRADIENT_SHARE))]
