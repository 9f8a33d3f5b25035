"""The page's figures, computed anew from the files of a made-up ablation."""

import json
import statistics
from dataclasses import dataclass

import pytest

from benchmarks.ablation.judging import FORMAT, is_judged
from benchmarks.ablation.outcome import Outcome
from benchmarks.ablation.page import (
    arms_table,
    costs_table,
    error_table,
    gains_table,
    measures_table,
    page_parts,
    write_page,
)

SPEAKERS = ("ann", "bob", "cat")
WAYS = ("reconstruction", "conversion", "text")
ENCODERS = ("ge2e", "dvector", "campplus")


@dataclass(frozen=True)
class Arm:
    name: str
    group: str
    question: str
    encoders: tuple[str, ...]


ARMS = (
    Arm("none", "control", "", ()),
    Arm("tried", "loss", "Which loss?", ("ge2e",)),
    Arm("longer", "window", "How long?", ("campplus", "ge2e")),
    Arm("other", "loss", "Which loss?", ("campplus",)),
    Arm("never", "loss", "Which loss?", ()),
)
GAINS = {"none": (0, 0, 0), "tried": (0.01, 0.02, 0.06), "longer": (-0.02, 0.01, 0.04), "other": (-0.1, -0.3, -0.2)}
SEEDS = {"none": (0, 1, 2), "tried": (0, 1, 2), "longer": (0,), "other": (1,)}


def value(arm, seed, way, judge, speaker):
    """Any function that tells them all apart."""
    place = 0.1 * WAYS.index(way) + 0.013 * len(judge) + 0.05 * SPEAKERS.index(speaker)
    return 0.2 + place + 0.03 * seed * (SPEAKERS.index(speaker) - 1) + GAINS[arm][SPEAKERS.index(speaker)]


def measure(values):
    known = [value for value in values.values() if value is not None]
    return {"mean": statistics.mean(known), "speakers": values}


def judged(arm, seed, training):
    def of(way, judge):
        return {speaker: value(arm, seed, way, judge, speaker) for speaker in SPEAKERS}

    ways = {
        way: {
            "encoders": {
                encoder: {
                    "eer": 20 + 3 * seed + 10 * WAYS.index(way) - 100 * GAINS[arm][0] + len(encoder), "real_eer": 0.5,
                    "speakers": {
                        speaker: {"calibrated_cross_utterance": one} for speaker, one in of(way, encoder).items()
                    },
                }
                for encoder in ENCODERS
            },
            "measures": {name: measure(of(way, name)) for name in ("f0_median", "f0_spread", "unvoiced", "spectrum")},
        }
        for way in WAYS
    }  # fmt: skip
    ways["reconstruction"]["measures"]["mel_loss"] = measure(of("reconstruction", "mel_loss"))
    for way in ("reconstruction", "text"):
        ways[way]["measures"]["dnsmos"] = measure(of(way, "dnsmos"))
    real = {end: {"spectrum": {"mean": mean, "speakers": {}}} for end, mean in (("same", 1.25), ("other", 6.5))}
    return {"format": FORMAT, "asr": None, "training": training, "real": real, "ways": ways}


def write(folder, arm, seed, change=lambda _: None):
    training = {
        "arm": arm, "seed": seed, "steps": 300, "model": "abc", "drift": {},
        "weight": 9.0 + seed, "gradient_share": None if arm == "none" else 0.2 + 0.1 * seed, "reported_cosines": {},
    }  # fmt: skip
    content = judged(arm, seed, training)
    change(content)
    run = folder / "runs" / f"{arm}-{seed}"
    run.mkdir(parents=True)
    (run / "judged.json").write_text(json.dumps(content))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "judged.json").write_text(json.dumps(judged("none", 0, None)))
    for arm, seeds in SEEDS.items():
        for seed in seeds:
            write(tmp_path, arm, seed)
    return tmp_path


def cell(table, row, column):
    """Read a table of markdown anew."""
    lines = [[one.strip() for one in line.strip("| \n").split(" | ")] for line in table.splitlines()]
    index = next(at for at, title in enumerate(lines[0]) if title.startswith(column))
    return next(line for line in lines[2:] if line[0].strip("`") == row)[index]


