"""Facts of a run that are put together by hand, for tests of single checks."""

import dataclasses
from typing import Any

from coqui_scl_plugin import SclVitsConfig
from coqui_scl_plugin.preflight.facts import RunFacts


def sound_facts(**changes: Any) -> RunFacts:
    """Return a run in which nothing is wrong, as far as it goes, with changes of its facts."""
    nothing: Any = None
    sound = RunFacts(
        config=SclVitsConfig(run_eval=False),
        frozen_encoders={},
        optimizers={},
        train_samples=[],
        eval_samples=[],
        model_sizes={},
        speakers=None,
        d_vectors=None,
        segment_seconds=1.0,
        train_mode=lambda: None,
        count_eval_batches=lambda: 1,
        generate=nothing,
        prepare_references=lambda: None,
        probe_gradients=dict,
        measure_reach=list,
    )
    return dataclasses.replace(sound, **changes)
