"""Checks of the config against itself, and of the checkpoint that a run starts from."""

from coqui_scl_plugin.config import SclConfig
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.monitoring.target import alias_of, target_similarity
from coqui_scl_plugin.preflight.facts import RunFacts
from coqui_scl_plugin.preflight.report import Finding, warning
from coqui_scl_plugin.utils.suggest import did_you_mean

_DISCRIMINATOR = "disc."
_ENOUGH = 0.5  # of the generator's weights


def check_weight(setup: RunFacts) -> list[Finding]:
    """Whoever sets a weight for the loss gets the loss."""
    scl, alpha = setup.config.scl, setup.config.speaker_encoder_loss_alpha
    alpha_is_set = alpha != type(setup.config).speaker_encoder_loss_alpha
    if scl.enabled and scl.weight == 0.0:
        return [warning("scl.weight = 0: the loss teaches nothing.", "Raise it, or set scl.enabled to false.")]
    if scl.enabled:
        found = f"speaker_encoder_loss_alpha = {alpha:g} has no effect: scl.weight = {scl.weight:g} is what counts."
        return [warning(found, "Take it out.")] if alpha_is_set and alpha != scl.weight else []
    change = (
        "Set scl.enabled to true (in a stock config, model_args.use_speaker_encoder_as_loss), or take the weight out."
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
        found = f"The speaker consistency loss is off (scl.enabled = false), whatever scl.weight = {scl.weight:g} says."
        return [warning(found, "Set scl.enabled to true, or scl.weight to 0 to say that this is meant.")]
    return []


def _is_lstm_of_coqui(encoder: SegmentEncoder) -> bool:
    from TTS.encoder.models.lstm import LSTMSpeakerEncoder

    return isinstance(getattr(encoder.encoder, "model", None), LSTMSpeakerEncoder)


def check_target(setup: RunFacts) -> list[Finding]:
    """Where a similarity chooses the best model, it is measured, and of an encoder that takes no part in training."""
    similarity = target_similarity(setup.config)
    if similarity is None:
        return []
    target, alias = f"target_loss = {setup.config.target_loss!r}", alias_of(similarity)
    if setup.consistency is None or not setup.config.run_eval:
        key = "scl.enabled" if setup.consistency is None else "run_eval"
        found = f"{target}: no similarity is measured, since {key} is false."
        return [Finding(found, "Set it to true, or take target_loss out.")]
    if alias not in setup.consistency.encoders:
        return [Finding(f"{target}: there is no such encoder.", did_you_mean(alias, list(setup.consistency.encoders)))]
    if similarity.startswith("secs_calibrated_") and alias not in setup.consistency.levels:
        found = f"{target}: the floor and ceiling of {alias} are not known, the data is too small to measure them."
        return [Finding(found, f"Set it to 'secs_{alias}', or give floor and ceiling of the encoder.")]
    if alias not in setup.consistency.holdout:
        found = f"{target}: the generator is trained to please this encoder, which says little about the voice."
        return [warning(found, "Name an encoder in scl.holdout, and take its similarity.")]
    return []


def check_stock_loss(setup: RunFacts) -> list[Finding]:
    """The config does not depend on which command trains it."""
    if not setup.named_vits or setup.consistency is None:
        return []
    lstm = any(_is_lstm_of_coqui(encoder) for encoder in setup.consistency.segment_encoders.values())
    harm = (
        "through stock's forward of this LSTM speaker encoder no gradient reaches the waveform"
        if lstm
        else "stock trains the speaker encoder along"
    )
    return [
        warning(
            "The config names Coqui's own model vits with use_speaker_encoder_as_loss. coqui-scl train makes it "
            f"scl_vits, which is checked here; with python -m TTS.bin.train_tts, {harm}, and the loss teaches nothing.",
            'Write "model": "scl_vits".',
        )
    ]


def check_discriminator(setup: RunFacts) -> list[Finding]:
    """The restored checkpoint brings its discriminator."""
    restored = setup.restored
    wanted = [name for name in setup.model_sizes if name.startswith(_DISCRIMINATOR)]
    if restored is None or not wanted or any(name.startswith(_DISCRIMINATOR) for name in restored.sizes):
        return []
    return [
        Finding(
            f"{restored.path} has no discriminator weights ({_DISCRIMINATOR}*): a discriminator from random weights "
            "misleads a trained generator, whose voice falls apart before it recovers.",
            "Start from a full training checkpoint; one for inference does not do.",
        )
    ]


def check_restored_weights(setup: RunFacts) -> list[Finding]:
    """The restored checkpoint fits the generator, since Coqui leaves out what does not without failing."""
    if setup.restored is None:
        return []
    own = {name: size for name, size in setup.model_sizes.items() if not name.startswith(_DISCRIMINATOR)}
    fits = sum(size for name, size in own.items() if setup.restored.sizes.get(name) == size)
    share = fits / max(1, sum(own.values()))
    misfits = [name for name, size in own.items() if setup.restored.sizes.get(name) != size]
    if share < _ENOUGH:
        found = (
            f"Of the generator's weights {share:.0%} are in {setup.restored.path} with the same name and size; the "
            f"others start from random numbers, the first is {misfits[0]}."
        )
        return [Finding(found, "Give model_args the architecture of the checkpoint, or leave --restore_path out.")]
    return []


def check_optimizer_state(setup: RunFacts) -> list[Finding]:
    """A run that goes on has its optimizers' state, which Coqui drops without failing where it does not fit."""
    if setup.restored is None or not setup.restored.continues_optimizers:
        return []
    lost = [name for name, optimizer in setup.optimizers.items() if not optimizer.state]
    if not lost:
        return []
    return [
        Finding(
            f"The run goes on without the state of the optimizer of the {' and the '.join(lost)}: the checkpoint's "
            "does not fit, as when rules in scl.freeze.modules or freeze flags changed since it was written.",
            "Continue with the config of the run, or start a new run with --restore_path.",
        )
    ]


def check_trains(setup: RunFacts) -> list[Finding]:
    """Something trains in the generator and in the discriminator at every step, or Coqui's backward fails."""
    return [
        Finding(
            f"The whole {name} is frozen at this step: Coqui's trainer cannot run its backward pass.",
            "Leave a module out of scl.freeze.modules, or switch its gradients on.",
        )
        for name, optimizer in setup.optimizers.items()
        if not any(p.requires_grad for group in optimizer.param_groups for p in group["params"])
    ]


def check_thaw(setup: RunFacts) -> list[Finding]:
    """The trainer bears parameters that have no gradient until they thaw."""
    if not setup.needs_all_gradients or not setup.thaws_at:
        return []
    return [
        Finding(
            f"Modules are frozen until step {max(setup.thaws_at)}, but under accelerate, and with a gradient scaler "
            "without grad_clip, Coqui's trainer fails on parameters without a gradient.",
            "Freeze them for the whole run (no until_step), give them a small lr_scale, set grad_clip, or do without "
            "accelerate.",
        )
    ]
