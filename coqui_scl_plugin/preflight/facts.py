"""The facts that the checks judge: a run that has not begun. A new fact is a field of the first class that knows it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from coqui_scl_plugin.consistency.gradient_probe import GradientProbe
from coqui_scl_plugin.consistency.reach import ModuleReach
from coqui_scl_plugin.consistency.term import SpeakerConsistency
from coqui_scl_plugin.preflight.coqui_tools import CoquiTools
from coqui_scl_plugin.preflight.headers import Headers
from coqui_scl_plugin.preflight.listing import Listing
from coqui_scl_plugin.references.sources import ReferenceBatch

Sample = Mapping[str, Any]


@dataclass(frozen=True)
class Restored:
    """The checkpoint that a run starts from."""

    path: str
    sizes: Mapping[str, Sequence[int]]
    """Size of each of its tensors, such as `(4, 32)`, by name."""
    continues: bool = field(default=False, compare=False)
    """Whether the run continues the one that saved it."""
    continues_optimizers: bool = False
    """Whether the run goes on with the optimizer state that it holds."""
    matches_rows: bool = False
    """Whether rows of tables are restored by the name that they stand for (`scl.restore.match_rows`)."""
    rows: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What each row of a table stands for, by the table's name; only of tables of which it is known."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The config that it was trained with; empty if it is not known."""
    damaged: str | None = None
    """A part of the file whose checksum is wrong."""
    instead: str | None = field(default=None, compare=False)
    """For a damaged file: the newest sound checkpoint beside it."""


@dataclass(frozen=True)
class Texts:
    """The texts of one data set in one language, after the model's cleaner."""

    dataset: str
    language: str
    count: int
    """How many there are."""
    characters: int
    """Their characters that are not spaces."""
    unknown: Mapping[str, int]
    """How often each character occurs that the model's alphabet lacks, and that Coqui therefore drops."""
    emptied: Sequence[str] = ()
    """Names of recordings of whose text nothing is left."""
    overlong: Sequence[str] = ()
    """Names of recordings of which max_text_len accepts the characters and not the tokens."""
    tokens: Mapping[str, int] = field(default_factory=dict)
    """How many tokens the text of each recording has, by its name."""

    @property
    def longest(self) -> int:
        """The most tokens of a text."""
        return max(self.tokens.values(), default=0)


@dataclass(frozen=True, kw_only=True)
class ConfigFacts:
    """The facts that are known before the data is read."""

    config: Any
    """The trainer's config, a Coqui `VitsConfig` with the section `scl`; it need not be the model's object."""
    written: Mapping[str, Any] | None = None
    """The config as its file has it, before Coqpit drops and replaces what it does not know; None from a script."""
    names_stock_loss: bool = False
    """Whether the config names Coqui's own model, with stock's own loss on."""
    step: int = 0
    """The first training step."""
    list_datasets: Callable[[], Sequence[Listing]] = lambda: ()
    """Lists what Coqui's formatters make of each metadata file, as it is before samples are split."""
    coqui: CoquiTools | None = None
    """What checks ask of Coqui; None where they are not to ask."""
    list_samples: Callable[[], object] = lambda: None
    """Lists the samples as Coqui does. Raises what Coqui raises."""
    load_encoders: Callable[[], object] = lambda: None
    """Loads the speaker encoders. Raises EncoderError."""
    read_checkpoint: Callable[[], object] = lambda: None
    """Reads the checkpoint that the run starts from. Raises ConfigError if it is not one."""


@dataclass(frozen=True, kw_only=True)
class DataFacts(ConfigFacts):
    """The facts that are known before the model is built."""

    train_samples: Sequence[Sample] | None
    """None where the user brought a data loader."""
    eval_samples: Sequence[Sample] | None
    has_eval_loader: bool = False
    """Whether the user brought a data loader for evaluation."""
    consistency: SpeakerConsistency | None = None
    """The term with its encoders; None where the section is off, or an encoder cannot be loaded."""
    restored: Restored | None = None
    """The checkpoint that the run starts from; None without one, or where it cannot be read."""
    headers: Headers = field(default_factory=Headers)
    """The headers of the recordings, each read once."""
    build_model: Callable[[], object] = lambda: None
    """Builds the model and its optimizers, and restores the checkpoint. Raises what Coqui raises."""

    @property
    def all_samples(self) -> list[Sample]:
        """The samples to train on and to evaluate with."""
        return [*(self.train_samples or ()), *(self.eval_samples or ())]


@dataclass(frozen=True, kw_only=True)
class TrainerFacts(DataFacts):
    """The facts that Coqui's trainer has, or would have, before step 1."""

    optimizers: Mapping[str, torch.optim.Optimizer]
    """`discriminator` and `generator`."""
    needs_all_gradients: bool = False
    """Whether the trainer fails on a parameter of an optimizer that has no gradient."""
    processes: int = 1
    """The number of processes that train together."""
    uses_accelerate: bool = False
    """Whether the trainer runs under Hugging Face's accelerate."""
    shares_data: bool = True
    """Whether each of several processes gets data of its own."""


@dataclass(frozen=True, kw_only=True)
class RunFacts(TrainerFacts):
    """The facts of a run: those of the trainer, and those of the model with its data. No check writes into them.

    Fields that are functions are measured when a check first asks for them.
    """

    frozen_encoders: Mapping[str, nn.Module]
    """The encoders that nothing may write to, by the name that messages call them."""
    model_sizes: Mapping[str, Sequence[int]]
    """Size of each tensor of the model's state dict, such as `(4, 32)`."""
    rows: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What each row of the model's tables stands for, by the table's name."""
    speakers: Sequence[str] | None
    """The speakers for which the model has an embedding; None where it has no such table."""
    d_vectors: Mapping[str, Mapping[str, Any]] | None
    """By name of a recording, its speaker (`name`) and `embedding`; None for models without d-vectors."""
    segment_seconds: float
    """Length of the slice that the generator makes in a step."""
    stock_cuts_gradient: bool = False
    """Whether an encoder is of the kind through whose stock forward no gradient passes."""
    unfreezes_at: Sequence[int] = ()
    """Steps at which modules unfreeze that are frozen now."""
    train_mode: Callable[[], object]
    """Switches the model to train mode, as the trainer does at each epoch."""
    count_eval_batches: Callable[[], int]
    """Counts the batches of an evaluation. Raises what Coqui's loader raises."""
    generate: Callable[[], tuple[Tensor, ReferenceBatch]]
    """Runs a small real batch through the generator: `[B, T]` with its graph, and its real half."""
    prepare_references: Callable[[], None]
    """Embeds what references, prototypes and calibration need. Raises PreflightError if the data does not suffice."""
    probe_gradients: Callable[[], Mapping[str, Sequence[GradientProbe]]]
    """Probes the gradient of the loss through each training encoder, by alias."""
    read_texts: Callable[[], Sequence[Texts]] = lambda: ()
    """Reads the texts as the model will, by data set and language; none where they become phonemes."""
    spoken_of: Callable[[str, str], str] = lambda text, _language: text
    """Returns what is left of a text in a language after the cleaner and the model's alphabet."""
    measure_reach: Callable[[], Sequence[ModuleReach]]
    """Follows that gradient into each module of the generator; empty if none arrives at the waveform."""
