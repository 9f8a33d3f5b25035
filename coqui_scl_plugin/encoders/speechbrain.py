"""SpeechBrain's speaker encoders: ECAPA-TDNN, x-vector and ResNet."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from coqui_scl_plugin.encoders.feature_maps import FeatureMaps
from coqui_scl_plugin.encoders.loading.files import UNREADABLE, LocalFile, fetch, fetch_folder
from coqui_scl_plugin.errors import EncoderError

_PARTS = ("compute_features", "mean_var_norm", "embedding_model")
_MAX_FRAMES = 50


def _import_speechbrain() -> None:
    # otherwise its import allows TF32 in the whole process and turns off the profiling executor of TorchScript
    os.environ.setdefault("SB_DISABLE_QUIRKS", "allow_tf32,disable_jit_profiling")
    try:
        import speechbrain  # noqa: F401
    except ImportError as error:
        msg = f'The encoder speechbrain needs SpeechBrain: pip install "coqui-scl-plugin[speechbrain]" ({error}).'
        raise EncoderError(msg) from error


def _parts(path: Path) -> dict[str, Any]:
    """Build the modules that `hyperparams.yaml` describes, with random weights, and read the sampling rate."""
    from speechbrain.lobes.features import MFCC, Fbank

    from coqui_scl_plugin.encoders.loading.hyperparams import read_hyperparams

    parts = {"sample_rate": 16_000} | read_hyperparams(path, (*_PARTS, "sample_rate"))
    for name in _PARTS:
        if not isinstance(parts.get(name), nn.Module):
            msg = (
                f"{path}: the key {name} must hold !new: and a module, there is {parts.get(name)!r}. Use the folder of "
                "a speaker encoder such as speechbrain/spkrec-ecapa-voxceleb."
            )
            raise EncoderError(msg)
    if not isinstance(parts["compute_features"], Fbank | MFCC):
        features = type(parts["compute_features"]).__name__
        raise EncoderError(f"{path}: compute_features must be Fbank or MFCC of SpeechBrain, it is {features}.")
    if not isinstance(parts["sample_rate"], int) or parts["sample_rate"] <= 0:
        raise EncoderError(f"{path}: sample_rate = {parts['sample_rate']!r} must be a positive integer, in Hz.")
    if getattr(parts["mean_var_norm"], "norm_type", "sentence") != "sentence":
        norm_type = parts["mean_var_norm"].norm_type
        msg = f"{path}: mean_var_norm must normalise each sentence by itself, its norm_type is {norm_type!r}."
        raise EncoderError(msg)
    return parts


def _load(model: nn.Module, file: LocalFile) -> None:
    try:
        model.load_state_dict(torch.load(file.path, map_location="cpu", weights_only=True))
    except UNREADABLE as error:
        msg = f"{file.path} does not hold the weights of {type(model).__name__}: {type(error).__name__}: {error}"
        raise EncoderError(msg) from error


def _expected_noise(size: torch.Size, device: torch.device | str = "cpu") -> Tensor:
    """Return the mean of the noise, 1e-5 to 9e-5, that SpeechBrain's pooling adds to a mean even in eval mode."""
    return torch.full(size, 5e-5, device=device)


def _register_plain_tensors(module: nn.Module) -> None:
    """Turn tensors that SpeechBrain keeps as plain attributes into buffers, which follow the device and are guarded."""
    for part in module.modules():
        for name in [name for name, value in vars(part).items() if isinstance(value, Tensor)]:
            tensor = vars(part).pop(name)
            part.register_buffer(name, tensor, persistent=False)


def _fix_pooling_noise(module: nn.Module) -> None:
    """Replace the random noise of SpeechBrain's pooling by its mean."""
    from speechbrain.nnet.pooling import StatisticsPooling

    for part in module.modules():
        if isinstance(part, StatisticsPooling):
            part._get_gauss_noise = _expected_noise


class SpeechBrainEncoder(FeatureMaps):
    """A speaker encoder as SpeechBrain saves it; values equal `EncoderClassifier.encode_batch` at unit length.

    The same sound always has the same embedding: the noise that SpeechBrain adds in the x-vector is fixed.
    """

    def __init__(self, source: str, sha256: str | None = None) -> None:
        """Build the modules and load their weights.

        Args:
            source: Folder with `hyperparams.yaml` and `embedding_model.ckpt`, or its name on the Hugging Face hub,
                such as `speechbrain/spkrec-ecapa-voxceleb`.
            sha256: Expected SHA-256 of `embedding_model.ckpt`.

        Raises:
            EncoderError: SpeechBrain is not installed, or a file is missing, wrong, or could run code.
        """
        super().__init__()
        _import_speechbrain()
        folder = fetch_folder(source, ["hyperparams.yaml", "embedding_model.ckpt"])
        hyperparams = fetch(folder / "hyperparams.yaml")
        self.settings = hyperparams.sha256  # not part of any tensor, yet cached references depend on them
        description = hyperparams.path
        weights = fetch(folder / "embedding_model.ckpt", sha256)
        self.sha256 = weights.sha256
        parts = _parts(description)
        self.compute_features, self.mean_var_norm, self.embedding_model = (parts[name] for name in _PARTS)
        _load(self.embedding_model, weights)
        _register_plain_tensors(self)
        _fix_pooling_noise(self)
        self.eval()
        self.sample_rate = parts["sample_rate"]
        self.min_samples, self.embedding_dim = self._shortest(description)

    def _shortest(self, description: Path) -> tuple[int, int]:
        """Find the shortest length that the layers take, since some pad by reflection, and the size of an embedding."""
        hop = self.compute_features.compute_STFT.hop_length
        refusal = None
        for frames in range(2, _MAX_FRAMES):  # one frame minus its own mean is nothing
            samples = (frames - 1) * hop
            try:
                with torch.no_grad():
                    embedding = self.embed(torch.arange(2 * samples).sin().view(2, samples))
            except UNREADABLE as error:
                refusal = error
            else:
                return samples, embedding.shape[1]
        msg = f"{description}: its parts do not fit together: {type(refusal).__name__}: {refusal}"
        raise EncoderError(msg) from refusal

    def embed(self, waveform: Tensor) -> Tensor:
        """Embed `[B, T]` at `sample_rate`: `[B, D]`, unit length."""
        self.compute_features.compute_fbanks.device_inp = waveform.device
        features = self.mean_var_norm(self.compute_features(waveform), waveform.new_ones(len(waveform)))
        return normalize(self.embedding_model(features).flatten(1), dim=1)

    def feature_layers(self) -> Sequence[nn.Module]:
        """Return the SE-Res2Net blocks of an ECAPA-TDNN and the layer that joins them; other models have none."""
        from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN

        model = self.embedding_model
        return (*model.blocks[1:], model.mfa) if isinstance(model, ECAPA_TDNN) else ()
