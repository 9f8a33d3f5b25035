"""The methods. Each is the baseline, with what people change in it."""

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
    """Has a module and is none, so that a model with this as an attribute does not know of the module."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module


class Voice(nn.Module):
    """What is trained: a generator, and the speaker encoder of its loss."""

    def __init__(self, generator: nn.Module, encoder: nn.Module | PlainHolder) -> None:
        super().__init__()
        self.generator = generator
        self.encoder = encoder

    @property
    def speaker_encoder(self) -> nn.Module:
        """The encoder, whichever way it is held."""
        return self.encoder.module if isinstance(self.encoder, PlainHolder) else self.encoder


class Nothing:
    """The encoder is a part of the model and of the generator's optimizer, as in stock Coqui."""

    name: ClassVar[str] = "nothing (stock Coqui)"
    kind: ClassVar[Kind] = "resnet"

    def __init__(self, generator: nn.Module, encoder: nn.Module) -> None:
        self.model = Voice(generator, encoder)

    def trained(self) -> Iterable[nn.Parameter]:
        """What the optimizer is given."""
        return self.model.parameters()

    def after_train(self) -> None:
        """Runs after each `model.train()`."""

    def before_step(self) -> None:
        """Runs before each step."""

    def after_step(self) -> None:
        """Runs after each step of the optimizer, as its last part."""

    def embed(self, waveform: Tensor) -> Tensor:
        """`[B, D]` of unit length, of `[B, T]`."""
        # cloned, since Coqui's encoders squeeze the caller's tensor in place
        embedding: Tensor = self.model.speaker_encoder(waveform.clone(), l2_norm=True)
        return embedding

    def term(self, waveform: Tensor, reference: Tensor) -> Tensor:
        """The weighted speaker consistency loss, a scalar."""
        return _WEIGHT * (1 - cosine_similarity(self.embed(waveform), reference)).mean()


class Detached(Nothing):
    """The embedding is cut off from what it was computed by."""

    name = "detach() on the embedding"

    def embed(self, waveform: Tensor) -> Tensor:
        """As the baseline, detached."""
        return super().embed(waveform).detach()


class NoGrad(Nothing):
    """The encoder runs without autograd."""

    name = "torch.no_grad() around the encoder"

    def embed(self, waveform: Tensor) -> Tensor:
        """As the baseline, without autograd."""
        with torch.no_grad():
            return super().embed(waveform)


class NoGradFeatures(Nothing):
    """Only the features are computed without autograd: what the forward of Coqui's own LSTM encoder does."""

    name = "no_grad around its features (Coqui's LSTM)"
    kind = "lstm"


class LeftOut(Nothing):
    """The optimizer is given the generator alone."""

    name = "left out of the optimizer"

    def trained(self) -> Iterable[nn.Parameter]:
        """The generator's parameters."""
        return self.model.generator.parameters()


class Hidden(Nothing):
    """The model holds the encoder in an object that is no module."""

    name = "in a plain object, no nn.Module"

    def __init__(self, generator: nn.Module, encoder: nn.Module) -> None:
        self.model = Voice(generator, PlainHolder(encoder))


class NoRequiresGrad(Nothing):
    """No gradient is asked for on the weights."""

    name = "requires_grad_(False)"

    def __init__(self, generator: nn.Module, encoder: nn.Module) -> None:
        super().__init__(generator, encoder)
        encoder.requires_grad_(False)


class NoRequiresGradEvalOnce(NoRequiresGrad):
    """The same, and eval mode at the start."""

    name = "requires_grad_(False), eval() once"

    def __init__(self, generator: nn.Module, encoder: nn.Module) -> None:
        super().__init__(generator, encoder)
        encoder.eval()


class PutBack(Nothing):
    """The baseline, whose damage is undone after each step."""

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
    """The policy of this package, applied where the package applies it; no optimizer holds the encoder."""

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
    """No speaker consistency loss at all: what a step of the generator costs by itself."""

    name = "without the term"

    def term(self, waveform: Tensor, reference: Tensor) -> Tensor:
        """Zero, and the encoder does not run."""
        return waveform.new_zeros(())
