"""The setting of all methods: real speech, a small generator, and Coqui's encoders at their real sizes."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Literal, Self

import soundfile
import torch
import torchaudio
from torch import Tensor, nn
from TTS.encoder.models.lstm import LSTMSpeakerEncoder
from TTS.encoder.models.resnet import ResNetSpeakerEncoder
from TTS.vocoder.models.hifigan_generator import HifiganGenerator

from coqui_scl_plugin.demo.corpus_files import BUNDLED, Corpus

Kind = Literal["resnet", "lstm"]

RATE = 16_000
"""Sample rate of the speech and of both encoders, in Hz."""
SAMPLES = 16_384
"""Length of a segment: 1.024 s, 64 frames."""

_HOP = 256
_MELS = 80
_BATCHES = 4
_ENCODER_AUDIO = {
    "fft_size": 512, "win_length": 400, "hop_length": 160, "sample_rate": RATE, "preemphasis": 0.97,
}  # fmt: skip


@dataclass(frozen=True)
class Batch:
    """Segments of real speech, one for each speaker."""

    real: Tensor
    """`[B, T]`, in [-1, 1]."""
    features: Tensor
    """`[B, M, T / 256]`, the log-mel spectrograms from which the generator makes waveforms."""
    references: dict[Kind, Tensor]
    """`[B, D]` by encoder, the embeddings of `real` before training, without a gradient."""


@dataclass(frozen=True)
class Setting:
    """The same start and the same batches for every method."""

    generator: nn.Module
    encoders: dict[Kind, nn.Module]
    batches: list[Batch]

    @classmethod
    def build(cls) -> Self:
        """Build the setting with random weights from a fixed seed, since Coqui's encoders come in no package."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            generator = _generator()
            # Coqui loads its speaker encoders in eval mode
            encoders: dict[Kind, nn.Module] = {"resnet": _resnet().eval(), "lstm": _lstm().eval()}
        return cls(generator, encoders, [_batch(real, encoders) for real in _segments()])


def _generator() -> nn.Module:
    """Return Coqui's HiFi-GAN with VITS's upsampling factors and few channels."""
    return HifiganGenerator(
        in_channels=_MELS,
        out_channels=1,
        resblock_type="2",
        resblock_dilation_sizes=[[1, 2], [2, 6]],
        resblock_kernel_sizes=[3, 5],
        upsample_kernel_sizes=[16, 16, 4, 4],
        upsample_initial_channel=64,
        upsample_factors=[8, 8, 2, 2],
    )


def _resnet() -> nn.Module:
    return ResNetSpeakerEncoder(64, 512, log_input=True, use_torch_spec=True, audio_config=_audio(64))


def _lstm() -> nn.Module:
    return LSTMSpeakerEncoder(80, 256, 768, 3, use_torch_spec=True, audio_config=_audio(80))


def _audio(mels: int) -> dict[str, Any]:
    return {**_ENCODER_AUDIO, "num_mels": mels}


def _segments() -> list[Tensor]:
    """Return `[B, T]` for each batch, from the middle of one recording of every speaker."""
    recordings: dict[str, list[Tensor]] = defaultdict(list)
    for sample in Corpus.load(BUNDLED).train:
        samples, _ = soundfile.read(sample["audio_file"], dtype="float32")
        start = (len(samples) - SAMPLES) // 2
        recordings[sample["speaker_name"]].append(torch.from_numpy(samples[start : start + SAMPLES]))
    return [torch.stack([own[index] for own in recordings.values()]) for index in range(_BATCHES)]


@torch.no_grad()
def _batch(real: Tensor, encoders: dict[Kind, nn.Module]) -> Batch:
    mel = torchaudio.transforms.MelSpectrogram(RATE, n_fft=1024, hop_length=_HOP, n_mels=_MELS)
    features = (mel(real)[..., : SAMPLES // _HOP] + 1e-5).log()
    # cloned, since Coqui's encoders squeeze the caller's tensor in place
    references = {kind: encoder(real.clone(), l2_norm=True) for kind, encoder in encoders.items()}
    return Batch(real, features, references)