def from_files(folder, arm, seed, *keys):
    found = json.loads((folder / "runs" / f"{arm}-{seed}" / "judged.json").read_text())
    for key in keys:
        found = found[key]
    return found


def gains_by_hand(folder, arm, way, encoder):
    """One list over speakers for each seed."""
    keys = ("ways", way, "encoders", encoder, "speakers")
    return [
        [
            from_files(folder, arm, seed, *keys, speaker, "calibrated_cross_utterance")
            - from_files(folder, "none", seed, *keys, speaker, "calibrated_cross_utterance")
            for speaker in SPEAKERS
        ]
        for seed in SEEDS[arm]
    ]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("arm", ["tried", "longer", "other"])
def test_gain(folder, arm, encoder, way):
    """Of three speakers drawn with replacement, all are the lowest in 1 of 27 draws, more than the interval's 2.5 %."""
    seeds = gains_by_hand(folder, arm, way, encoder)
    means = [statistics.mean(of_speaker) for of_speaker in zip(*seeds, strict=True)]
    low, mean, high = min(means), statistics.mean(means), max(means)
    bold = "**" if low > 0 or high < 0 else ""
    each = f" ({' '.join(f'{statistics.mean(one):+.3f}' for one in seeds)})" if len(seeds) > 1 else ""
    trained = " †" if encoder in next(one for one in ARMS if one.name == arm).encoders else ""
    column = {"ge2e": "ge2e", "dvector": "d-vector", "campplus": "CAM++"}[encoder]
    expected = f"{bold}{mean:+.3f}{bold} [{low:+.3f}, {high:+.3f}]{each}{trained}"
    assert cell(gains_table(Outcome(folder, ARMS), way), arm, column) == expected


def test_screened_and_confirmed_arms_are_told_apart(folder):
    for name, table in page_parts(Outcome(folder, ARMS)).items():
        if name == "arms":
            continue
        assert cell(table, "tried", "seeds") == "3, confirmed"
        assert cell(table, "longer", "seeds") == cell(table, "other", "seeds") == "1, screened"
        assert cell(table, "none", "seeds") == "3"
        assert "never" not in table


def test_arms_are_grouped(folder):
    first = [line.split(" | ")[0].strip("|` ") for line in costs_table(Outcome(folder, ARMS)).splitlines()[2:]]
    assert first == ["*control*", "none", "*loss*", "tried", "other", "*window*", "longer"]
    assert arms_table(Outcome(folder, ARMS)).splitlines()[3] == "| loss | `tried` | Which loss? |"


@pytest.mark.parametrize("way", WAYS)
def test_equal_error_rate(folder, way):
    rates = [from_files(folder, "tried", seed, "ways", way, "encoders", "dvector", "eer") for seed in (0, 1, 2)]
    found = cell(error_table(Outcome(folder, ARMS), way), "tried", "d-vector")
    assert found == f"{statistics.mean(rates):.1f} ± {statistics.stdev(rates):.1f}"


def test_a_run_is_compared_with_its_own_seed(folder):
    keys = ("ways", "text", "measures", "spectrum", "mean")
    ours, theirs = from_files(folder, "other", 1, *keys), from_files(folder, "none", 1, *keys)
    table = measures_table(Outcome(folder, ARMS), "text")
    assert cell(table, "other", "average spectrum") == f"{ours:.2f} (**{ours - theirs:+.2f}**)"
    assert cell(table, "real speech, same speaker", "average spectrum") == "1.25"
    assert cell(table, "real speech, other speakers", "average spectrum") == "6.50"


def test_an_arm_without_a_run_to_compare_with_has_no_gain(folder):
    (folder / "runs" / "none-1" / "judged.json").unlink()
    parts = page_parts(Outcome(folder, ARMS))
    assert cell(parts["text"], "other", "ge2e") == "–"
    assert "(" not in cell(parts["measures_text"], "other", "average spectrum")


