"""Speaker encoder cosine similarity (SECS) of reconstructed held-out speech with the real recordings."""

from collections.abc import Sequence

import soundfile
import torch
from torch import Tensor

from coqui_scl_plugin.coqui.vits import SclVits
from coqui_scl_plugin.coqui.vits_audio import copy_speech, spectrogram_for
from coqui_scl_plugin.demo.corpus_files import Sample
from coqui_scl_plugin.encoders.audio import resample
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder

_SECONDS = 5.0


def load_waveform(sample: Sample) -> Tensor:
    """The first five seconds of a recording, `[T]`, float32 in [-1, 1]: longer ones only cost the judges time."""
    frames = int(_SECONDS * soundfile.info(sample["audio_file"]).samplerate)
    waveform, _ = soundfile.read(sample["audio_file"], frames=frames, dtype="float32")
    return torch.from_numpy(waveform)


def reconstruct(model: SclVits, waveform: Tensor, speaker: str) -> Tensor:
    """`[T]` through the posterior encoder and the decoder, as the speaker: `[T']`. No random draw takes part."""
    spec = spectrogram_for(model, waveform, model.config.audio.sample_rate)
    return copy_speech(model, spec, model.voice_of(speaker))


@torch.inference_mode()
def embed_all(encoder: SegmentEncoder, waveforms: Sequence[Tensor], sample_rate: int) -> Tensor:
    """`[N, D]`, one embedding a waveform of any length."""
    return torch.cat(
        [encoder(resample(waveform.unsqueeze(0), sample_rate, encoder.sample_rate)) for waveform in waveforms]
    )
