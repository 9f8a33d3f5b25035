"""Speaker encoders of Hugging Face transformers: WavLM and related models with an x-vector head."""

import contextlib
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import normalize

from coqui_scl_plugin.encoders.audio import standardise
from coqui_scl_plugin.encoders.base import SpeakerEncoder
from coqui_scl_plugin.encoders.loading.files import UNREADABLE, LocalFile, fetch, fetch_folder
from coqui_scl_plugin.errors import EncoderError
from coqui_scl_plugin.utils.log_level import log_level

_ARCHITECTURES = ("WavLMForXVector", "Wav2Vec2ForXVector", "UniSpeechSatForXVector", "Data2VecAudioForXVector")
_JSON_FILES = ("config.json", "preprocessor_config.json")
_SAFETENSORS_FILE, _PICKLE_FILE = "model.safetensors", "pytorch_model.bin"


def shortest(
    kernels: Sequence[int], strides: Sequence[int], tdnn_kernels: Sequence[int], tdnn_dilations: Sequence[int]
) -> int:
    """Compute the fewest samples of which the layers leave two frames, as a standard deviation needs.

    >>> shortest([10, 3, 3, 3, 3, 2, 2], [5, 2, 2, 2, 2, 2, 2], [5, 3, 3, 1, 1], [1, 2, 3, 1, 1])
    5200
    """
    size = 2 + sum((kernel - 1) * dilation for kernel, dilation in zip(tdnn_kernels, tdnn_dilations, strict=True))
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        size = (size - 1) * stride + kernel
    return size


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(fetch(path).path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise EncoderError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(content, dict):
        raise EncoderError(f"{path} must hold a JSON object, it holds {type(content).__name__}.")
    return content


def _architecture(config: dict[str, Any], path: Path) -> str:
    if "auto_map" in config:
        msg = f"{path}: auto_map names code that comes with the model, which is never run here. Use a model without it."
        raise EncoderError(msg)
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and len(names) == 1 else None
    if name not in _ARCHITECTURES:
        msg = (
            f"{path}: architectures = {names!r} is not a supported speaker encoder of transformers. Expected one of "
            f"{', '.join(_ARCHITECTURES)}, as in microsoft/wavlm-base-sv."
        )
        raise EncoderError(msg)
    if config.get("add_adapter"):
        raise EncoderError(f"{path}: add_adapter is not supported: use a speaker encoder without adapter layers.")
    return str(name)


def _folder(source: str) -> Path:
    """Find or fetch the folder, with the weights in one format only, since they are large."""
    folder = fetch_folder(source, [*_JSON_FILES, f"{_SAFETENSORS_FILE}*"])
    if (folder / _SAFETENSORS_FILE).is_file():
        return folder
    return fetch_folder(source, [*_JSON_FILES, f"{_PICKLE_FILE}*"])


def _weights(folder: Path, sha256: str | None) -> LocalFile:
    names = (_SAFETENSORS_FILE, _PICKLE_FILE)
    present = [name for name in names if (folder / name).is_file()]
    shards = [path for name in names if (path := folder / f"{name}.index.json").is_file()]
    if shards and not present:
        msg = (
            f"{shards[0]}: weights split into several files are not supported. Load the model with transformers, and "
            "save it with save_pretrained(..., max_shard_size='10GB')."
        )
        raise EncoderError(msg)
    return fetch(folder / (present[0] if present else _SAFETENSORS_FILE), sha256)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Silence the progress bars and reports of transformers; `_load` raises an error for those that matter."""
    from transformers.utils import logging as bars

    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        with log_level(logging.CRITICAL, "transformers"):
            yield
    finally:
        if shown:
            bars.enable_progress_bar()


def _read_weights(path: Path) -> Any:
    if path.name == _SAFETENSORS_FILE:
        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _load(architecture: str, raw: dict[str, Any], file: LocalFile) -> nn.Module:
    import transformers

    cls = getattr(transformers, architecture)
    try:
        # known keys only: others make transformers fetch kernels from the hub, or import quantisers
        known = cls.config_class().to_dict().keys()
        config = cls.config_class.from_dict({key: value for key, value in raw.items() if key in known})
        state = _read_weights(file.path)
        with _silence():
            model, report = cls.from_pretrained(
                None, config=config, state_dict=state, dtype=torch.float32,
                output_loading_info=True, ignore_mismatched_sizes=True,
            )  # fmt: skip
    except (SafetensorError, StrictDataclassError, *UNREADABLE) as error:
        msg = f"{file.path} with its config.json is not a readable {architecture}: {type(error).__name__}: {error}"
        raise EncoderError(msg) from error
    wrong = {kind.removesuffix("_keys"): sorted(map(str, keys)) for kind, keys in report.items() if keys}
    if wrong:
        listing = "; ".join(f"{kind}: {', '.join(keys[:3])}{', ...' * (len(keys) > 3)}" for kind, keys in wrong.items())
        msg = f"{file.path} does not hold the weights of {architecture} with this config.json ({listing})."
        raise EncoderError(f"{msg} Missing weights would be random: use the files of one model.")
    return model


class TransformersEncoder(SpeakerEncoder):
    """A model of transformers with an x-vector head; its values equal `model(...).embeddings` at unit length.

    The normalisation that transformers' feature extractor does in numpy is done in torch and passes gradients.
    """

    def __init__(self, source: str, sha256: str | None = None) -> None:
        """Load the model without running any code that its folder may contain.

        Args:
            source: Folder as `save_pretrained` writes it, with `config.json`, `preprocessor_config.json` and
                `model.safetensors` or `pytorch_model.bin`; or its name on the Hugging Face hub, such as
                `microsoft/wavlm-base-sv`.
            sha256: Expected SHA-256 of the weights file.

        Raises:
            EncoderError: a file is missing or wrong, or the model is not a supported speaker encoder.
        """
        super().__init__()
        folder = _folder(source)
        config, extractor = (_read_json(folder / name) for name in _JSON_FILES)
        # not part of any tensor, yet cached references depend on them
        self.settings = fetch(folder / "config.json").sha256
        architecture = _architecture(config, folder / "config.json")
        weights = _weights(folder, sha256)
        self.sha256 = weights.sha256
        self.model = _load(architecture, config, weights)
        self.normalise = bool(extractor.get("do_normalize", True))
        self.sample_rate = extractor.get("sampling_rate", 16_000)
        if not isinstance(self.sample_rate, int) or self.sample_rate <= 0:
            path = folder / "preprocessor_config.json"
            raise EncoderError(f"{path}: sampling_rate = {self.sample_rate!r} must be a positive integer, in Hz.")
        sizes: Any = self.model.config
        layers = len(sizes.tdnn_dim)
        self.embedding_dim = int(sizes.xvector_output_dim)
        self.min_samples = shortest(
            sizes.conv_kernel, sizes.conv_stride, sizes.tdnn_kernel[:layers], sizes.tdnn_dilation[:layers]
        )

    def embed(self, waveform: Tensor) -> Tensor:
        """Embed `[B, T]` at `sample_rate`: `[B, D]`, unit length."""
        return normalize(self._run(waveform).embeddings, dim=1)

    def features(self, waveform: Tensor) -> list[Tensor]:
        """Return the hidden states of waveforms `[B, T]`, as for `forward`: `[B, C, frames]` each."""
        return self.embed_with_features(waveform)[1]

    def embed_with_features(self, waveform: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the embeddings `[B, D]` that `forward` returns, and the hidden states, from a single pass.

        The input of the transformer and the outputs of its first quarter of layers are left out.
        """
        self.check(waveform)
        output = self._run(waveform, output_hidden_states=True)
        layers = output.hidden_states[1:]
        return normalize(output.embeddings, dim=1), [layer.transpose(1, 2) for layer in layers[len(layers) // 4 :]]

    def _run(self, waveform: Tensor, **options: bool) -> Any:
        return self.model(standardise(waveform) if self.normalise else waveform, return_dict=True, **options)
