"""A few training steps through an encoder under a policy, as a run takes them, and what must not have happened."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from coqui_scl_plugin.consistency.encoder_bank import EncoderBank
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.freeze import FreezePolicy
from coqui_scl_plugin.testing.running import calling, require
from coqui_scl_plugin.utils.fingerprint import copied_tensors, moved_tensors, named_tensors

_ALIAS = "tested"
_STEPS = 2


class TrainedModel(nn.Module):
    """A generator, whose weights are the speech itself, and an encoder under a policy."""

    def __init__(self, encoder: nn.Module, policy: FreezePolicy, speech: Tensor) -> None:
        """Build the model as a run does, whatever the encoder's mode was before."""
        super().__init__()
        self.speech = nn.Parameter(speech.clone())
        encoder.train().requires_grad_(True)
        with calling(policy, f"apply({type(encoder).__name__})"):
            self.encoders = EncoderBank({_ALIAS: SegmentEncoder(encoder)}, {_ALIAS: policy})  # type: ignore[arg-type]

    @property
    def encoder(self) -> nn.Module:
        """The encoder that is tested."""
        return self.encoders[_ALIAS].encoder

    def loss(self) -> Tensor:
        """Return a value that has a gradient in every direction of the embedding."""
        embedding = self.encoders[_ALIAS](self.speech)
        generator = torch.Generator().manual_seed(1)
        return (embedding * torch.randn(embedding.shape, generator=generator).to(embedding)).sum()

    def checkpoint(self) -> dict[str, Tensor]:
        """Return what a checkpoint of a run holds."""
        return self.encoders.without_frozen(self.state_dict(), "encoders.")


class Step(NamedTuple):
    """What one training step left behind."""

    moved: list[str]
    """Names of the encoder's tensors that differ from the start."""
    grads: list[str]
    """Names of its parameters that have a gradient."""
    training: list[str]
    """Classes of its modules that were in train mode during the step."""
    gradient: Tensor
    """The gradient at the speech."""


def train(model: TrainedModel, spoil: Callable[[nn.Module], object] = lambda encoder: None) -> list[Step]:
    """Take training steps in the order of a run: train mode, policy, forward, backward, optimizer, policy.

    Args:
        model: The model.
        spoil: Called with the encoder just before the policy is applied at the end of a step.
    """
    encoder = model.encoder
    start = copied_tensors(encoder)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    steps = []
    for _ in range(_STEPS):
        model.train()
        model.encoders.apply_policies()
        training = [type(part).__name__ for part in encoder.modules() if part.training]
        with calling(encoder, "a training step"):
            loss = model.loss()
            if loss.requires_grad:
                loss.backward()
        require(
            model.speech.grad is not None,
            f"no gradient passes through {type(encoder).__name__} to the waveform: the policy must set requires_grad "
            "of the weights to False, not run the encoder under torch.no_grad.",
        )
        gradient = torch.zeros_like(model.speech) if model.speech.grad is None else model.speech.grad.clone()
        optimizer.step()
        spoil(encoder)
        model.encoders.apply_policies()
        grads = [name for name, p in encoder.named_parameters() if p.grad is not None]
        steps.append(Step(moved_tensors(encoder, start), grads, training, gradient))
        optimizer.zero_grad()
    return steps


def require_frozen(encoder: nn.Module, policy: FreezePolicy, speech: Tensor, policy_name: str) -> None:
    """Raise an AssertionError unless an encoder stays as it is under a policy, and passes the gradient on.

    Args:
        encoder: The encoder; left under the policy.
        policy: One that does not train.
        speech: `[B, T]` at the encoder's rate.
        policy_name: For messages.
    """
    name = type(encoder).__name__
    model = TrainedModel(encoder, policy, speech)
    asking = [key for key, p in encoder.named_parameters() if p.requires_grad]
    require(
        not asking,
        f"under the policy {policy_name}, {len(asking)} parameters of {name} require a gradient, such as "
        f"{_first(asking)}: apply(encoder) must call encoder.requires_grad_(False).",
    )
    for number, step in enumerate(train(model)):
        where = f"{name} under the policy {policy_name}, step {number}"
        require(
            not step.training,
            f"{where}: {_first(step.training)} is in train mode, after the trainer called train() on the model. "
            "apply(encoder) must call encoder.eval(), and the encoder's own train(mode) must not undo that.",
        )
        require(
            not step.moved,
            f"{where}: {len(step.moved)} tensors are not bit by bit what they were, such as {_first(step.moved)}. No "
            "optimizer may hold them, and no forward pass in eval mode may write to them, as batch_norm(training=True) "
            "does.",
        )
        require(not step.grads, f"{where}: {_first(step.grads)} has a gradient; grad must be None.")
        silent = [row for row, norm in enumerate(step.gradient.norm(dim=1).tolist()) if not 0 < norm < float("inf")]
        require(not silent, f"{where}: the gradient at the waveform is 0 or not finite in rows {silent}.")
    own = {tensor.data_ptr() for tensor in named_tensors(encoder).values() if tensor.numel()}
    held = [key for key, value in model.checkpoint().items() if value.data_ptr() in own]
    require(not held, f"{name} under the policy {policy_name}: the checkpoint holds {_first(held)}.")


def _first(names: list[str]) -> str:
    return names[0] if names else "none"
