"""Speaker encoders of a third party: sound ones, and others each with a defect that occurs in the wild."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, normalize

from coqui_scl_plugin import build_encoder, hookimpl
from coqui_scl_plugin.encoders.audio import resample

_FRAME, _BANDS = 400, 12


class Sound(nn.Module):
    """The logarithm of the power in 12 bands, weighted."""

    sample_rate, embedding_dim, min_samples = 16_000, 8, _FRAME

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(8, _BANDS, generator=generator))

    def power(self, waveform: Tensor) -> Tensor:
        """Return the power in each frame and band, `[B, frames, bands]`."""
        spectrum = torch.view_as_real(torch.fft.rfft(waveform.unfold(-1, _FRAME, _FRAME // 2), norm="ortho"))
        power = spectrum.square().sum(dim=-1)[..., : _BANDS * 16]
        return power.unflatten(-1, (_BANDS, 16)).mean(dim=-1)

    def compress(self, power: Tensor) -> Tensor:
        return (power + 1e-6).log()

    def norm(self, features: Tensor) -> Tensor:
        return features

    def forward(self, waveform: Tensor) -> Tensor:
        features = self.norm(self.compress(self.power(waveform))).mean(dim=1)
        return normalize(features @ self.weight.T, dim=-1)


class NoGrad(Sound):
    """Computes no gradient, since its author only ever embedded with it."""

    @torch.no_grad()
    def forward(self, waveform: Tensor) -> Tensor:
        return super().forward(waveform)


class LikeOnnx(Sound):
    """Computes in numpy, as a session of onnxruntime would."""

    def array(self, waveform: Tensor) -> np.ndarray:
        return waveform.detach().cpu().numpy()

    def forward(self, waveform: Tensor) -> Tensor:
        frames = np.lib.stride_tricks.sliding_window_view(self.array(waveform), _FRAME, axis=-1)[:, :: _FRAME // 2]
        power = np.square(np.abs(np.fft.rfft(frames, norm="ortho")))[..., : _BANDS * 16]
        features = np.log(power.reshape(*power.shape[:2], _BANDS, 16).mean(-1) + 1e-6).mean(1).astype(np.float32)
        return normalize(torch.from_numpy(features) @ self.weight.detach().T, dim=-1)


class LikeOnnxWithoutDetach(LikeOnnx):
    """Asks for the array of a tensor that carries a gradient, which torch refuses."""

    def array(self, waveform: Tensor) -> np.ndarray:
        return waveform.numpy()


class BatchNorm(Sound):
    """Sound: its batch normalisation follows the mode."""

    def __init__(self) -> None:
        super().__init__()
        self.batch_norm = nn.BatchNorm1d(_BANDS)

    def norm(self, features: Tensor) -> Tensor:
        return self.batch_norm(features.transpose(1, 2)).transpose(1, 2)


class AlwaysTraining(BatchNorm):
    """Stays in train mode, whichever mode is set."""

    def train(self, mode: bool = True) -> "AlwaysTraining":
        return super().train(True)


class FunctionalBatchNorm(Sound):
    """Updates its statistics in eval mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(_BANDS))
        self.register_buffer("variance", torch.ones(_BANDS))

    def norm(self, features: Tensor) -> Tensor:
        normed = batch_norm(features.transpose(1, 2), self.mean, self.variance, training=True)
        return normed.transpose(1, 2)


class RootAtZero(Sound):
    """The root of the power, whose slope in digital silence is infinite."""

    def compress(self, power: Tensor) -> Tensor:
        return power.sqrt()


class LogarithmOfZero(Sound):
    """The logarithm of the power, cut off after it was taken."""

    def compress(self, power: Tensor) -> Tensor:
        return power.log().clamp_min(-14.0)


class Gate(Sound):
    """Takes quiet speech for silence."""

    def forward(self, waveform: Tensor) -> Tensor:
        loud = waveform.square().mean(dim=-1, keepdim=True).sqrt() > 5e-3
        return super().forward(waveform * loud)


class Constant(Sound):
    """Ignores its input."""

    def forward(self, waveform: Tensor) -> Tensor:
        return super().forward(waveform * 0.0 + 0.1)


class Raises(Sound):
    """Takes spectrograms, not waveforms."""

    def forward(self, waveform: Tensor) -> Tensor:
        if waveform.ndim != 3:
            raise ValueError(f"expected [B, 1, T], got {list(waveform.shape)}")
        return super().forward(waveform[:, 0])


class HiddenNetwork(Sound):
    """Keeps its weights where torch does not see them."""

    def __init__(self) -> None:
        super().__init__()
        weight = self.weight.detach()
        del self.weight
        self.hidden = [weight]

    def forward(self, waveform: Tensor) -> Tensor:
        features = self.compress(self.power(waveform)).mean(dim=1)
        return normalize(features @ self.hidden[0].T, dim=-1)


class HighRate(Sound):
    """Takes speech at 24 kHz."""

    sample_rate = 24_000


class StockLstm(nn.Module):
    """Coqui's own LSTM with Coqui's own forward."""

    min_samples = 512

    def __init__(self, model_path: str, config_path: str) -> None:
        super().__init__()
        from TTS.config import load_config
        from TTS.encoder.utils.generic_utils import setup_encoder_model

        config = load_config(config_path)
        self.network = setup_encoder_model(config)
        self.network.load_checkpoint(config, model_path, eval=True)
        self.sample_rate, self.embedding_dim = config.audio.sample_rate, self.network.proj_dim

    def forward(self, waveform: Tensor) -> Tensor:
        return self.network(waveform.unsqueeze(1).clone(), l2_norm=True)


class Repackaged(nn.Module):
    """The network of another encoder, with other names for its tensors, and at another rate of its own."""

    embedding_dim = 256

    def __init__(self, name: str = "ge2e", sample_rate: int = 16_000) -> None:
        super().__init__()
        self.network = build_encoder(name, {})
        self.sample_rate, self.min_samples = sample_rate, self.network.min_samples * sample_rate // 16_000

    def forward(self, waveform: Tensor) -> Tensor:
        return self.network(resample(waveform, self.sample_rate, 16_000))


ENCODERS = {
    "sound": Sound,
    "no_grad": NoGrad,
    "like_onnx": LikeOnnx,
    "like_onnx_without_detach": LikeOnnxWithoutDetach,
    "batch_norm": BatchNorm,
    "always_training": AlwaysTraining,
    "functional_batch_norm": FunctionalBatchNorm,
    "root_at_zero": RootAtZero,
    "logarithm_of_zero": LogarithmOfZero,
    "gate": Gate,
    "constant": Constant,
    "raises": Raises,
    "hidden_network": HiddenNetwork,
    "high_rate": HighRate,
    "stock_lstm": StockLstm,
    "repackaged": Repackaged,
}


@hookimpl
def scl_encoders() -> dict[str, type]:
    return ENCODERS
