"""Similarity of reconstructed recordings, measured by all encoders at each evaluation epoch."""

import copy
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

from coqui_scl_plugin.config import EvaluationConfig
from coqui_scl_plugin.consistency.term import SpeakerConsistency
from coqui_scl_plugin.encoders.audio import ResampledAudio
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.freeze import FrozenPolicy
from coqui_scl_plugin.monitoring.flags import ceilings_of, find_flags
from coqui_scl_plugin.monitoring.history import Row, named_similarities, take_up_history, write_history
from coqui_scl_plugin.references.sources import ReferenceBatch
from coqui_scl_plugin.utils import processes


def _frozen_copies(encoders: Mapping[str, SegmentEncoder]) -> dict[str, SegmentEncoder]:
    """Copy encoders that train along, since once trained they would say what they were trained to say."""
    copies = {alias: copy.deepcopy(encoder) for alias, encoder in encoders.items()}
    for encoder in copies.values():
        FrozenPolicy().apply(encoder)
    return copies


class SimilarityMonitor:
    """Collects the similarities of an evaluation epoch, and keeps the history of all epochs."""

    def __init__(self, consistency: SpeakerConsistency, config: EvaluationConfig, folder: Path | None) -> None:
        """Begin a history, or continue that of the folder.

        Args:
            consistency: The encoders as the run begins, and the embedded data set if there is one.
            config: Thresholds.
            folder: Run folder; None writes nothing.
        """
        self._consistency = consistency
        bank = consistency.encoders
        self._encoders = {**bank.segment_encoders, **_frozen_copies(bank.trained_encoders)}
        self._config = config
        self._folder = folder
        self.rows: list[Row] = take_up_history(folder) if folder is not None else []
        self.roles = bank.roles
        self._step: int | None = None
        self._measured: dict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
        """By alias and recording, the similarities of its reconstruction and of itself.

        Of several processes, those of all; a recording that fills up their batches counts once, by its name.
        """
        self._originals: dict[tuple[str, str], Tensor] = {}

    @property
    def last(self) -> Row | None:
        """The latest evaluation."""
        return self.rows[-1] if self.rows else None

    @torch.inference_mode()
    def measure(self, generated: Sequence[Tensor], real: ReferenceBatch, step: int) -> dict[str, float]:
        """Compare B reconstructions `[T_i]` with other recordings of their speakers.

        Without an embedded data set, or another recording of the speaker, the recording itself is compared with.

        Returns:
            Means of this batch to log: `cross_utterance_ALIAS` and, if its floor and ceiling are known,
            `calibrated_cross_utterance_ALIAS`. A similarity that is not finite enters no mean.
        """
        if step != self._step:  # of several processes, those that write no history never close an evaluation
            self._measured.clear()
            self._step = step
        batch: dict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
        for item, waveform in enumerate(generated):
            original = real.utterances[item][: len(waveform)]
            reconstruction, recording = (
                ResampledAudio(audio[None], real.segments.sample_rate) for audio in (waveform, original)
            )
            for alias, encoder in self._encoders.items():
                embedded = encoder(reconstruction.at(encoder.sample_rate))[0].cpu()
                key = alias, real.names[item]
                if key not in self._originals:
                    self._originals[key] = encoder(recording.at(encoder.sample_rate))[0].cpu()
                others = self._consistency.references.embeddings.others(alias, real.names[item], real.speakers[item])
                compared = self._originals[key][None] if others is None else others
                of_generated, of_real = ((compared @ one).mean().item() for one in (embedded, self._originals[key]))
                if isfinite(of_generated) and isfinite(of_real):
                    counted = "" if processes.several() else f" {len(self._measured[alias])} {item}"
                    batch[alias][f"{real.names[item]}{counted}"] = of_generated, of_real
        for measured in processes.from_all(dict(batch)):
            for alias, pairs in measured.items():
                self._measured[alias] |= pairs
        return self.named({alias: mean(one for one, _ in pairs.values()) for alias, pairs in batch.items()})

    def _calibrated(self, cross_utterance: Mapping[str, float]) -> dict[str, float]:
        calibrations = self._consistency.calibrations
        return {a: calibrations[a].rescale(value) for a, value in cross_utterance.items() if a in calibrations}

    def named(self, cross_utterance: Mapping[str, float]) -> dict[str, float]:
        """Name similarities by alias, and add the calibrated ones: `[calibrated_]cross_utterance_ALIAS`."""
        return named_similarities(cross_utterance, self._calibrated(cross_utterance))

    def forget_after(self, step: int) -> None:
        """Forget evaluations after a step: of a run that goes on from there, they are of weights that are lost."""
        self.rows = [row for row in self.rows if row.step <= step]

    def close(self, step: int, epoch: int) -> dict[str, float]:
        """End an evaluation: add its means over all items, and its flags, to the history.

        Returns:
            The means, named as by `measure`; empty if nothing was measured.
        """
        if not self._measured:
            return {}
        cross_utterance = {alias: mean(one for one, _ in pairs.values()) for alias, pairs in self._measured.items()}
        real = {alias: mean(one for _, one in pairs.values()) for alias, pairs in self._measured.items()}
        self._measured.clear()
        row = Row(step, epoch, cross_utterance, self._calibrated(cross_utterance))
        earlier = [before for before in self.rows if before.step < step]
        ceilings = ceilings_of(self._consistency.calibrations, real)
        flags = find_flags(earlier, row, self.roles, ceilings, self._config)
        self.rows = [*earlier, replace(row, flags=flags)]
        if self._folder is not None:
            write_history(self._folder, self.rows)
        return self.named(cross_utterance)

    def changes(self) -> Mapping[str, float]:
        """Return the change of the cross-utterance similarity since the first evaluation, by alias."""
        first, last = self.rows[0].cross_utterance, self.rows[-1].cross_utterance
        return {alias: value - first[alias] for alias, value in last.items() if alias in first}
