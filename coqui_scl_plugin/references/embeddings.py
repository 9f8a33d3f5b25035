"""The embedded recordings of a data set, by encoder, recording and speaker."""

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
        """Keep them.

        Args:
            recordings: N of them.
            embeddings: By alias, `[N, D]`, unit length.
        """
        self.embeddings = dict(embeddings or {})
        self.row = {recording.name: row for row, recording in enumerate(recordings)}
        """By name of a recording, its row in `embeddings`."""
        self.speakers = sorted({recording.speaker for recording in recordings})
        self._training_rows: dict[str, list[int]] = defaultdict(list)
        self._held_out_rows: dict[str, list[int]] = defaultdict(list)
        for row, recording in enumerate(recordings):
            (self._held_out_rows if recording.held_out else self._training_rows)[recording.speaker].append(row)
        self._centroids: dict[str, Tensor] = {}

    def rows_of(self, speaker: str) -> list[int]:
        """The recordings that may stand for a speaker: those to train on, or where there are none, the others.

        Raises:
            PreflightError: there are none at all.
        """
        if rows := self._training_rows.get(speaker) or self._held_out_rows.get(speaker):
            return rows
        msg = (
            f"The speaker {speaker!r} is in a batch, but none of the {len(self.row)} recordings that were embedded is "
            "theirs: give the trainer all samples as train_samples and eval_samples."
        )
        raise PreflightError(msg)

    def other_rows(self, name: str, speaker: str) -> list[int]:
        """The recordings that may stand for a speaker but for the one of this name, unless it is the only one."""
        rows = self.rows_of(speaker)
        return [row for row in rows if row != self.row.get(name)] or rows

    def others(self, alias: str, name: str, speaker: str) -> Tensor | None:
        """`[K, D]`, other recordings of the speaker than the one of this name; None where nothing was embedded."""
        return self.embeddings[alias][self.other_rows(name, speaker)] if alias in self.embeddings else None

    def centroids(self, alias: str) -> Tensor:
        """`[S, D]`, the mean direction of each of `speakers`."""
        if alias not in self._centroids:
            means = [self.embeddings[alias][self.rows_of(speaker)].mean(dim=0) for speaker in self.speakers]
            self._centroids[alias] = normalize(torch.stack(means), dim=-1)
        return self._centroids[alias]

    def speaker_ids(self, speakers: Sequence[str]) -> Tensor:
        """`[B]`, the rows of `centroids` that belong to B speakers. Raises PreflightError for one that has none."""
        ids = {speaker: row for row, speaker in enumerate(self.speakers)}
        return torch.tensor([ids[speaker] for speaker in speakers if self.rows_of(speaker)])

    def levels(self, alias: str) -> Calibration | None:
        """Floor and ceiling of an encoder on the recordings to train on; None where they are too few."""
        rows = [(row, speaker) for speaker, own in self._training_rows.items() for row in own]
        return measure_calibration(self.embeddings[alias][[row for row, _ in rows]], [speaker for _, speaker in rows])

    def summary(self) -> str:
        """How much there is to train on, for messages."""
        recordings = sum(len(rows) for rows in self._training_rows.values())
        return f"{len(self._training_rows)} speaker(s) with {recordings} recording(s) to train on"

    def with_one_recording(self) -> list[str]:
        """Speakers for whom there is one recording to train on, so that it has no other to be compared with."""
        return [speaker for speaker, rows in self._training_rows.items() if len(rows) == 1]
