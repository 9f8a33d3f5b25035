"""A speaker encoder as the training loop uses it: for segments of any length, in float32, on any device."""

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from coqui_scl_plugin.encoders.audio import tile
from coqui_scl_plugin.encoders.base import SpeakerEncoder
from coqui_scl_plugin.encoders.feature_maps import FeatureMaps
from coqui_scl_plugin.encoders.lean_pass import UnexpectedFlowError
from coqui_scl_plugin.encoders.lean_plan import LeanPlan, plan_lean_pass, refusal_of_bfloat16
from coqui_scl_plugin.encoders.recurrent import backward_in_eval, recurrent_layers
from coqui_scl_plugin.utils.frozen import is_frozen

_PLANNING = threading.Lock()


class SegmentEncoder(nn.Module):
    """A wrapper that tiles and embeds `[B, T]` at the encoder's own rate, in float32 even under autocast.

    A frozen encoder is passed leanly (see `lean_pass.py`) where that gives the same embeddings.
    """

    def __init__(self, encoder: SpeakerEncoder, min_seconds: float = 0.0, *, in_bfloat16: bool = False) -> None:
        """Wrap `encoder`.

        Args:
            encoder: Any module that keeps the contract of `SpeakerEncoder`.
            min_seconds: Shorter waveforms are tiled to this length, or to the encoder's own minimum if that is longer.
            in_bfloat16: Let layers with weights compute in bfloat16 where the waveform asks for a gradient. Without
                one, as for references and in evaluations, they compute in float32.
        """
        super().__init__()
        self.encoder = encoder
        self.min_samples = max(encoder.min_samples, round(min_seconds * encoder.sample_rate))
        self._in_bfloat16 = in_bfloat16
        self._plan: LeanPlan | None = None

    @property
    def sample_rate(self) -> int:
        """Hz of the waveforms that `forward` takes: the encoder's."""
        return int(self.encoder.sample_rate)

    @property
    def refusal_of_bfloat16(self) -> str | None:
        """Why the encoder, which must be frozen, cannot compute in bfloat16; None if it can."""
        return refusal_of_bfloat16(self.encoder, self._lean_plan(), self.min_samples)

    def forward(self, waveform: Tensor) -> Tensor:
        """Embed `[B, T]`, any T > 0, at `sample_rate`: `[B, D]`, float32, unit length."""
        embedding: Tensor = self._pass(self.encoder, waveform)
        return embedding.float()

    @property
    def embeds_each(self) -> bool:
        """Whether recordings of different lengths share a pass."""
        return hasattr(self.encoder, "embed_each")

    def embed_each(self, waveforms: Sequence[Tensor]) -> Tensor:
        """Embed `[T]` each, any T > 0, at `sample_rate`, as `forward` embeds each alone: `[N, D]`.

        In one pass where the encoder can do that; see `coqui_scl_plugin.hookspecs`.
        """
        encoder: Any = self.encoder
        if not self.embeds_each:
            return torch.cat([self(waveform.unsqueeze(0)) for waveform in waveforms])
        with torch.autocast(waveforms[0].device.type, enabled=False), self._backward(waveforms[0]):
            tiled = [tile(waveform.unsqueeze(0).float(), self.min_samples)[0] for waveform in waveforms]
            embeddings: Tensor = encoder.embed_each(tiled)
            return embeddings

    def features(self, waveform: Tensor) -> list[Tensor]:
        """Return the feature maps of `[B, T]`, any T > 0, at `sample_rate`: `[B, C, frames]` each, float32.

        Only for encoders that have some; see `coqui_scl_plugin.hookspecs`.
        """
        encoder: Any = self.encoder
        maps: list[Tensor] = self._pass(encoder.features, waveform, leanly=isinstance(encoder, FeatureMaps))
        return [one.float() for one in maps]

    def embed_with_features(self, waveform: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return what `forward` and `features` return, from a single pass where the encoder can do that."""
        encoder: Any = self.encoder
        if not hasattr(encoder, "embed_with_features"):
            return self(waveform), self.features(waveform)
        leanly = isinstance(encoder, FeatureMaps)
        embedding, maps = self._pass(encoder.embed_with_features, waveform, leanly=leanly)
        return embedding.float(), [one.float() for one in maps]

    def _pass(self, embed: Callable[[Tensor], Any], waveform: Tensor, *, leanly: bool = True) -> Any:
        """Embed the waveform, tiled and in float32, with autocast off and cuDNN as a backward pass needs it."""
        plan = self._lean_plan() if leanly and is_frozen(self.encoder) else None
        with torch.autocast(waveform.device.type, enabled=False), self._backward(waveform):
            tiled = tile(waveform.float(), self.min_samples)
            if plan is not None and plan.refusal is None:
                in_bfloat16 = self._in_bfloat16 and tiled.requires_grad and torch.is_grad_enabled()
                try:
                    with plan.start(self.encoder, in_bfloat16=in_bfloat16):
                        return embed(tiled)
                except UnexpectedFlowError:
                    self._plan = LeanPlan(refusal="what follows its convolutions depends on the waveform")
            return embed(tiled)

    def _lean_plan(self) -> LeanPlan:
        """Return how the encoder is passed leanly, which its first pass finds out."""
        with _PLANNING:
            if self._plan is None:
                self._plan = plan_lean_pass(self.encoder, self.min_samples)
            return self._plan

    def _backward(self, waveform: Tensor) -> contextlib.AbstractContextManager[None]:
        return backward_in_eval(waveform, recurrent_layers(self.encoder) if waveform.is_cuda else ())
