"""Inputs that users have reported: `preflight` names the cause and the place of each, and `train` finds the same."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from command_driver import Command, Outcome, run_commands
from user_cases import CASES, Input


@dataclass(frozen=True)
class Expected:
    """The checks that fail or warn, with words of their findings; and words that no finding of a case may have."""

    failed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    warning: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unsaid: tuple[str, ...] = ()


EXPECTED = {
    "lost-language": Expected({"restored-weights": ("text_encoder", "%")}),
    "one-new-speaker": Expected(warning={"tables": ("4", "5", "scl.restore.match_rows")}),
    "other-speakers": Expected({"tables": ("1688", "1998", "match_rows")}),
    "speakers-at-top-only": Expected({"conditioning": ("4 speakers", "model_args.use_speaker_embedding")}),
    "languages-at-top-only": Expected({"conditioning": ("use_language_embedding", "model_args")}),
    "both-conditionings": Expected(
        {"conditioning": ("use_speaker_embedding", "use_d_vector_file", "no d-vectors")},
        unsaid=("are not in model_args.d_vector_file", "dataset_name"),
    ),
    "unpaired-quote": Expected(
        {"metadata": ("metadata.csv", "20", "line 5", "quote")}, unsaid=("eval_split_size", "speakers, only")
    ),
    "pipe-in-text": Expected({"metadata": ("line 5", "4 columns", "3")}, unsaid=("' there'",)),
    "missing-files": Expected({"metadata": ("24 of 32", "metadata.csv", "do not exist", "1688-142285-0000.wav")}),
    "backslashes": Expected({"metadata": ("None of the 20 recordings exists", "backslash")}),
    "row-without-speaker": Expected({"metadata": ("line 5", "2 columns", "3")}, unsaid=("NoneType",)),
    "byte-order-mark": Expected({"metadata": ("audio_file", "byte order mark")}),
    "one-stereo-file": Expected({"audio": ("1 of 20", "2 channels", "1998-15444-0002.wav")}),
    "stereo-at-44k": Expected({"audio": ("20 of 20", "2 channels"), "sample-rate": ("44100",)}),
    "three-ogg": Expected({"recordings": ("3", ".ogg", "1688-142285-0000.ogg")}),
    "all-m4a-at-44k": Expected(
        {"recordings": ("20 of 20", ".m4a"), "sample-rate": ("44100",)},
        unsaid=("min_audio_len", "Repair its forward", "eval_split_size"),
    ),
    "hop-length": Expected({"architecture": ("audio.hop_length = 300", "256")}),
    "encoder-rate": Expected({"architecture": ("encoder_sample_rate = 16000", "44100")}),
    "sampler-attribute": Expected({"sampler": ("weighted_sampler_attrs", "'speaker'", "speaker_name", "language")}),
    "language-empty": Expected({"languages": ("datasets.0.language", "use_language_embedding")}),
    "d-vector-file-absent": Expected({"files": ("model_args.d_vector_file", "absent.pth")}),
    "phonemizer-absent": Expected({"text": ("gruut", "pip install")}),
    "phonemes-without-cache": Expected({"text": ("phoneme_cache_path",)}),
    "stock-encoder-absent": Expected({"encoders": ("absent.pth", "does not exist")}),
    "foreign-alphabet": Expected({"alphabet": ("100", "'п'", "en")}),
}


@pytest.fixture(scope="module")
def outcomes(libri10: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """Run `preflight` on all cases, and `train` on those that fail, in one process."""
    root, commands = tmp_path_factory.mktemp("cases"), {}
    for name, build in CASES.items():
        made, work = Input(root / name, libri10), root / name / "work"
        build(made)
        made.write()
        work.mkdir()
        commands[f"preflight {name}"] = Command(work, ["preflight", *made.arguments(), "--json"])
        if EXPECTED[name].failed:
            commands[f"train {name}"] = Command(work, ["train", *made.arguments()])
    return run_commands(commands)


def test_there_is_an_expectation_for_each_case() -> None:
    assert EXPECTED.keys() == CASES.keys()


@pytest.mark.parametrize("name", CASES)
def test_preflight_names_the_cause_and_nothing_else(name: str, outcomes: dict[str, Outcome]) -> None:
    outcome, expected = outcomes[f"preflight {name}"], EXPECTED[name]
    assert "Traceback" not in outcome.out + outcome.err
    assert outcome.out.startswith("{"), outcome.err
    found = {check["id"]: check for check in outcome.report["checks"] if check["findings"]}
    said = {id_: " ".join(f"{f['found']} {f['change']}" for f in check["findings"]) for id_, check in found.items()}
    assert {id_ for id_ in found if found[id_]["status"] == "failed"} == expected.failed.keys(), said
    assert expected.warning.keys() <= {id_ for id_ in found if found[id_]["status"] == "warning"}, said
    for id_, words in {**expected.failed, **expected.warning}.items():
        assert [word for word in words if word not in said[id_]] == [], said[id_]
    assert [word for word in expected.unsaid if word in " ".join(said.values())] == [], said
    assert outcome.status in ((1, 2) if expected.failed else (0,))
    assert outcome.changed == []


@pytest.mark.parametrize("name", [name for name, expected in EXPECTED.items() if expected.failed])
def test_train_finds_the_same_in_the_same_order_before_a_run_folder_is_made(
    name: str, outcomes: dict[str, Outcome]
) -> None:
    checks = outcomes[f"preflight {name}"].report["checks"]
    outcome = outcomes[f"train {name}"]
    outcome.assert_one_message()
    assert outcome.status == outcomes[f"preflight {name}"].status
    assert outcome.changed == []
    failed = [check for check in checks if check["status"] == "failed"]
    assert re.findall(r"\(check '([a-z0-9-]+)'\)", outcome.err) == [check["id"] for check in failed]
    for check in failed:
        for finding in check["findings"]:
            assert finding["found"] in outcome.err
