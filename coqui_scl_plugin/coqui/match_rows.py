"""`scl.restore.match_rows`: the rows of a checkpoint's tables, each at the place that its name has in the model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from TTS.tts.models.vits import Vits

from coqui_scl_plugin.coqui.row_names import rows_of_model
from coqui_scl_plugin.preflight.facts import Restored
from coqui_scl_plugin.preflight.report import some
from coqui_scl_plugin.preflight.restored import TABLES
from coqui_scl_plugin.utils.checkpoint import read_checkpoint

_MAX_SHOWN = 60


@dataclass(frozen=True)
class CarriedTable:
    """A table in the model's order of rows."""

    weight: Tensor
    """`[rows, width]`."""
    new: Sequence[str]
    """Names of the rows that the checkpoint does not have."""

    def described(self, kind: str) -> str:
        """Say how many rows are carried and which are new."""
        rows = len(self.weight)
        carried = f"{kind}s {rows - len(self.new)} of {rows} carried"
        shown = some(name[:_MAX_SHOWN] for name in self.new)
        return f"{carried}, new at their mean: {shown}" if self.new else carried


def carry_rows(model: Vits, restored: Restored) -> dict[str, CarriedTable]:
    """Return the tables of a checkpoint as the model is to have them, by name.

    A table is left out where the names of its rows are unknown, its width differs, or it is to start anew.
    """
    now, sizes = rows_of_model(model), {name: tensor.shape for name, tensor in model.state_dict().items()}
    anew = getattr(model.config, "reinit_layers", None) or ()
    weights, carried = read_checkpoint(restored.path)["model"], {}
    for table in TABLES:
        before, old = restored.rows.get(table), weights.get(table)
        if before is None or table not in now or table not in sizes or any(layer in table for layer in anew):
            continue
        if old.dim() == 2 and old.shape[1] == sizes[table][1] and len(now[table]) == sizes[table][0]:
            carried[table] = carried_table(old, before, now[table])
    return carried


def carried_table(old: Tensor, before: Sequence[str], now: Sequence[str]) -> CarriedTable:
    """Return a table with the rows of `old` at the places that their names have in `now`.

    New rows are the mean of those that are carried, or of all rows if none is.

    Args:
        old: `[rows, width]`.
        before: What the rows of `old` stand for.
        now: What the rows of the table to make stand for.

    >>> carried_table(torch.tensor([[1.0], [3.0]]), ["a", "b"], ["b", "new", "a"]).weight.tolist()
    [[3.0], [2.0], [1.0]]
    """
    places = {name: row for row, name in enumerate(before)}
    known = [places[name] for name in now if name in places]
    old = old.detach()
    mean = (old[known] if known else old).double().mean(0).to(old.dtype)
    rows = [old[places[name]] if name in places else mean for name in now]
    return CarriedTable(torch.stack(rows), [name for name in now if name not in places])


def describe(carried: Mapping[str, CarriedTable], path: str) -> str:
    """Say in a line which rows a checkpoint gives."""
    tables = "; ".join(carried[table].described(kind) for table, kind in TABLES.items() if table in carried)
    return f"Rows of {path} by name: {tables or 'none'}."
