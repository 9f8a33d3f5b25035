"""What preflight asks of Coqui about a config: its text cleaners and phonemizers, and what it makes of a config."""

import copy
import functools
import inspect
import logging
from collections.abc import Sequence
from typing import Any

from trainer.trainer_utils import get_optimizer, get_scheduler
from TTS.tts.datasets.formatters import _FORMATTER_REGISTRY
from TTS.tts.utils.text import cleaners, phonemizers
from TTS.tts.utils.text.tokenizer import TTSTokenizer
from TTS.utils.import_utils import PHONEMIZER_DEPS

from coqui_scl_plugin.preflight.coqui_tools import CoquiTools, Phonemizers
from coqui_scl_plugin.utils.log_level import log_level

_INSTALLED_BY = {"espeak": "apt-get install espeak-ng"}
"""How a phonemizer is installed that comes with no extra of coqui-tts."""


def coqui_tools() -> CoquiTools:
    """Return the lists and constructors of the Coqui that is installed."""
    return CoquiTools(
        formatters=_FORMATTER_REGISTRY.keys(),
        cleaners=[name for name, _ in inspect.getmembers(cleaners, inspect.isfunction) if name.endswith("_cleaners")],
        phonemizers=_phonemizers,
        make_tokenizer=_make_tokenizer,
        make_optimizer=_make_optimizer,
        make_scheduler=get_scheduler,
    )


@functools.cache
def _phonemizers() -> Phonemizers:
    with log_level(logging.ERROR, "TTS"):
        phonemizers._register_phonemizers()
        languages = {name: list(kind.supported_languages()) for name, kind in phonemizers.PHONEMIZERS.items()}
    absent = {
        name: f"pip install 'coqui-tts[{needs.extra}]' ({', '.join(needs.packages)})"
        for name, needs in PHONEMIZER_DEPS.items()
        if name not in languages
    }
    for name, kind in phonemizers.PHONEMIZERS.items():
        if not kind.is_available():
            absent[name] = _INSTALLED_BY.get(name, "see its module in TTS.tts.utils.text.phonemizers")
    available = {name: spoken for name, spoken in languages.items() if name not in absent}
    return Phonemizers(available, absent, dict(phonemizers.DEF_LANG_TO_PHONEMIZER))


def _make_tokenizer(config: Any) -> TTSTokenizer:
    own = copy.copy(config)
    own.characters = copy.deepcopy(config.characters)
    with log_level(logging.ERROR, "TTS"):
        return TTSTokenizer.init_from_config(own)[0]


def _make_optimizer(config: Any, rate: float, parameters: Sequence[Any]) -> Any:
    return get_optimizer(config.optimizer, config.optimizer_params, rate, parameters=iter(parameters))