def test_a_speaker_without_voice_is_left_out_and_counted(folder):
    def silence(content):
        content["ways"]["text"]["measures"]["f0_median"]["speakers"]["bob"] = None

    (folder / "runs" / "longer-0" / "judged.json").unlink()
    (folder / "runs" / "longer-0").rmdir()
    write(folder, "longer", 0, silence)
    level = statistics.mean(value("longer", 0, "text", "f0_median", speaker) for speaker in ("ann", "cat"))
    gain = statistics.mean(GAINS["longer"][at] for at in (0, 2))
    found = cell(measures_table(Outcome(folder, ARMS), "text"), "longer", "median F0")
    assert found == f"{level:.2f} ({gain:+.2f}), 1 unknown"


def test_columns_are_those_that_were_measured(folder):
    def titles(way):
        return measures_table(Outcome(folder, ARMS), way).splitlines()[0]

    assert all("character" not in titles(way) for way in WAYS)
    assert ["mel loss" in titles(way) for way in WAYS] == [True, False, False]
    assert ["DNSMOS" in titles(way) for way in WAYS] == [True, False, True]

    def recognised(content):
        content["ways"]["text"]["measures"]["cer"] = measure(dict.fromkeys(SPEAKERS, 0.25))

    write(folder, "other", 5, recognised)
    assert ["character" in titles(way) for way in WAYS] == [False, False, True]
    table = measures_table(Outcome(folder, ARMS), "text")
    assert (cell(table, "other", "character"), cell(table, "tried", "character")) == ("0.25", "–")


def test_costs(folder):
    table = costs_table(Outcome(folder, ARMS))
    assert [cell(table, "tried", title) for title in ("weight", "share")] == ["10.00", "0.30"]
    assert [cell(table, "none", title) for title in ("share", "encoder tensors")] == ["–", "–"]


def test_scores_of_a_former_version_are_refused(folder):
    (folder / "runs" / "tried-1" / "judged.json").write_text(json.dumps({"mel_loss": 0.6}))
    with pytest.raises(ValueError, match="judge again"):
        Outcome(folder, ARMS)


def test_written_files_are_the_parts(folder, tmp_path):
    write_page(Outcome(folder, ARMS), tmp_path / "docs" / "ablation")
    parts = page_parts(Outcome(folder, ARMS))
    written = {file.name for file in (tmp_path / "docs" / "ablation").iterdir()}
    assert written == {f"{name}.md" for name in parts} | {f"{way}.svg" for way in WAYS}
    for name, table in parts.items():
        assert (tmp_path / "docs" / "ablation" / f"{name}.md").read_text(encoding="utf-8").endswith(table)


# --- what is judged already -------------------------------------------------------------------------------------------


def run_folder(folder, model, **judgement):
    history = {
        "scl_weight": [4.0, 6.0],
        "scl_gradient_share": [0.1, 0.3],
        "reference_cosine_ge2e": [0.0, 0.2, 0.3, 0.4],
    }
    run = {
        "arm": "a",
        "seed": 0,
        "steps": 3,
        "model": model,
        "section": {},
        "history": history,
    }
    (folder / "run.json").write_text(json.dumps(run))
    content = {"format": FORMAT, "asr": None, "training": {"model": "abc"}} | judgement
    (folder / "judged.json").write_text(json.dumps(content))
    return folder


def test_a_judged_run_is_not_judged_again(tmp_path):
    assert is_judged(run_folder(tmp_path, "abc"), None)


@pytest.mark.parametrize("asr", [None, "whisper"])
def test_a_run_that_the_recogniser_heard_is_not_judged_again(tmp_path, asr):
    assert is_judged(run_folder(tmp_path, "abc", asr="whisper"), asr)


def test_what_changed_is_judged_again(tmp_path):
    assert not is_judged(tmp_path, None)
    assert not is_judged(run_folder(tmp_path, "abc", format=FORMAT - 1), None)
    assert not is_judged(run_folder(tmp_path, "another model"), None)
    assert not is_judged(run_folder(tmp_path, "abc"), "whisper")
