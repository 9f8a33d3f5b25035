"""DNSMOS: the quality that listeners would hear in a recording, estimated without a reference."""

import importlib
import importlib.metadata
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from coqui_scl_plugin.encoders.audio import resample
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.evaluation.judges import Opinion
from coqui_scl_plugin.references.recordings import Recording

_RATE = 16_000
_FIGURES = {"dnsmos": "ovrl_mos", "dnsmos_signal": "sig_mos", "dnsmos_background": "bak_mos"}


class QualityJudge:
    """DNSMOS P.835 (https://arxiv.org/abs/2110.01763) as the package speechmos computes it, on the scale of 1 to 5.

    `dnsmos` is the overall quality, `dnsmos_signal` that of the speech itself, and `dnsmos_background` how little the
    background disturbs. speechmos repeats a recording that is shorter than its window of 9 s, and averages over the
    windows of a longer one.
    """

    title = "DNSMOS"
    measures: tuple[str, ...] = tuple(_FIGURES)
    by_language = False
    packages: tuple[str, ...] = ("speechmos", "onnxruntime", "librosa")

    def __init__(self) -> None:
        """Load speechmos. Raises ConfigError if it, or what it imports, is not installed."""
        try:
            self._run: Callable[..., Mapping[str, Any]] = importlib.import_module("speechmos.dnsmos").run
        except ImportError as error:
            msg = f'--quality needs speechmos: pip install "coqui-scl-plugin[quality]" ({error}).'
            raise ConfigError(msg) from error
        self.identity: dict[str, Any] = {
            "model": f"DNSMOS P.835 of speechmos {importlib.metadata.version('speechmos')}"
        }

    def opinion(self, recording: Recording, waveform: Tensor, rate: int) -> Opinion:
        """Estimate the quality of `[T]`; None if it is empty or not finite. Peaks over full scale are scaled to it."""
        if len(waveform) == 0 or not waveform.isfinite().all():
            return dict.fromkeys(self.measures)
        samples = resample(waveform.float().unsqueeze(0), rate, _RATE)[0].numpy()
        peak = float(np.abs(samples).max())
        found = self._run(samples / max(peak, 1.0), sr=_RATE)
        figures = {measure: float(found[figure]) for measure, figure in _FIGURES.items()}
        return {measure: round(value, 6) if math.isfinite(value) else None for measure, value in figures.items()}
