"""What the checks look at: a run that has not begun."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from coqui_scl_plugin.consistency.term import SpeakerConsistency
from coqui_scl_plugin.references.sources import ReferenceBatch
from coqui_scl_plugin.utils.checkpoint import read_checkpoint

if TYPE_CHECKING:
    from coqui_scl_plugin.coqui.vits_config import SclVitsConfig

Sample = Mapping[str, Any]


@dataclass(frozen=True)
class Restored:
    """The checkpoint that a run starts from."""

    path: str
    sizes: Mapping[str, int]
    """Elements of each of its tensors, by name."""
    continues_optimizers: bool = False
    """Whether the run goes on with the optimizer state that it holds."""

    @classmethod
    def read(cls, path: str, *, continues: bool) -> Self | None:
        """Read a checkpoint of Coqui's trainer that a run continues, or starts from. None for one that is not local."""
        if not Path(path).is_file():
            return None
        state = read_checkpoint(path)
        sizes = {name: value.numel() for name, value in state["model"].items() if isinstance(value, Tensor)}
        has_state = any(optimizer.get("state") for optimizer in state.get("optimizer") or [])
        return cls(str(path), sizes, continues_optimizers=continues and has_state)


@dataclass
class RunFacts:
    """A model, its data and its optimizers, as the trainer has them before step 1."""

    config: "SclVitsConfig"
    consistency: SpeakerConsistency | None
    """None where the section is off."""
    frozen_encoders: Mapping[str, nn.Module]
    """Those that nothing may write to, by the name that messages call them."""
    optimizers: Mapping[str, torch.optim.Optimizer]
    """`discriminator` and `generator`."""
    train_samples: Sequence[Sample] | None
    """None where the user brought a data loader."""
    eval_samples: Sequence[Sample] | None
    own_eval_loader: bool
    """Whether the user brought one for evaluation."""
    model_sizes: Mapping[str, int]
    """Elements of each tensor of the model's state dict."""
    speakers: Sequence[str] | None
    """Those that the model has an embedding for; None where it has no such table."""
    d_vectors: Mapping[str, Mapping[str, Any]] | None
    """By name of a recording, its speaker (`name`) and `embedding`; None for models without d-vectors."""
    segment_seconds: float
    """Length of the slice that the generator makes in a step."""
    train_mode: Callable[[], object]
    """Switches the model to train mode, as the trainer does at each epoch."""
    count_eval_batches: Callable[[], int]
    generate: Callable[[], tuple[Tensor, ReferenceBatch]]
    """A small real batch through the generator: `[B, T]` with its graph, and its real half."""
    prepare_references: Callable[[], None]
    """Embeds what references, prototypes and levels need. Raises PreflightError where the data does not suffice."""
    restored: Restored | None = None
    named_vits: bool = False
    """Whether the config names Coqui's own model, and stock's own loss is on in it."""
    needs_all_gradients: bool = False
    """Whether the trainer fails on a parameter of an optimizer that has no gradient."""
    thaws_at: Sequence[int] = ()
    """Steps at which a module thaws that is frozen now."""
    gradient_norms: dict[str, float] = field(default_factory=dict)
    """By alias, the norm of the loss's gradient at the generated waveform; filled by the check `gradient`."""

    @property
    def all_samples(self) -> list[Sample]:
        """To train on and to evaluate with."""
        return [*(self.train_samples or ()), *(self.eval_samples or ())]
