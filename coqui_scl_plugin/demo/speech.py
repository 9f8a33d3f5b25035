"""Speech of a trained model for the held-out recordings: reconstructed, and from their texts."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from coqui_scl_plugin.coqui.vits_audio import reconstruct, speak, speaker_conditioning, spectrogram_for
from coqui_scl_plugin.demo.corpus_files import Corpus, Sample, load_beginning
from coqui_scl_plugin.demo.small_vits import SmallVits

SPEECH = {"reconstruction": "reconstructed", "tts": "from text"}
"""The kinds of speech, in words."""
Speech = Mapping[str, list[Tensor]]
"""By kind, one waveform `[T]` for each held-out recording."""


def _reconstruct(model: SmallVits, sample: Sample, rate: int) -> Tensor:
    """Reconstruct the beginning of a recording in its speaker's voice. No random draw."""
    spec = spectrogram_for(model, load_beginning(sample), rate)
    return reconstruct(model, spec, speaker_conditioning(model, sample["speaker_name"])).cpu()


def _speak(model: SmallVits, sample: Sample, rate: int) -> Tensor:
    """Speak the text of a recording in its speaker's voice, at the model's rate."""
    return speak(model, sample["text"], sample["speaker_name"])


_MAKE: dict[str, Callable[[SmallVits, Sample, int], Tensor]] = {"reconstruction": _reconstruct, "tts": _speak}


def speech_of(model: SmallVits, corpus: Corpus, seed: int) -> Speech:
    """Make both kinds of speech; each sentence has a seed of its own, so that the same model says the same."""
    made: dict[str, list[Tensor]] = {kind: [] for kind in SPEECH}
    for kind, waveforms in made.items():
        for index, sample in enumerate(corpus.held_out):
            torch.manual_seed(seed + index)
            waveforms.append(_MAKE[kind](model, sample, corpus.rate))
    return made
