"""The feature maps of an encoder's intermediate layers, for losses that compare these in place of embeddings."""

import contextlib
from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from coqui_scl_plugin.encoders.base import SpeakerEncoder


class FeatureMaps(SpeakerEncoder):
    """An encoder whose feature maps are the outputs of some of its layers. Subclasses implement `feature_layers`.

    The first layers, which hardly tell more than a spectrogram, and the pooled embedding are left out.
    """

    def feature_layers(self) -> Sequence[nn.Module]:
        """Return the layers, whose outputs are `[B, ..., frames]`; none if this model has no such layers."""
        raise NotImplementedError

    @property
    def offers_features(self) -> bool:
        """Whether this model has feature maps; some models of a class may have none."""
        return len(self.feature_layers()) > 0

    def features(self, waveform: Tensor) -> list[Tensor]:
        """Return the feature maps of waveforms `[B, T]`, as for `forward`: `[B, C, frames]` each."""
        return self.embed_with_features(waveform)[1]

    def embed_with_features(self, waveform: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the embeddings `[B, D]` that `forward` returns, and the feature maps, from a single pass."""
        with outputs_of(self.feature_layers()) as outputs:
            embedding: Tensor = self(waveform)
        return embedding, [output.flatten(1, -2) for output in outputs]


@contextlib.contextmanager
def outputs_of(layers: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Yield a list that receives the output of each layer, in the order of their calls within the block."""
    outputs: list[Tensor] = []

    def keep(layer: nn.Module, arguments: tuple[object, ...], output: Tensor) -> None:
        outputs.append(output)

    handles = [layer.register_forward_hook(keep) for layer in layers]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
