"""What was measured at the start of a run, written into its config, so that the run can be repeated."""

import json
from pathlib import Path

from coqui_scl_plugin.atomic import replacing
from coqui_scl_plugin.config import SECTION, SclConfig
from coqui_scl_plugin.consistency import SpeakerConsistency


def record_measurements(config: SclConfig, consistency: SpeakerConsistency) -> None:
    """Put the SHA-256 of each encoder's weights, its floor and its ceiling into the section."""
    for spec in (*config.encoders, *config.holdout):
        encoder = consistency.prepared_encoders[spec.label].encoder
        if (sha256 := getattr(encoder, "sha256", None)) is not None:
            spec.params = {**spec.params, "sha256": sha256}
        if (levels := consistency.levels.get(spec.label)) is not None:
            spec.floor, spec.ceiling = levels


def write_section(path: Path, config: SclConfig) -> None:
    """Replace the section in a config file, and leave the rest of it as it is."""
    data = json.loads(path.read_text(encoding="utf-8"))
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({**data, SECTION: config.to_dict()}, indent=4), encoding="utf-8")
