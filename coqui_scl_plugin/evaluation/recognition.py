"""Character error rate: how much of its text a speech recogniser understands in a recording."""

import importlib
import logging
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor

from coqui_scl_plugin.encoders.audio import resample
from coqui_scl_plugin.encoders.loading.files import UNREADABLE
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.evaluation.evaluation_set import SpokenRecording
from coqui_scl_plugin.evaluation.judges import Opinion
from coqui_scl_plugin.references.recordings import Recording
from coqui_scl_plugin.utils.fingerprint import fingerprint
from coqui_scl_plugin.utils.log_level import log_level

if TYPE_CHECKING:
    from types import ModuleType

_WHISPER_WINDOW_SECONDS = 30
_MIN_SECONDS = 0.05
"""Twice the window of wav2vec 2.0, the longest of those that refuse what is shorter."""


# --- errors in a text -------------------------------------------------------------------------------------------------


def _jiwer() -> "ModuleType":
    try:
        return importlib.import_module("jiwer")
    except ImportError as error:
        raise ConfigError(f'--asr needs jiwer: pip install "coqui-scl-plugin[asr]" ({error}).') from error


def normalise_text(text: str) -> str:
    r"""Return a text as the error rate compares it: NFKC, in lower case, without punctuation, with single spaces.

    >>> normalise_text("  L’été,\tDON'T — go! ")
    'lété dont go'
    """
    jiwer = _jiwer()
    steps = [jiwer.ToLowerCase(), jiwer.RemovePunctuation(), jiwer.SubstituteRegexes({r"\s+": " "}), jiwer.Strip()]
    return str(jiwer.Compose(steps)(unicodedata.normalize("NFKC", text)))


def character_error_rate(text: str, heard: str) -> float | None:
    """Return the character edits from what was said to what was heard, for each character said; may exceed 1.

    Both texts are normalised; spaces between words count. This is jiwer's `cer`.

    Args:
        text: What was said. The result is None if it has no letters or digits.
        heard: What a recogniser wrote.

    >>> character_error_rate("Hello, world!", "hallo world")
    0.09090909090909091
    >>> character_error_rate("yes", "")
    1.0
    """
    said = normalise_text(text)
    return float(_jiwer().cer(said, normalise_text(heard))) if said else None


# --- the recogniser ---------------------------------------------------------------------------------------------------


def _load_pipeline(model: str) -> Any:
    """Load a recogniser, but no code that comes with it. Raises ConfigError."""
    import transformers

    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        with log_level(logging.ERROR, "transformers"):
            loaded = transformers.pipeline(
                "automatic-speech-recognition", model=model, device=device, trust_remote_code=False
            )
    except (SafetensorError, StrictDataclassError, *UNREADABLE) as error:
        origin = (
            "the folder" if Path(model).is_dir() else "there is no such folder, and the model of this name on the hub"
        )
        raise ConfigError(
            f"--asr {model}: {origin} cannot be loaded as a speech recogniser of transformers, such as "
            f"openai/whisper-small: {type(error).__name__}: {error}"
        ) from error
    found, stored = type(loaded.model).__name__, loaded.model.config.architectures or []
    if found not in stored or loaded.tokenizer is None or loaded.feature_extractor is None:
        raise ConfigError(
            f"--asr {model}: holds {', '.join(stored) or 'an unknown model'}, not a complete speech recogniser: its "
            "weights, tokenizer and feature extractor are needed. Use a model such as openai/whisper-small."
        )
    return loaded


class RecognitionJudge:
    """A speech recogniser of transformers, such as Whisper, whose errors are counted in characters."""

    title = "recognition"
    measures: tuple[str, ...] = ("cer",)
    by_language = True
    packages: tuple[str, ...] = ("jiwer", "transformers")

    def __init__(self, model: str) -> None:
        """Load the recogniser.

        Args:
            model: Folder that `save_pretrained` wrote, or the name of a model on the Hugging Face hub.

        Raises:
            ConfigError: jiwer is not installed, or the model cannot be loaded.
        """
        _jiwer()
        self._pipeline = _load_pipeline(model)
        self.identity: dict[str, Any] = {"model": model, "fingerprint": fingerprint(self._pipeline.model)}

    def opinion(self, recording: Recording, waveform: Tensor, rate: int) -> Opinion:
        """Recognise `[T]` and compare with its text. Without a text, the rate is unknown; from no sound, it is 1."""
        if not isinstance(recording, SpokenRecording) or not normalise_text(recording.text):
            return {"cer": None}
        audible = len(waveform) >= _MIN_SECONDS * rate and bool(waveform.isfinite().all())
        heard = self._recognise(waveform, rate, recording.language) if audible else ""
        cer = character_error_rate(recording.text, heard)
        return {"cer": cer, "text": recording.text, "language": recording.language, "heard": heard}

    def _recognise(self, waveform: Tensor, rate: int, language: str) -> str:
        own = int(self._pipeline.feature_extractor.sampling_rate)
        samples = resample(waveform.float().unsqueeze(0), rate, own)[0].numpy()
        options: dict[str, Any] = {}
        if self._pipeline.type == "seq2seq_whisper":
            options["generate_kwargs"] = self._whisper_options(language)
            if len(samples) > _WHISPER_WINDOW_SECONDS * own:
                options["return_timestamps"] = True  # from which it finds where the next window begins
        with log_level(logging.ERROR, "transformers"), torch.inference_mode():
            return str(self._pipeline({"raw": samples, "sampling_rate": own}, **options)["text"]).strip()

    def _whisper_options(self, language: str) -> dict[str, str]:
        """Name the language to a Whisper that knows it; otherwise, it recognises the language itself."""
        config = self._pipeline.model.generation_config
        if not getattr(config, "is_multilingual", False):
            return {}
        # Coqui's names may have a region: pt-br, zh-cn
        code = language.lower().replace("_", "-").partition("-")[0]
        known = f"<|{code}|>" in (getattr(config, "lang_to_id", None) or {})
        return {"task": "transcribe"} | ({"language": code} if known else {})
