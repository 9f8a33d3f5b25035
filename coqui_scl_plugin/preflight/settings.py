"""Checks of the config against itself, and of what trains."""

import re

from coqui_scl_plugin.config import SclConfig
from coqui_scl_plugin.monitoring.target import alias_of, is_calibrated, target_similarity
from coqui_scl_plugin.preflight.facts import RunFacts
from coqui_scl_plugin.preflight.report import Finding, warning
from coqui_scl_plugin.utils.shown import typed
from coqui_scl_plugin.utils.suggest import did_you_mean, nearest

_LOSSES = (
    "loss_0",
    "loss_1",
    "loss_disc",
    "loss_gen",
    "loss_kl",
    "loss_feat",
    "loss_mel",
    "loss_duration",
    "loss_spk_encoder",
)
_LOGGED = re.compile(rf"{'|'.join(_LOSSES)}|loss_disc_real_\d+|loss_spk_encoder_.+|(calibrated_)?reference_cosine_.+")
"""What is logged at each step, and so may be a target; `loss_0` and `loss_1` are the sums of the two optimizers."""


def check_weight(facts: RunFacts) -> list[Finding]:
    """The configured loss weight takes effect."""
    scl, alpha = facts.config.scl, facts.config.speaker_encoder_loss_alpha
    alpha_is_set = alpha != type(facts.config).speaker_encoder_loss_alpha
    if scl.enabled and scl.gradient_share is not None and facts.config.mel_loss_alpha == 0.0:
        found = (
            f"scl.gradient_share = {scl.gradient_share:g}: a share of the mel loss's gradient, but mel_loss_alpha = 0."
        )
        return [Finding(found, "Set scl.weight in place of scl.gradient_share, or raise mel_loss_alpha.")]
    if scl.enabled and scl.weight == 0.0:
        return [warning("scl.weight = 0: the loss teaches nothing.", "Raise it, or set scl.enabled to false.")]
    if scl.enabled:
        found = f"speaker_encoder_loss_alpha = {alpha:g} has no effect: scl.weight = {scl.weight:g} applies."
        return [warning(found, "Remove it.")] if alpha_is_set and alpha != scl.weight else []
    change = (
        "Set scl.enabled to true (in a stock config, model_args.use_speaker_encoder_as_loss), or remove the weight."
    )
    if scl.weight not in (0.0, SclConfig.weight):
        found = f"scl.weight = {scl.weight:g} is set, but scl.enabled = false: this run trains without the loss."
        return [Finding(found, change)]
    if alpha_is_set:
        found = (
            f"speaker_encoder_loss_alpha = {alpha:g} is set, but the speaker consistency loss is off: this run trains "
            "without it."
        )
        return [Finding(found, change)]
    if scl.weight > 0.0:
        found = (
            f"The speaker consistency loss is off (scl.enabled = false), so scl.weight = {scl.weight:g} has no effect."
        )
        return [warning(found, "Set scl.enabled to true, or scl.weight to 0 if this is intended.")]
    return []


def check_target(facts: RunFacts) -> list[Finding]:
    """A similarity that selects the best model is measured, by an encoder that takes no part in training."""
    similarity = target_similarity(facts.config)
    if similarity is None:
        return _other_target(facts.config.target_loss)
    target, alias = f"target_loss = {facts.config.target_loss!r}", alias_of(similarity)
    if facts.consistency is None or not facts.config.run_eval:
        key = "scl.enabled" if facts.consistency is None else "run_eval"
        found = f"{target}: no similarity is measured, because {key} is false."
        return [Finding(found, "Set it to true, or remove target_loss.")]
    if alias not in facts.consistency.encoders:
        return [Finding(f"{target}: there is no such encoder.", did_you_mean(alias, list(facts.consistency.encoders)))]
    if is_calibrated(similarity) and alias not in facts.consistency.calibrations:
        found = f"{target}: the data is too small to measure the floor and ceiling of {alias}."
        return [Finding(found, f"Set it to 'cross_utterance_{alias}', or give floor and ceiling of the encoder.")]
    if alias not in facts.consistency.encoders.holdout_aliases:
        found = f"{target}: the generator trains against this encoder, so its similarity says little about the voice."
        return [warning(found, "Add an encoder to scl.holdout, and use its similarity.")]
    return []


def _other_target(target: str | None) -> list[Finding]:
    """Check a target that is no similarity: Coqui looks for it after the first epoch, and the run ends without it."""
    if not target or _LOGGED.fullmatch(target):
        return []
    found = f"target_loss = {typed(target)}: no loss of that name is logged, so the run would end after an epoch."
    near = nearest(target, _LOSSES)
    return [Finding(found, f"{f'Did you mean {near[0]!r}? ' if near else ''}Name one of {', '.join(_LOSSES)}.")]


def check_stock_loss(facts: RunFacts) -> list[Finding]:
    """The config gives the same training with every command."""
    if not facts.names_stock_loss or facts.consistency is None:
        return []
    harm = (
        "through stock's forward of this LSTM speaker encoder no gradient reaches the waveform"
        if facts.stock_cuts_gradient
        else "stock trains the speaker encoder along"
    )
    return [
        warning(
            "The config names Coqui's own model vits with use_speaker_encoder_as_loss. coqui-scl train trains it as "
            f"scl_vits, which is checked here; with python -m TTS.bin.train_tts, {harm}, and the loss teaches nothing.",
            'Write "model": "scl_vits".',
        )
    ]


def check_trains(facts: RunFacts) -> list[Finding]:
    """The generator and the discriminator each have something to train; otherwise Coqui's backward pass fails."""
    return [
        Finding(
            f"The whole {name} is frozen at this step: Coqui's trainer cannot run its backward pass.",
            "Remove a rule from scl.freeze.modules, or switch the gradients of a module on.",
        )
        for name, optimizer in facts.optimizers.items()
        if not any(p.requires_grad for group in optimizer.param_groups for p in group["params"])
    ]


def check_unfreeze(facts: RunFacts) -> list[Finding]:
    """The trainer supports parameters without a gradient until they are unfrozen."""
    if not facts.needs_all_gradients or not facts.unfreezes_at:
        return []
    return [
        Finding(
            f"Modules are frozen until step {max(facts.unfreezes_at)}, but under accelerate, and with a gradient "
            "scaler without grad_clip, Coqui's trainer fails on parameters without a gradient.",
            "Freeze them for the whole run (no until_step), give them a small lr_scale, set grad_clip, or do not use "
            "accelerate.",
        )
    ]
