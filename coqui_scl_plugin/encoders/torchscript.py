"""Speaker encoders saved as TorchScript."""

import contextlib
import warnings
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import normalize

from coqui_scl_plugin.encoders.base import SpeakerEncoder
from coqui_scl_plugin.encoders.loading.files import UNREADABLE, fetch
from coqui_scl_plugin.encoders.loading.torchscript_calls import checked_calls
from coqui_scl_plugin.encoders.recurrent import needs_backward, without_cudnn
from coqui_scl_plugin.errors import EncoderError

_RECURRENT_CALLS = {"gru", "lstm", "rnn_relu", "rnn_tanh"}


def _load(path: Path) -> tuple[nn.Module, bool]:
    """Load the module, and tell whether it has recurrent layers."""
    try:
        calls = checked_calls(path)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"`torch\.jit\.load` is ", category=FutureWarning)
            return torch.jit.load(str(path), map_location="cpu"), not _RECURRENT_CALLS.isdisjoint(calls)
    except EncoderError:
        raise
    except (torch.jit.Error, *UNREADABLE) as error:
        msg = f"{path} is not a readable TorchScript file, as torch.jit.save writes it: {type(error).__name__}: {error}"
        raise EncoderError(msg) from error


class TorchScriptEncoder(SpeakerEncoder):
    """A TorchScript program from waveforms `[B, T]` to embeddings `[B, D]`, which are normalised here."""

    def __init__(
        self,
        model_path: str,
        sample_rate: Annotated[int, Field(gt=0)] = 16_000,
        min_samples: Annotated[int, Field(gt=0)] = 16_000,
        sha256: str | None = None,
    ) -> None:
        """Check what the program calls, load it, and try it on noise.

        Args:
            model_path: Path or URL of the file that `torch.jit.save` wrote.
            sample_rate: Hz of the waveforms that it takes.
            min_samples: Length of the shortest waveform that it takes; the plugin tiles shorter ones to it.
            sha256: Expected SHA-256 of the file.

        Raises:
            EncoderError: the file is missing or wrong, or its program touches files or does not map `[B, T]` to
                `[B, D]`.
        """
        super().__init__()
        file = fetch(model_path, sha256)
        self.sha256 = file.sha256
        self.model, self._recurrent = _load(file.path)
        self.eval()
        self.sample_rate, self.min_samples = sample_rate, min_samples
        self.embedding_dim = self._try(file.path, min_samples)
        if self._try(file.path, 2 * min_samples + 1) != self.embedding_dim:
            raise EncoderError(f"{file.path} returns embeddings whose size depends on the length of the waveform.")

    def _try(self, path: Path, samples: int) -> int:
        """Return the size of an embedding of noise after checking its type, shape and values."""
        noise = 0.1 * torch.randn(2, samples, generator=torch.Generator().manual_seed(0))
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            try:
                embedding = self._run(noise)
            except (torch.jit.Error, *UNREADABLE) as error:
                reason = str(error).strip().splitlines()[-1]
                raise self._unfit(path, samples, f"fails: {type(error).__name__}: {reason}") from error
        if not isinstance(embedding, Tensor):
            raise self._unfit(path, samples, f"returns a {type(embedding).__name__}")
        if embedding.ndim != 2 or len(embedding) != 2 or embedding.dtype != torch.float32:
            raise self._unfit(path, samples, f"returns {list(embedding.shape)} of {embedding.dtype}")
        if not embedding.isfinite().all():
            raise self._unfit(path, samples, "returns values that are not finite")
        return embedding.shape[1]

    def _unfit(self, path: Path, samples: int, what: str) -> EncoderError:
        msg = (
            f"{path}: for noise [2, {samples}] of float32 it {what}. It must map waveforms [B, T], for any B and any "
            f"T >= min_samples, to embeddings [B, D] of float32. If it needs longer waveforms, raise min_samples, now "
            f"{self.min_samples}; if it was traced at one length, script it instead."
        )
        return EncoderError(msg)

    def embed(self, waveform: Tensor) -> Tensor:
        """Embed `[B, T]` at `sample_rate`: `[B, D]`, unit length."""
        return normalize(self._run(waveform), dim=1)

    def _run(self, waveform: Tensor) -> Tensor:
        # TorchScript's optimiser derives some gradients itself, and the one of a spectrogram's complex abs fails
        execution = torch.jit.optimized_execution(False)  # type: ignore[attr-defined]
        keeps_cudnn = not (self._recurrent and needs_backward(waveform))  # a traced layer's mode cannot be changed
        with execution, contextlib.nullcontext() if keeps_cudnn else without_cudnn():
            embedding: Tensor = self.model(waveform)
            return embedding
