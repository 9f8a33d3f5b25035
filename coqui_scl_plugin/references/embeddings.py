"""The embeddings of a data set, by encoder, recording and speaker."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from coqui_scl_plugin.errors import PreflightError
from coqui_scl_plugin.losses.calibration import Calibration, measure_calibration
from coqui_scl_plugin.references.recordings import Recording


class ReferenceEmbeddings:
    """The recordings of a data set, embedded by each encoder."""

    def __init__(self, recordings: Sequence[Recording] = (), embeddings: Mapping[str, Tensor] | None = None) -> None:
        """Keep the embeddings.

        Args:
            recordings: The N recordings of the data set.
            embeddings: `[N, D]` by alias of the encoder, unit length.
        """
        self.by_encoder = dict(embeddings or {})
        self.row = {recording.name: row for row, recording in enumerate(recordings)}
        """Row in `by_encoder`, by name of the recording."""
        self.speakers = sorted({recording.speaker for recording in recordings})
        self._training_rows: dict[str, list[int]] = defaultdict(list)
        self._held_out_rows: dict[str, list[int]] = defaultdict(list)
        for row, recording in enumerate(recordings):
            (self._held_out_rows if recording.held_out else self._training_rows)[recording.speaker].append(row)
        self._centroids: dict[tuple[str, torch.device], Tensor] = {}

    def rows_of(self, speaker: str) -> list[int]:
        """Return the rows that represent a speaker: training recordings or, if there are none, held-out ones.

        Raises:
            PreflightError: the speaker has no recording.
        """
        if rows := self._training_rows.get(speaker) or self._held_out_rows.get(speaker):
            return rows
        msg = (
            f"The speaker {speaker!r} is in a batch, but none of the {len(self.row)} recordings that were embedded is "
            "theirs: pass all samples to the trainer as train_samples and eval_samples."
        )
        raise PreflightError(msg)

    def other_rows(self, name: str, speaker: str) -> list[int]:
        """Return the rows that represent a speaker, without the named recording unless it is the only one."""
        rows = self.rows_of(speaker)
        return [row for row in rows if row != self.row.get(name)] or rows

    def others(self, alias: str, name: str, speaker: str) -> Tensor | None:
        """Return the speaker's recordings other than the named one, `[K, D]`; None if nothing was embedded."""
        return self.by_encoder[alias][self.other_rows(name, speaker)] if alias in self.by_encoder else None

    def centroids(self, alias: str, device: torch.device | None = None) -> Tensor:
        """Return the mean direction of each of `speakers`, `[S, D]`, on the CPU or on a device, where it is kept."""
        where = device or torch.device("cpu")
        if (alias, where) not in self._centroids:
            means = [self.by_encoder[alias][self.rows_of(speaker)].mean(dim=0) for speaker in self.speakers]
            self._centroids[alias, where] = normalize(torch.stack(means), dim=-1).to(where)
        return self._centroids[alias, where]

    def speaker_ids(self, speakers: Sequence[str]) -> Tensor:
        """Return the rows of B speakers in `centroids`, `[B]`. Raises PreflightError if one has no recording."""
        ids = {speaker: row for row, speaker in enumerate(self.speakers)}
        return torch.tensor([ids[speaker] for speaker in speakers if self.rows_of(speaker)])

    def calibration(self, alias: str) -> Calibration | None:
        """Measure the calibration of an encoder on the training recordings; None if there are too few."""
        rows = [(row, speaker) for speaker, own in self._training_rows.items() for row in own]
        return measure_calibration(self.by_encoder[alias][[row for row, _ in rows]], [speaker for _, speaker in rows])

    def not_finite(self) -> list[str]:
        """Return the names of the recordings of which an embedding in memory is not finite."""
        finite = [rows.isfinite().all(dim=1) for rows in self.by_encoder.values()]
        every = torch.stack(finite).all(dim=0).tolist() if finite else [True] * len(self.row)
        return [name for name, row in self.row.items() if not every[row]]

    def summary(self) -> str:
        """Describe the amount of training data, for messages."""
        recordings = sum(len(rows) for rows in self._training_rows.values())
        return f"{len(self._training_rows)} speaker(s) with {recordings} recording(s) to train on"

    def with_one_recording(self) -> list[str]:
        """Return the speakers with a single training recording, which cannot be compared with another one."""
        return [speaker for speaker, rows in self._training_rows.items() if len(rows) == 1]
