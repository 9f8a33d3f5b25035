"""Speaker encoders in the files of other libraries, at their real sizes, randomly initialised: no download."""

import warnings
from pathlib import Path

import torch
import torchaudio
import transformers
from hyperpyyaml import load_hyperpyyaml
from torch import Tensor, nn

SPEECHBRAIN = ("ecapa", "xvector", "resnet")
TRANSFORMERS = {
    "wavlm": "WavLMForXVector",
    "wav2vec2": "Wav2Vec2ForXVector",
    "unispeech-sat": "UniSpeechSatForXVector",
    "data2vec-audio": "Data2VecAudioForXVector",
}
"""Classes by kind."""

_EMBEDDING_MODELS = {
    "ecapa": """!new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
    input_size: !ref <n_mels>
    channels: {channels}
    kernel_sizes: [5, 3, 3, 3, 1]
    dilations: [1, 2, 3, 4, 1]
    attention_channels: 128
    lin_neurons: !ref <size>""",
    "xvector": """!new:speechbrain.lobes.models.Xvector.Xvector
    in_channels: !ref <n_mels>
    activation: !name:torch.nn.LeakyReLU
    tdnn_blocks: 5
    tdnn_channels: {channels}
    tdnn_kernel_sizes: [5, 3, 3, 1, 1]
    tdnn_dilations: [1, 2, 3, 1, 1]
    lin_neurons: !ref <size>""",
    "resnet": """!new:speechbrain.lobes.models.ResNet.ResNet
    input_size: !ref <n_mels>
    channels: {channels}
    strides: [1, 2, 2, 2]
    block_sizes: [3, 4, 6, 3]
    lin_neurons: !ref <size>""",
}
_MELS_AND_SIZES = {"ecapa": (80, 192), "xvector": (24, 512), "resnet": (80, 256)}
_CHANNELS = {
    "ecapa": [1024, 1024, 1024, 1024, 3072],
    "xvector": [512, 512, 512, 512, 1500],
    "resnet": [128, 128, 256, 256],
}
_HYPERPARAMS = """# Model: {kind} for speaker verification
n_mels: {mels}
size: {size}
out_n_neurons: 10
pretrained_path: speechbrain/spkrec-{kind}-voxceleb

compute_features: !new:speechbrain.lobes.features.Fbank
    n_mels: !ref <n_mels>

mean_var_norm: !new:speechbrain.processing.features.InputNormalization
    norm_type: sentence
    std_norm: False

embedding_model: {embedding_model}

classifier: !new:speechbrain.lobes.models.ECAPA_TDNN.Classifier
    input_size: !ref <size>
    out_neurons: !ref <out_n_neurons>

modules:
    compute_features: !ref <compute_features>
    mean_var_norm: !ref <mean_var_norm>
    embedding_model: !ref <embedding_model>
    classifier: !ref <classifier>

label_encoder: !new:speechbrain.dataio.encoder.CategoricalEncoder

pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        embedding_model: !ref <embedding_model>
        classifier: !ref <classifier>
        label_encoder: !ref <label_encoder>
    paths:
        embedding_model: !ref <pretrained_path>/embedding_model.ckpt
        classifier: !ref <pretrained_path>/classifier.ckpt
        label_encoder: !ref <pretrained_path>/label_encoder.txt
"""


def write_speechbrain(kind: str, folder: Path, *, small: bool = False) -> Path:
    """Write an encoder of `SPEECHBRAIN`, laid out as on the hub, for `SpeechBrainEncoder(folder)`; return `folder`.

    A `small` one has an eighth of the channels.
    """
    mels, size = _MELS_AND_SIZES[kind]
    channels = [number // 8 if small else number for number in _CHANNELS[kind]]
    model = _EMBEDDING_MODELS[kind].format(channels=channels)
    text = _HYPERPARAMS.format(kind=kind, mels=mels, size=size, embedding_model=model)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hyperparams.yaml").write_text(text)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        parts = load_hyperpyyaml(text)
        for name in ("embedding_model", "classifier"):
            _with_statistics(parts[name])
            torch.save(parts[name].state_dict(), folder / f"{name}.ckpt")
    parts["label_encoder"].update_from_iterable(f"speaker {number}" for number in range(10))
    parts["label_encoder"].save(folder / "label_encoder.txt")
    return folder


def _with_statistics(module: nn.Module) -> None:
    """Draw running statistics as training leaves them, not zero and one."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.running_mean.normal_(std=0.1)
            part.running_var.uniform_(0.5, 1.5)


def write_transformers(kind: str, folder: Path, *, small: bool = False, do_normalize: bool = True) -> Path:
    """Save a model of `TRANSFORMERS` by save_pretrained, for `TransformersEncoder(folder)`; return `folder`.

    It has about 100 million parameters, a `small` one 0.2 million; both have the same strides, and thus the same
    `min_samples`.
    """
    cls = getattr(transformers, TRANSFORMERS[kind])
    size = {
        "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96,
        "conv_dim": (32,) * 7, "tdnn_dim": (48, 48, 48, 48, 96), "xvector_output_dim": 32,
        "num_conv_pos_embedding_groups": 4,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        cls(cls.config_class(**(size if small else {}))).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=do_normalize).save_pretrained(folder)
    return folder


class _MelsAndConvolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mel = torchaudio.transforms.MelSpectrogram(n_fft=400, hop_length=160, n_mels=40)
        self.convolution = nn.Conv1d(40, 64, 5)
        self.projection = nn.Linear(128, 48)

    def forward(self, waveform: Tensor) -> Tensor:
        frames = torch.relu(self.convolution(torch.log(self.mel(waveform) + 1e-6)))
        return self.projection(torch.cat([frames.mean(dim=2), frames.std(dim=2)], dim=1))


def write_torchscript(folder: Path) -> Path:
    """Write a small scripted encoder at 16 kHz, 48-d, for `TorchScriptEncoder(path)`; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "encoder.pt"
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.", category=FutureWarning)
        torch.manual_seed(0)
        torch.jit.script(_MelsAndConvolution().eval()).save(str(path))
    return path


def params(name: str, folder: Path) -> dict[str, str]:
    """Write the small encoder `name`, such as `speechbrain-ecapa` or `torchscript`, and return its `params`."""
    library, _, kind = name.partition("-")
    if library == "torchscript":
        return {"model_path": str(write_torchscript(folder))}
    write = {"speechbrain": write_speechbrain, "transformers": write_transformers}[library]
    return {"source": str(write(kind, folder, small=True))}
