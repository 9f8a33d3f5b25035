"""What is known at the start of a run, written into its folder, so that it can be repeated and judged."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from coqui_scl_plugin.config import SECTION, SclConfig
from coqui_scl_plugin.consistency.term import SpeakerConsistency
from coqui_scl_plugin.utils.atomic import replacing


def record_measurements(config: SclConfig, consistency: SpeakerConsistency) -> None:
    """Put the SHA-256 of each encoder's weights, its floor and its ceiling into the section."""
    for spec in (*config.encoders, *config.holdout):
        encoder = consistency.encoders[spec.label].encoder
        if (sha256 := getattr(encoder, "sha256", None)) is not None:
            spec.params = {**spec.params, "sha256": sha256}
        if (calibration := consistency.calibrations.get(spec.label)) is not None:
            spec.floor, spec.ceiling = calibration


def write_section(path: Path, config: SclConfig) -> None:
    """Replace the section in a config file, and leave the rest of it as it is."""
    data = json.loads(path.read_text(encoding="utf-8"))
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({**data, SECTION: config.to_dict()}, indent=4), encoding="utf-8")


_EVALUATION_SET = "evaluation_set.json"


def write_evaluation_set(folder: Path, samples: Iterable[Mapping[str, Any]]) -> None:
    """Keep the names of the recordings that a run does not train on, which its config need not tell."""
    names = sorted(sample["audio_unique_name"] for sample in samples)
    with replacing(folder / _EVALUATION_SET) as temporary:
        temporary.write_text(json.dumps(names, indent=1), encoding="utf-8")


def read_evaluation_set(folder: Path) -> set[str] | None:
    """Those names; None where they were not kept."""
    file = folder / _EVALUATION_SET
    return set(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None
