"""The embeddings of a data set, by encoder, recording and speaker."""

from bisect import bisect_left
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
        self._row_of_speaker = {speaker: row for row, speaker in enumerate(self.speakers)}
        self._centroids: dict[tuple[str, torch.device], tuple[Tensor, Tensor]] = {}

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
        rows, own = self.rows_of(speaker), self.row.get(name, -1)
        place = bisect_left(rows, own)  # rows ascend, and a speaker may have tens of thousands
        return (rows[:place] + rows[place + 1 :] if own in rows[place : place + 1] else rows) or rows

    def others(self, alias: str, name: str, speaker: str) -> Tensor | None:
        """Return the speaker's recordings other than the named one, `[K, D]`; None if nothing was embedded."""
        return self.by_encoder[alias][self.other_rows(name, speaker)] if alias in self.by_encoder else None

    def centroids(self, alias: str, device: torch.device | None = None) -> Tensor:
        """Return the mean direction of each of `speakers`, `[S, D]`, on the CPU or on a device, where it is kept."""
        return self._centroids_on(alias, device)[0]

    def finite_centroids(self, alias: str, device: torch.device | None = None) -> Tensor:
        """Tell whether all of `centroids` are finite, scalar, bool, on their device: found out when they are made."""
        return self._centroids_on(alias, device)[1]

    def _centroids_on(self, alias: str, device: torch.device | None) -> tuple[Tensor, Tensor]:
        where = device or torch.device("cpu")
        if (alias, where) not in self._centroids:
            own = [self.rows_of(speaker) for speaker in self.speakers]
            owner = torch.tensor([row for row, rows in enumerate(own) for _ in rows], dtype=torch.long)
            embeddings = self.by_encoder[alias]
            sums = embeddings.new_zeros(len(own), embeddings.shape[1])
            sums.index_add_(0, owner, embeddings[[row for rows in own for row in rows]])
            centroids = normalize(sums, dim=-1).to(where)
            self._centroids[alias, where] = centroids, centroids.isfinite().all()
        return self._centroids[alias, where]

    def speaker_ids(self, speakers: Sequence[str]) -> Tensor:
        """Return the rows of B speakers in `centroids`, `[B]`. Raises PreflightError if one has no recording."""
        return torch.tensor([self._row_of_speaker[speaker] for speaker in speakers if self.rows_of(speaker)])

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
