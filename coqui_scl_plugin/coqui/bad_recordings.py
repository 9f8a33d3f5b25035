"""Recordings of a batch that cannot be trained on: not loaded, not finite, or shorter than a frame."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from TTS.tts.models.vits import Vits

from coqui_scl_plugin.coqui.usable_items import LEFT_OUT
from coqui_scl_plugin.errors import BadStepError
from coqui_scl_plugin.utils import processes
from coqui_scl_plugin.utils.shown import named

logger = logging.getLogger(__name__)

_PADDED = {"tokens": "token_lens", "waveform": "waveform_lens"}
"""Padded tensors of a batch, by the lengths of their items; `token_rel_lens` and its like are shares of the longest."""


class BadRecordings:
    """Leaves recordings out of batches before they reach the model, and counts and names them."""

    def __init__(self) -> None:
        """Know no bad recording yet."""
        self.names: set[str] = set()
        """All that were left out so far."""

    def logged(self) -> dict[str, float]:
        """Return what a step logs: the number of recordings, once there is one."""
        return {"scl_bad_recordings": float(len(self.names))} if self.names else {}

    def leave_out(
        self, model: Vits, batch: dict[str, Any], form: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> tuple[dict[str, Any], list[str]]:
        """Return the batch of the sound recordings, as Coqui would have made it of them alone, and the other names.

        It looks at the batch before Coqui moves it to a GPU. If no recording is sound, the batch is empty.

        Args:
            model: The model, for the length of a frame.
            batch: Batch of `UsableItems`, or of another loader.
            form: Coqui's `format_batch`.

        Raises:
            BadStepError: no recording is sound, and other processes would wait for the step of this one.
        """
        unloaded: dict[str, str] = batch.pop(LEFT_OUT, {})
        for name, reason in unloaded.items():
            self._name(name, reason)
        sound, left_out = form(batch) if batch else {}, list(unloaded)
        while sound and (reasons := _reasons(model, sound)):  # a shorter batch may round a short item down to 0 frames
            names = sound["audio_unique_names"]
            for place, reason in reasons.items():
                self._name(names[place], reason)
                left_out.append(names[place])
            items = [place for place in range(len(names)) if place not in reasons]
            sound = cut_batch(sound, items) if items else {}
        if not sound and processes.several():
            names = ", ".join(map(named, left_out[:8]))
            raise BadStepError(
                f"No recording of this process's batch can be used ({names}), and the other processes would wait for "
                "its step. Repair or remove these recordings, or raise batch_size."
            )
        return sound, left_out

    def _name(self, name: str, reason: str) -> None:
        if name not in self.names:
            logger.warning("The recording %s is left out of its batches: %s.", named(name), reason)
        self.names.add(name)


def _reasons(model: Vits, batch: dict[str, Any]) -> dict[int, str]:
    """Return why items of a batch cannot be used, by their place; an item may be silent or clipped."""
    waveforms, d_vectors = batch["waveform"], batch.get("d_vectors")
    frames = _frames(model, waveforms.shape[-1])
    lengths = (frames * batch["waveform_rel_lens"]).int().tolist()
    heard = waveforms.flatten(1).sum(dim=1).isfinite().tolist()  # of samples in [-1, 1]; a sum is NaN if one of them is
    given = (
        d_vectors.flatten(1).isfinite().all(dim=1).tolist() if isinstance(d_vectors, Tensor) else [True] * len(heard)
    )
    reasons = {}
    for place, (length, finite, known) in enumerate(zip(lengths, heard, given, strict=True)):
        if not finite:
            reasons[place] = "it holds samples that are not finite"
        elif length < 1:
            reasons[place] = "it is shorter than a frame of the spectrogram"
        elif not known:
            reasons[place] = "its d-vector is not finite"
    return reasons


def _frames(model: Vits, samples: int) -> int:
    """Return the frames of the spectrogram that the posterior encoder gets of so many samples, as Coqui counts."""
    audio = model.config.audio
    if model.args.encoder_sample_rate:
        samples = int(samples / model.interpolate_factor)
    return int(samples // audio.hop_length)


def cut_batch(batch: dict[str, Any], items: Sequence[int]) -> dict[str, Any]:
    """Return a batch of some of the items, padded to the longest of them."""
    size = len(batch["waveform"])

    def of_items(value: Any) -> Any:
        if isinstance(value, Tensor) and value.ndim > 0 and len(value) == size:
            return value[list(items)]
        return [value[item] for item in items] if isinstance(value, list) and len(value) == size else value

    cut = {key: of_items(value) for key, value in batch.items()}
    for padded, key in _PADDED.items():
        lengths = cut[key]
        cut[padded] = cut[padded][..., : int(lengths.max())]
        cut[key.replace("_lens", "_rel_lens")] = lengths / lengths.max()
    return cut
