"""The methods: the baseline, and the changes that people make to it."""

from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from benchmarks.freeze_methods.setting import Kind
from coqui_scl_plugin.freeze import FrozenPolicy
from coqui_scl_plugin.utils.fingerprint import named_tensors

_WEIGHT = 9.0


class PlainHolder:
    """Holds a module without being one, so that a model with this attribute does not register the module."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module


class Voice(nn.Module):
    """The model: a generator, and the speaker encoder of its loss."""

    def __init__(self, generator: nn.Module, encoder: nn.Module | PlainHolder) -> None:
        super().__init__()
        self.generator = generator
        self.encoder = encoder

    @property
    def speaker_encoder(self) -> nn.Module:
        """The encoder, whichever way it is held."""
        return self.encoder.module if isinstance(self.encoder, PlainHolder) else self.encoder


class Nothing:
    """Leave the encoder in the model and in the generator's optimizer, as stock Coqui does: the baseline."""

    name: ClassVar[str] = "nothing (stock Coqui)"
    kind: ClassVar[Kind] = "resnet"

    def __init__(self, generator: nn.Module, encoder: nn.Module) -> None:
        self.model = Voice(generator, encoder)

    def trained(self) -> Iterable[nn.Parameter]:
        """Return the parameters that the optimizer is given."""
        return self.model.parameters()

    def after_train(self) -> None:
        """Act after each `model.train()`."""

    def before_step(self) -> None:
        """Act before each step."""

    def after_step(self) -> None:
        """Act at the end of each step, after the optimizer."""

    def embed(self, waveform: Tensor) -> Tensor:
        """Embed waveforms `[B, T]`: `[B, D]`, unit length."""
        # cloned, since Coqui's encoders squeeze the caller's tensor in place
        embedding: Tensor = self.model.speaker_encoder(waveform.clone(), l2_norm=True)
        return embedding

    def term(self, waveform: Tensor, reference: Tensor) -> Tensor:
        """Return the weighted speaker consistency loss, a scalar."""
        return _WEIGHT * (1 - cosine_similarity(self.embed(waveform), reference)).mean()


class Detached(Nothing):
    """Detach the embedding from the graph."""

    name = "detach() on the embedding"

    def embed(self, waveform: Tensor) -> Tensor:
        """Embed as the baseline does, and detach."""
        return super().embed(waveform).detach()


class NoGrad(Nothing):
    """Run the encoder without autograd."""

    name = "torch.no_grad() around the encoder"

    def embed(self, waveform: Tensor) -> Tensor:
        """Embed as the baseline does, without autograd."""
        with torch.no_grad():
            return super().embed(waveform)


class NoGradFeatures(Nothing):
    """Compute only the features without autograd, as the forward of Coqui's own LSTM encoder does."""

    name = "no_grad around its features (Coqui's LSTM)"
    kind = "lstm"


class LeftOut(Nothing):
    """Give the optimizer the generator only."""

    name = "left out of the optimizer"

    def trained(self) -> Iterable[nn.Parameter]:
        """Return the generator's parameters."""
        return self.model.generator.parameters()


class Hidden(Nothing):
    """Hold the encoder in an object that is not a module."""

    name = "in a plain object, no nn.Module"

    def __init__(self, generator: nn.Module, encoder: nn.Module) -> None:
        self.model = Voice(generator, PlainHolder(encoder))


class NoRequiresGrad(Nothing):
    """Require no gradient on the weights."""

    name = "requires_grad_(False)"

    def __init__(self, generator: nn.Module, encoder: nn.Module) -> None:
        super().__init__(generator, encoder)
        encoder.requires_grad_(False)


class NoRequiresGradEvalOnce(NoRequiresGrad):
    """Require no gradient on the weights, and switch to eval mode at the start."""

    name = "requires_grad_(False), eval() once"

    def __init__(self, generator: nn.Module, encoder: nn.Module) -> None:
        super().__init__(generator, encoder)
        encoder.eval()


class PutBack(Nothing):
    """Restore weights and buffers after each step."""

    name = "put back after each step"

    def __init__(self, generator: nn.Module, encoder: nn.Module) -> None:
        super().__init__(generator, encoder)
        self._start = {name: tensor.detach().clone() for name, tensor in named_tensors(encoder).items()}

    def after_step(self) -> None:
        """Copy the start back."""
        with torch.no_grad():
            for name, tensor in named_tensors(self.model.speaker_encoder).items():
                tensor.copy_(self._start[name])


class Frozen(LeftOut):
    """Apply the policy of this package, when the package applies it; no optimizer holds the encoder."""

    name = "frozen (this package)"

    def after_train(self) -> None:
        """Apply the policy."""
        FrozenPolicy().apply(self.model.speaker_encoder)

    def before_step(self) -> None:
        """Apply the policy."""
        FrozenPolicy().apply(self.model.speaker_encoder)


METHODS: tuple[type[Nothing], ...] = (
    Nothing, Detached, NoGrad, NoGradFeatures, LeftOut, Hidden, NoRequiresGrad, NoRequiresGradEvalOnce, PutBack, Frozen,
)  # fmt: skip


class WithoutTerm(LeftOut):
    """Train without a speaker consistency loss, to measure the cost of a generator step by itself."""

    name = "without the term"

    def term(self, waveform: Tensor, reference: Tensor) -> Tensor:
        """Return zero, without running the encoder."""
        return waveform.new_zeros(())
