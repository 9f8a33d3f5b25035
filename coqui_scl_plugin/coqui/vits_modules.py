"""What the outermost modules of a stock `Vits` are used for. Modules of a subclass count as used for everything."""

_TRAINING_ONLY = frozenset({"posterior_encoder", "disc", "audio_resampler"})
_TEXT_ONLY = frozenset({"text_encoder", "duration_predictor", "flow", "emb_l"})


def is_used_in_speech(name: str) -> bool:
    """Tell whether text-to-speech (`Vits.inference`) uses the module of this name; voice conversion may use others."""
    return name not in _TRAINING_ONLY


def makes_training_waveform(name: str) -> bool:
    """Tell whether the waveform of a training step depends on the module of this name.

    That waveform is decoded from the posterior latents of a real recording. Text, durations and the flow only enter the
    other terms of stock's loss.
    """
    return name not in _TEXT_ONLY and name not in ("disc", "audio_resampler")
