"""What all encoders say at each evaluation epoch, of whole recordings that the generator copied."""

import copy
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

from coqui_scl_plugin.config import EvaluationConfig
from coqui_scl_plugin.consistency.term import SpeakerConsistency
from coqui_scl_plugin.encoders.audio import ResampledAudio
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.freeze import FrozenPolicy
from coqui_scl_plugin.monitoring.history import Row, ceilings_of, find_flags, read_history, write_history
from coqui_scl_plugin.references.sources import ReferenceBatch


def _as_they_are(encoders: Mapping[str, SegmentEncoder]) -> dict[str, SegmentEncoder]:
    """Frozen copies, which do not move with encoders that train along: those would say what they were trained to."""
    copies = {alias: copy.deepcopy(encoder) for alias, encoder in encoders.items()}
    for encoder in copies.values():
        FrozenPolicy().apply(encoder)
    return copies


class SimilarityMonitor:
    """Collects the items of an evaluation epoch, and keeps the history of all."""

    def __init__(self, consistency: SpeakerConsistency, config: EvaluationConfig, folder: Path | None) -> None:
        """Begin, or go on where the folder has a history.

        Args:
            consistency: The encoders as the run begins, and the embedded data set if there is one.
            config: Thresholds.
            folder: Of the run; None writes nothing.
        """
        self._consistency = consistency
        self._encoders = {
            **consistency.encoders.segment_encoders,
            **_as_they_are(consistency.encoders.trained_encoders),
        }
        self._config = config
        self._folder = folder
        self.rows: list[Row] = read_history(folder) if folder is not None else []
        self.roles = dict.fromkeys(consistency.encoders.training_aliases, "training")
        self.roles |= dict.fromkeys(consistency.encoders.holdout_aliases, "holdout")
        self._step: int | None = None
        self._heard: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._originals: dict[tuple[str, str], Tensor] = {}

    @property
    def last(self) -> Row | None:
        """The latest evaluation."""
        return self.rows[-1] if self.rows else None

    @torch.inference_mode()
    def hear(self, generated: Sequence[Tensor], real: ReferenceBatch, step: int) -> dict[str, float]:
        """Compare B generated waveforms `[T_i]` with other recordings of their speakers.

        Where the data set is not embedded, or a speaker has no other recording, with the recording itself.

        Returns:
            What to log of this batch: `secs_ALIAS` and, where the levels are known, `secs_calibrated_ALIAS`.
        """
        if step != self._step:  # a process of several that writes no history never closes an evaluation
            self._heard.clear()
            self._step = step
        said: dict[str, list[float]] = defaultdict(list)
        for item, waveform in enumerate(generated):
            original = real.utterances[item][: len(waveform)]
            copies, originals = (
                ResampledAudio(audio[None], real.segments.sample_rate) for audio in (waveform, original)
            )
            for alias, encoder in self._encoders.items():
                copied = encoder(copies.at(encoder.sample_rate))[0].cpu()
                key = alias, real.names[item]
                if key not in self._originals:
                    self._originals[key] = encoder(originals.at(encoder.sample_rate))[0].cpu()
                others = self._consistency.references.embeddings.others(alias, real.names[item], real.speakers[item])
                compared = self._originals[key][None] if others is None else others
                secs, of_real = ((compared @ one).mean().item() for one in (copied, self._originals[key]))
                said[alias].append(secs)
                self._heard[alias].append((secs, of_real))
        return self.named({alias: mean(values) for alias, values in said.items()})

    def _scaled(self, secs: Mapping[str, float]) -> dict[str, float]:
        levels = self._consistency.calibrations
        return {alias: levels[alias].rescale(value) for alias, value in secs.items() if alias in levels}

    def named(self, secs: Mapping[str, float]) -> dict[str, float]:
        """`secs_ALIAS` and `secs_calibrated_ALIAS` of similarities by alias."""
        scaled = {f"secs_calibrated_{alias}": value for alias, value in self._scaled(secs).items()}
        return {**{f"secs_{alias}": value for alias, value in secs.items()}, **scaled}

    def close(self, step: int, epoch: int) -> dict[str, float]:
        """End an evaluation: its means over all items go into the history, with what gives reason for doubt.

        Returns:
            The means, named as `hear` does; none where nothing was heard.
        """
        if not self._heard:
            return {}
        secs = {alias: mean(one for one, _ in pairs) for alias, pairs in self._heard.items()}
        real = {alias: mean(one for _, one in pairs) for alias, pairs in self._heard.items()}
        self._heard.clear()
        row = Row(step, epoch, secs, self._scaled(secs))
        earlier = [before for before in self.rows if before.step < step]
        ceilings = ceilings_of(self._consistency.calibrations, real)
        flags = find_flags(earlier, row, self.roles, ceilings, self._config)
        self.rows = [*earlier, replace(row, flags=flags)]
        if self._folder is not None:
            write_history(self._folder, self.rows)
        return self.named(secs)

    def changes(self) -> Mapping[str, float]:
        """By alias, how SECS changed since the first evaluation."""
        first, last = self.rows[0], self.rows[-1]
        return {alias: value - first.secs[alias] for alias, value in last.secs.items() if alias in first.secs}
