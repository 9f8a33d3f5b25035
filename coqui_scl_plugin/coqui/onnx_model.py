"""Export to ONNX by Coqui's own `export_onnx`, and the check that onnxruntime speaks the same."""

import contextlib
import itertools
import warnings
from pathlib import Path
from types import ModuleType

import torch
from TTS.tts.models.vits import Vits

from coqui_scl_plugin.coqui.stock_model import made_up_tokens, say
from coqui_scl_plugin.errors import ConfigError, SclError

TOLERANCE = 1e-3
"""Largest difference of a sample between torch and onnxruntime, where the loudest sample has 1."""
_LENGTHS = (10, 37, 120)
"""Tokens of the texts that are compared; the export traces the model with 100."""


def import_onnxruntime() -> ModuleType:
    """Import onnxruntime, which is optional. Raises ConfigError if it is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(
            '--onnx: onnxruntime checks the exported model and is not installed: pip install "coqui-scl-plugin[onnx]".'
        ) from error
    return onnxruntime


def export_onnx(model: Vits, file: Path) -> float:
    """Write a stock model as an ONNX file, and compare onnxruntime with torch on it.

    Speech has random draws, which the two make differently: they are compared without, at noise scales of 0. With
    noise, both speak with the scales that the caller gives (`scales`: noise, length and duration noise).

    Args:
        model: Stock model on the CPU, in eval mode.
        file: File to write.

    Returns:
        The largest difference of a sample, relative to the loudest one.

    Raises:
        SclError: Coqui cannot export the model, or the difference exceeds `TOLERANCE`.
    """
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")  # of tracing, which the comparison judges
            model.export_onnx(str(file), verbose=False)
        model.load_onnx(str(file))
        difference = _largest_difference(model)
    except (RuntimeError, ValueError, TypeError) as error:
        raise SclError(f"--onnx: Coqui's export_onnx fails for this model: {str(error)[:300]}") from error
    finally:
        with contextlib.suppress(AttributeError):
            del model.onnx_sess
    if not difference <= TOLERANCE:
        raise SclError(
            f"--onnx: onnxruntime and torch differ by {difference:.2g} of the loudest sample, more than {TOLERANCE:g}: "
            "the ONNX file would speak differently. Export without --onnx, and report this."
        )
    return difference


def _largest_difference(model: Vits) -> float:
    """Return the largest difference over texts of several lengths, in the first and the last voice and language."""
    noise = model.inference_noise_scale, model.inference_noise_scale_dp
    model.inference_noise_scale = model.inference_noise_scale_dp = 0.0
    inputs = {node.name for node in model.onnx_sess.get_inputs()}
    speakers = sorted({0, model.num_speakers - 1}) if "sid" in inputs else [None]
    languages = sorted({0, model.language_manager.num_languages - 1})
    worst = 0.0
    try:
        for length, speaker, language in itertools.product(_LENGTHS, speakers, languages):
            tokens = made_up_tokens(model, length)
            conditioning = {} if speaker is None else {"speaker_ids": torch.tensor([speaker])}
            ours = say(model, tokens, conditioning, language)
            theirs = torch.from_numpy(
                model.inference_onnx(tokens, speaker_id=speaker, language_id=language if "langid" in inputs else None)
            )[0]
            if ours.shape != theirs.shape:
                return float("inf")
            worst = max(worst, float((ours - theirs).abs().max() / ours.abs().max().clamp_min(1e-9)))
    finally:
        model.inference_noise_scale, model.inference_noise_scale_dp = noise
    return worst
