"""Results of evaluations as `results.json` holds them, made up, with tones for recordings."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from coqui_scl_plugin.evaluation import plots
from coqui_scl_plugin.evaluation.verification import MEASURES

RATE = 8000


def _interval(draw: random.Random) -> dict:
    mean = draw.uniform(-0.5, 1.2)
    return {"mean": mean, "low": mean - draw.uniform(0.01, 0.1), "high": mean + draw.uniform(0.01, 0.1)}


def _encoder(draw: random.Random, name: str, role: str, speakers: list[str]) -> dict:
    return {
        "role": role, "name": name, "params": {"layer": 3}, "fingerprint": f"{draw.getrandbits(64):016x}",
        **{measure: _interval(draw) for measure in MEASURES},
        "eer": draw.uniform(5, 30), "min_dcf": draw.random(), "floor": draw.uniform(0, 0.4),
        "ceiling": draw.uniform(0.6, 0.9), "real_eer": draw.uniform(0, 5), "real_min_dcf": draw.random(),
        "speakers": {
            speaker: {"recordings": draw.randint(1, 9)} | {measure: draw.uniform(-0.2, 1.2) for measure in MEASURES}
            for speaker in speakers
        },
        "matrix": [[draw.uniform(-0.1, 0.9) for _ in speakers] for _ in speakers],
    }  # fmt: skip


def _recordings(draw: random.Random, folder: Path, kind: str, speakers: list[str]) -> list[dict]:
    """A tone for each speaker, each of another pitch."""
    folder.mkdir(exist_ok=True)
    made = []
    for number, speaker in enumerate(speakers):
        path = folder / f"{kind}-{number}.wav"
        soundfile.write(path, 0.1 * np.sin(np.arange(RATE // 4) * draw.uniform(0.1, 1)), RATE)
        own = {} if kind == "real" else {"reference": f"real {number}", "text": f"Text {number}."}
        made.append(
            {"name": f"{kind} {number}", "path": str(path), "speaker": speaker, "seconds": 0.25, "problem": None, **own}
        )
    return made


def _trials(draw: random.Random, aliases: list[str]) -> dict:
    rows = [
        ["a", "b", same, *(draw.gauss(0.7 if same else 0.3, 0.15) for _ in aliases)]
        for same in [True] * 20 + [False] * 60
    ]
    return {"columns": ["first", "second", "same_speaker", *aliases], "rows": rows}


def _evaluation(folder: Path, label: str, speakers: list[str], roles: dict[str, str]) -> dict:
    draw = random.Random(label)
    aliases = list(roles)
    return {
        "label": label,
        "source": {"real": "originals", "synthetic": label},
        "speakers": speakers,
        "encoders": {alias: _encoder(draw, f"kind-{alias}", role, speakers) for alias, role in roles.items()},
        "warnings": [f"Something about {label}."],
        "history": [
            {"step": 100 * row, "epoch": row, "flags": "it diverges" if row == 3 else ""}
            | {f"cross_utterance_{alias}": 0.5 + 0.1 * row for alias in aliases}
            | {f"calibrated_cross_utterance_{alias}": 0.2 * row for alias in aliases}
            for row in range(5)
        ],
        "recordings": {
            "real": _recordings(draw, folder, "real", speakers),
            "synthetic": _recordings(draw, folder, "copy", speakers),
        },
        "trials": _trials(draw, aliases),
        "real_trials": _trials(draw, aliases),
    }


def _comparison(draw: random.Random, encoder: str, measure: str, labels: list[str]) -> dict:
    return {
        "encoder": encoder, "measure": measure, "baseline": labels[0], "evaluation": labels[1],
        "speakers": draw.randint(2, 20), "difference": _interval(draw), "distinguishable": draw.random() < 0.5,
    }  # fmt: skip


Made = Callable[..., dict]


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages with empty figures: drawing takes most of the time, and many tests do not look at them."""
    monkeypatch.setattr(plots, "as_svg", lambda figure, name: "<svg></svg>")


@pytest.fixture
def made_results(tmp_path: Path) -> Made:
    """A function that makes up results, of one evaluation for each label, and writes their recordings."""

    def make(
        *labels: str,
        speakers: tuple[str, ...] = ("ann", "bob", "cid"),
        roles: dict[str, str] | None = None,
    ) -> dict:
        draw = random.Random(0)
        roles = roles or {"alpha": "training", "beta": "holdout"}
        header = {
            "versions": {"numpy": "2.4.6"}, "seed": 17, "resamples": 999, "confidence": 0.95, "loudness_dbfs": None,
            "detection_cost": {"p_target": 0.05, "c_miss": 1.0, "c_false_alarm": 1.0},
        }  # fmt: skip
        found = {
            label: _evaluation(tmp_path / str(place), label, list(speakers), roles)
            for place, label in enumerate(labels)
        }
        if len(found) == 1:
            return header | found[labels[0]]
        comparisons = [
            _comparison(draw, alias, measure, [labels[0], other])
            for other in labels[1:]
            for alias in roles
            for measure in MEASURES
        ]
        return header | {"evaluations": found, "comparisons": comparisons}

    return make
