"""The bad steps of a run, in which a number is not finite: they are counted, named, and end it if they do not stop."""

import functools
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from trainer import Trainer

from coqui_scl_plugin.consistency.finite_term import FiniteTerm
from coqui_scl_plugin.consistency.term import ConsistencyTerm
from coqui_scl_plugin.coqui.finite_updates import guard_saving, guard_updates
from coqui_scl_plugin.coqui.step_flags import Bad, StepFlags
from coqui_scl_plugin.errors import BadStepError
from coqui_scl_plugin.references.embeddings import ReferenceEmbeddings
from coqui_scl_plugin.utils import processes
from coqui_scl_plugin.utils.shown import named

logger = logging.getLogger(__name__)

TURNS = ("discriminator", "generator")
"""What the optimizers of a VITS train, by their index."""
_WHOLE, _VALUE, _GRADIENT = "the speaker consistency loss", "the value of the loss", "the gradient of the loss"
_MAX_WARNINGS, _MAX_NAMES = 20, 8


class BadSteps:
    """Collects what is not finite in a step, and at its end warns, counts, and raises after too many in a row.

    Of the term and of the model's own losses, each has its own count of steps in a row: a step in which the term takes
    no part neither adds to its count nor ends it. Before `begin`, nothing is noted: no step has a beginning and an end.
    """

    def __init__(self, limit: int) -> None:
        """Count nothing yet.

        Args:
            limit: `max_bad_steps`.
        """
        self.count = 0
        """Bad steps since the run began or was continued."""
        self.term_left_out = False
        """Whether the term was left out of the latest step that ended."""
        self._limit, self._begun = limit, False
        self._in_a_row = {"term": 0, "model": 0}
        self._term, self._model = StepFlags(), StepFlags()
        self._empty: list[str] = []
        self._batch: Sequence[str] = []
        self._embedded = ReferenceEmbeddings()
        self._means: tuple[dict[str, float], dict[str, int]] | None = None

    def begin(self, trainer: Trainer) -> None:
        """Guard the updates and the checkpoints of a run."""
        for turn, optimizer in zip(TURNS, trainer.optimizer, strict=False):
            guard_updates(optimizer, functools.partial(self._note_update, turn))
        guard_saving(trainer.model, trainer.optimizer, self._refuse_to_save)
        self._begun = True

    # --- within a step --------------------------------------------------------------------------------------------

    def start(self, trainer: Trainer) -> None:
        """Begin a step, and remember the means that Coqui prints, since a bad step is to enter none of them."""
        self._term, self._model, self._empty, self._batch = StepFlags(), StepFlags(), [], []
        means = trainer.keep_avg_train
        self._means = (dict(means.avg_values), dict(means.iters)) if means is not None else None

    def note_losses(self, losses: Mapping[str, Any], names: Sequence[str], turn: int) -> None:
        """Note which of stock's losses are finite at the turn of an optimizer, and the recordings of the batch."""
        if not self._begun:
            return
        self._batch = names
        found = {name: value.detach().float() for name, value in losses.items() if isinstance(value, Tensor)}
        if found:
            for name, finite in zip(found, torch.stack(list(found.values())).isfinite(), strict=True):
                self._model.note(f"the total of the {TURNS[turn]}" if name == "loss" else name, finite, names)

    def note_term(
        self,
        generated: Tensor,
        term: ConsistencyTerm,
        kept: FiniteTerm,
        names: Sequence[str],
        embedded: ReferenceEmbeddings,
    ) -> None:
        """Note what of the term is finite, cause before effect.

        Args:
            generated: Waveforms `[K, T]` that the term hears.
            term: What it made of them.
            kept: Its loss and gradient.
            names: The K recordings.
            embedded: The data set that references are taken from.
        """
        if not self._begun:
            return
        flags, self._embedded = self._term, embedded
        flags.note(_WHOLE, kept.finite, names)
        flags.note("the generated speech", generated.detach().isfinite().all(dim=1), names)
        for alias, finite in term.finite_references.items():
            flags.note(f"the reference by encoder {alias!r}", finite, names)
        for alias, finite in term.finite_prototypes.items():
            flags.note(f"the centroid of a speaker by encoder {alias!r}", finite, names)
        for alias, finite in term.finite_heard.items():
            flags.note(f"what encoder {alias!r} makes of the generated speech", finite, names)
        flags.note(_GRADIENT, kept.finite_items, names)
        if processes.several():  # it is one of the joint batch
            flags.note(_VALUE, term.loss.detach().isfinite(), names)

    def note_empty(self, names: Sequence[str]) -> None:
        """Note that no recording of the batch could be used."""
        self._empty = list(names)

    def _note_update(self, turn: str, finite: Tensor) -> None:
        self._model.note(f"the gradient of the {turn}", finite, self._batch)
        if turn == TURNS[-1]:
            self._term.send()
            self._model.send()

    def logged(self) -> dict[str, float]:
        """Return what a step logs: the count, once there is a bad step."""
        return {"scl_bad_steps": float(self.count)} if self.count else {}

    # --- after it -------------------------------------------------------------------------------------------------

    def end(self, trainer: Trainer, step: int) -> None:
        """Read what was noted.

        Raises:
            BadStepError: it is one bad step too many in a row.
        """
        term, model = self._term.read(), self._model.read()
        bad_term = any(bad.what == _WHOLE for bad in term)
        self.term_left_out = bad_term
        bad_model = bool(model or self._empty)
        if self._term.noted:
            self._in_a_row["term"] = self._in_a_row["term"] + 1 if bad_term else 0
        self._in_a_row["model"] = self._in_a_row["model"] + 1 if bad_model else 0
        if not (bad_term or bad_model):
            return
        self.count += 1
        self._restore_means(trainer)
        causes = [self._of_term(term)] if bad_term else []
        causes += [self._of_model(model)] if bad_model else []
        message = f"Step {step}: " + " ".join(causes)
        if max(self._in_a_row.values()) >= self._limit:
            raise BadStepError(self._too_many(message))
        if self.count <= _MAX_WARNINGS or self.count % 100 == 0:
            logger.warning("%s This is bad step %d of this run.", message, self.count)

    def _of_term(self, found: Sequence[Bad]) -> str:
        """Describe why the term was left out: by its first cause, or else by the batch that it was computed from."""
        causes = [bad for bad in found if bad.what not in (_WHOLE, _VALUE)]
        own = [bad for bad in causes if bad.what != _GRADIENT]
        if processes.several() and not own and (not causes or any(bad.what == _VALUE for bad in found)):
            return (
                "the speaker consistency loss was left out, since it is not finite in another process, which says why."
            )
        cause = (causes or found)[0]
        said = (
            f"the speaker consistency loss was left out, since {cause.what} is not finite for {_listed(cause.names)}."
        )
        others = [name for name in self._embedded.not_finite() if name not in cause.names]
        return f"{said} Not finite in memory are the embeddings of {_listed(others)}." if others else said

    def _of_model(self, found: Sequence[Bad]) -> str:
        if self._empty:
            return f"the step was left out, since no recording of its batch can be used: {_listed(self._empty)}."
        what = ", ".join(bad.what for bad in found)
        if processes.several() and all(bad.what.startswith("the gradient") for bad in found):  # averaged before
            return f"no update was made, since {what} is not finite in this process or in another, which says why."
        return f"no update was made from what is not finite ({what}). The batch: {_listed(self._batch)}."

    def _too_many(self, message: str) -> str:
        number = max(self._in_a_row.values())
        return (
            f"{message} It is bad step {number} in a row (scl.max_bad_steps = {self._limit}), so that the run ends; "
            "the weights and the earlier checkpoints are sound. Listen to these recordings, and repair or leave out "
            "what is wrong. If they are sound, lower the learning rate (lr_gen, lr_disc) or scl.weight, or take "
            "another encoder; then go on with --continue_path."
        )

    def _refuse_to_save(self, names: list[str]) -> None:
        raise BadStepError(
            f"No checkpoint is written, since the model is no longer finite: {_listed(names)}. The earlier checkpoints "
            "are as they were. Lower the learning rate (lr_gen, lr_disc), and go on from one of them with "
            "--continue_path or --restore_path."
        )

    def _restore_means(self, trainer: Trainer) -> None:
        """Put back the means of before the step: once NaN is in one of them, it is NaN for the rest of the epoch."""
        if self._means is None or trainer.keep_avg_train is None:
            return
        values, counts = self._means
        trainer.keep_avg_train.avg_values, trainer.keep_avg_train.iters = dict(values), dict(counts)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MAX_NAMES
    return ", ".join(map(named, names[:_MAX_NAMES])) + (f" and {more} more" if more > 0 else "")
