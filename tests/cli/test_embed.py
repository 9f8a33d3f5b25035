"""`coqui-scl embed` as a user runs it: what it prints, keeps, reuses and refuses, and what a stopped one leaves."""

import itertools
import json
import os
import pickle
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from command_driver import SCRIPT, Command, Outcome, environment, run_commands, slow_imports_of
from distributions import install
from safetensors.torch import load_file
from toy_speech import write_metadata
from TTS.config.shared_configs import BaseDatasetConfig
from TTS.tts.configs.shared_configs import BaseTTSConfig
from TTS.tts.datasets import load_tts_samples

from coqui_scl_plugin.demo import corpus_files

NAMES = sorted(s["audio_unique_name"] for s in corpus_files.load_samples(corpus_files.BUNDLED))
COUNT = 44
CACHE = "out/speaker_references.safetensors"

# a third party's encoder, of 12 dimensions, that takes as many seconds for a batch as SLOW says
PLUGIN = """
import os, time, torch
from coqui_scl_plugin import hookimpl

class SlowEncoder(torch.nn.Module):
    sample_rate, embedding_dim, min_samples = 16_000, 12, 400

    def forward(self, waveform):
        time.sleep(float(os.environ.get("SLOW", "0")))
        power = torch.fft.rfft(waveform, norm="ortho").abs().square()
        bands = torch.nn.functional.adaptive_avg_pool1d(power.unsqueeze(1), 12).squeeze(1)
        return torch.nn.functional.normalize((bands + 1e-9).sqrt(), dim=-1)

@hookimpl
def scl_encoders():
    return {"slow": SlowEncoder}
"""


class Refused(NamedTuple):
    """What the message must hold, and the arguments that are refused."""

    parts: Sequence[str]
    arguments: Sequence[str]


def with_config(*arguments: str, name: str = "config.json") -> list[str]:
    return ["embed", "--config_path", name, *arguments]


# run in this order: later ones find what earlier ones left
COMMANDS = {
    "first": Command(Path("one"), with_config("--json")),
    "second": Command(Path("one"), with_config("--json")),
    "table": Command(Path("one"), with_config()),
    "touched": Command(Path("one"), with_config("--json"), ["corpus/slt/slt_03.flac"]),
    "after touched": Command(Path("one"), with_config("--json")),
    "options last": Command(
        Path("one"),
        with_config(
            "--coqpit.output_path", "other", "--coqpit.scl.weight=3", "--json", "--export", "made/vectors.json"
        ),
    ),
    "options first": Command(
        Path("one"),
        [
            "embed",
            "--json",
            "--coqpit.scl.reference.cache",
            "named.safetensors",
            "--config_path",
            "config.json",
            "--encoder",
            "ge2e",
        ],
    ),
    "no cache": Command(Path("one"), with_config("--json", "--export", "vectors.pth", name="no_cache.json")),
    "two encoders": Command(Path("two"), with_config("--json", "--export", "vectors.pth", "--encoder", "slow")),
    "two encoders again": Command(Path("two"), with_config("--json")),
    "import": Command(Path("import"), with_config("--import", "../two/vectors.pth", "--json")),
    "after import": Command(Path("import"), with_config("--json")),
    "too small to measure": Command(Path("small"), with_config("--json")),
    "too small, as a table": Command(Path("small"), with_config()),
    "undisturbed": Command(Path("stopped"), with_config("--json", "--coqpit.output_path", "undisturbed")),
    "after kill": Command(Path("stopped"), with_config("--json", "--coqpit.output_path", "killed")),
    "after Ctrl-C": Command(Path("stopped"), with_config("--json", "--coqpit.output_path", "interrupted")),
}

REFUSED = {
    "unknown option": Refused(["--jsn"], with_config("--jsn")),
    "unknown option with a value": Refused(["--exprt"], with_config("--exprt", "a.json")),
    "unknown argument": Refused(["stray"], with_config("stray")),
    "override of an unknown key": Refused(["scl.wieght", "scl.weight"], with_config("--coqpit.scl.wieght", "5")),
    "override of the source": Refused(
        ["scl.reference.source", "utterence"], with_config("--coqpit.scl.reference.source", "utterence")
    ),
    "empty name of the cache": Refused(["scl.reference.cache"], with_config("--coqpit.scl.reference.cache=")),
    "missing config": Refused(["nosuch.json"], with_config(name="nosuch.json")),
    "config that is a folder": Refused(["taken.json"], with_config(name="taken.json")),
    "missing corpus": Refused(["datasets.0.path"], with_config("--coqpit.datasets.0.path", "nosuch")),
    "import of a missing file": Refused(["--import nosuch.pth"], with_config("--import", "nosuch.pth")),
    "import of another kind": Refused(["--import notes.csv", ".pth or .json"], with_config("--import", "notes.csv")),
    "import of a folder": Refused(["--import taken.json"], with_config("--import", "taken.json")),
    "import of a cut-off file": Refused(["cut_off.json"], with_config("--import", "cut_off.json")),
    "import of a hostile pickle": Refused(["hostile.pth"], with_config("--import", "hostile.pth")),
    "import of another encoder": Refused(["other.json", "another encoder"], with_config("--import", "other.json")),
    "import of another size": Refused(["wide.json", "256"], with_config("--import", "wide.json")),
    "import of another data set": Refused(["foreign.json", "dataset_name"], with_config("--import", "foreign.json")),
    "export of another kind": Refused(["--export notes.csv"], with_config("--export", "notes.csv")),
    "unknown encoder": Refused(["--encoder nosuch", "slow"], with_config("--encoder", "nosuch")),
    "misspelt encoder": Refused(
        ["--encoder slwo", "'slow'"], with_config("--encoder", "slwo", "--export", "a.json", name="two.json")
    ),
    "export of one of two": Refused(
        ["--encoder", "ge2e, slow"], with_config("--export", "a.json", name="two.json")
    ),
    "import for one of two": Refused(
        ["--encoder", "ge2e, slow"], with_config("--import", "other.json", name="two.json")
    ),
    "cache that is none": Refused(
        ["scl.reference.cache", "spoilt.safetensors"], with_config("--coqpit.scl.reference.cache", "spoilt.safetensors")
    ),
    "cache that is a folder": Refused(
        ["scl.reference.cache", "taken.json"], with_config("--coqpit.scl.reference.cache", "../taken.json")
    ),
    "no encoder": Refused(["scl.encoders"], with_config(name="no_encoder.json")),
    "value of a wrong type": Refused(["eval_split_size = 'few': must be"], with_config(name="wrong_type.json")),
    "recording that is none": Refused(["b_1.wav"], with_config(name="bad_corpus.json")),
}  # fmt: skip

OTHERWISE_REFUSED = {
    "no config": Refused(["--config_path"], ["embed", "--json"]),
    "recordings that share a name": Refused(["share the name", "b_1"], with_config(name="twins.json")),
}

UNWRITABLE = {
    "cache below a file": Refused(["in_the_way"], with_config("--coqpit.output_path", "in_the_way")),
    "export over a folder": Refused(["taken.json"], with_config("--export", "taken.json")),
    "export below a file": Refused(["in_the_way"], with_config("--export", "in_the_way/vectors.json")),
}


# --- the folders ------------------------------------------------------------------------------------------------------


def write_config(path: Path, encoders: Sequence[str], *corpora: Path, held_out: int = 8, **section: Any) -> None:
    dataset = {"formatter": "coqui", "dataset_name": "demo", "meta_file_train": "metadata.csv"}
    section = {
        "encoders": [{"name": encoder} for encoder in encoders],
        "loss": {"name": "cosine" if len(encoders) == 1 else "ensemble"},
        **section,
    }
    config = {
        "model": "scl_vits",
        "output_path": "out",
        "datasets": [dataset | {"path": str(corpus)} for corpus in corpora],
        "eval_split_size": held_out,
        "scl": section,
    }
    path.write_text(json.dumps(config))


class Hostile:
    """An object whose pickle, once loaded, writes a file."""

    def __reduce__(self):
        return os.system, ("touch it_ran",)


def vectors(names: Sequence[str], dim: int) -> str:
    generator = torch.Generator().manual_seed(0)
    entries = {name: {"name": "a", "embedding": torch.randn(dim, generator=generator).tolist()} for name in names}
    return json.dumps(entries)


def write_refused(folder: Path) -> None:
    """Write the folder in which the commands of `REFUSED` and `UNWRITABLE` run."""
    folder.mkdir()
    write_config(folder / "config.json", ["slow"], corpus_files.BUNDLED)
    write_config(folder / "two.json", ["ge2e", "slow"], corpus_files.BUNDLED)
    write_config(folder / "no_encoder.json", [], corpus_files.BUNDLED, enabled=False)
    (folder / "taken.json").mkdir()
    (folder / "taken.json" / "mine.txt").write_text("mine")
    for name in ("notes.csv", "in_the_way"):
        (folder / name).write_text("notes of mine")
    (folder / "out").mkdir()
    (folder / "out" / "spoilt.safetensors").write_text("notes of mine")
    (folder / "cut_off.json").write_text(vectors(NAMES, 12)[:1000])
    (folder / "hostile.pth").write_bytes(pickle.dumps({"a": {"name": "a", "embedding": Hostile()}}, protocol=2))
    (folder / "other.json").write_text(vectors(NAMES, 12))
    (folder / "wide.json").write_text(vectors(NAMES, 256))
    (folder / "foreign.json").write_text(vectors([name.replace("demo#", "theirs#") for name in NAMES], 12))
    (write_corpus(folder / "bad_corpus", count=3) / "b_1.wav").write_text("this is no audio")
    plain = json.loads((folder / "no_encoder.json").read_text())
    (folder / "wrong_type.json").write_text(json.dumps(plain | {"eval_split_size": "few"}))
    write_config(folder / "bad_corpus.json", ["slow"], folder / "bad_corpus", held_out=2)
    corpora = [write_corpus(folder / name, count=3) for name in ("twin", "other_twin")]
    write_config(folder / "twins.json", ["slow"], *corpora, held_out=2)


def write_corpus(folder: Path, *, count: int) -> Path:
    """Write `count` recordings of each of two speakers, and give the folder."""
    folder.mkdir()
    table = []
    for speaker, index in itertools.product("ab", range(count)):
        recording = corpus_files.BUNDLED / "slt" / f"slt_{'ab'.index(speaker) * count + index + 1:02}.flac"
        shutil.copy(recording, folder / f"{speaker}_{index}.wav")  # what is inside counts, not how it is called
        table.append((f"{speaker}_{index}.wav", speaker))
    write_metadata(folder / "metadata.csv", table)
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with one for each group of commands, and the plugin in `site`."""
    root = tmp_path_factory.mktemp("embed")
    install(root / "site", "slow-plugin", PLUGIN)
    own = shutil.copytree(corpus_files.BUNDLED, root / "one" / "corpus")  # of which one is touched
    write_config(root / "one" / "config.json", ["ge2e"], own)
    for folder, encoders in {"two": ["ge2e", "slow"], "import": ["slow"], "stopped": ["slow"]}.items():
        (root / folder).mkdir()
        write_config(root / folder / "config.json", encoders, corpus_files.BUNDLED)
    (root / "small").mkdir()
    write_config(root / "small" / "config.json", ["slow"], write_corpus(root / "small" / "corpus", count=2), held_out=2)
    write_config(root / "one" / "no_cache.json", ["ge2e"], own, reference={"cache": None})
    write_refused(root / "refused")
    return root


# --- what is run ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stopped:
    """The exit status and the output of a command that was stopped half way."""

    status: int
    shown: str
    left: int
    """The number of entries in the cache after the end."""


def entries(cache: Path) -> int:
    """Return the number of entries; whenever there is a file, it is whole."""
    return sum(len(rows) for rows in load_file(cache).values()) if cache.exists() else 0


def stop_half_way(root: Path, output: str, number: signal.Signals) -> Stopped:
    cache = root / "stopped" / output / "speaker_references.safetensors"
    command = [SCRIPT, *with_config("--coqpit.output_path", output)]
    with (root / f"{output}.log").open("w+") as log:
        process = subprocess.Popen(
            command, cwd=root / "stopped", env=environment(root / "site", SLOW="0.4"), stdout=log, stderr=log
        )
        try:
            deadline = time.monotonic() + 120
            while entries(cache) < 6:
                assert process.poll() is None, (root / f"{output}.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.01)
            process.send_signal(number)
            status = process.wait(timeout=60)
        finally:
            process.kill()
            process.wait()
    return Stopped(status, (root / f"{output}.log").read_text(), entries(cache))


@pytest.fixture(scope="module")
def stopped(root: Path) -> dict[str, Stopped]:
    """Stop two commands, and return them by the folder of their cache.

    A shell that runs the tests in the background may make all that it starts ignore Ctrl-C; then there is only one.
    """
    ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    numbers = {"killed": signal.SIGKILL} | ({} if ignored else {"interrupted": signal.SIGINT})
    return {output: stop_half_way(root, output, number) for output, number in numbers.items()}


@pytest.fixture
def by_ctrl_c(stopped: dict[str, Stopped]) -> Stopped:
    if "interrupted" not in stopped:
        pytest.skip("Ctrl-C is ignored here, and so it is by what is started")
    return stopped["interrupted"]


@pytest.fixture(scope="module")
def outcomes(root: Path, stopped: dict[str, Stopped]) -> dict[str, Outcome]:
    """Run all commands in one process."""
    commands = {name: replace(command, folder=root / command.folder) for name, command in COMMANDS.items()}
    refused = REFUSED | OTHERWISE_REFUSED | UNWRITABLE
    commands |= {name: Command(root / "refused", case.arguments) for name, case in refused.items()}
    return run_commands(commands, root / "site")


def rows(outcome: Outcome) -> dict[str, dict[str, Any]]:
    """Return the rows that `--json` printed, by encoder."""
    assert outcome.status == 0, outcome.err
    return {row["encoder"]: row for row in outcome.report["encoders"]}


def embedded(outcome: Outcome) -> dict[str, int]:
    """Return the number of recordings that each encoder embedded."""
    return {alias: row["embedded"] for alias, row in rows(outcome).items()}


# --- what it prints and keeps -----------------------------------------------------------------------------------------


def test_it_embeds_every_recording_once(outcomes: dict[str, Outcome]) -> None:
    first = outcomes["first"]
    assert embedded(first) == {"ge2e": COUNT}
    assert first.changed == [CACHE]
    assert json.loads(first.out)["cache"] == CACHE
    assert json.loads(first.out)["seconds"] > 0
    assert "References by ge2e" in first.err
    assert f"{COUNT}/{COUNT}" in first.err


@pytest.mark.parametrize("name", ["second", "after touched", "two encoders again"])
def test_a_second_run_embeds_nothing(name: str, outcomes: dict[str, Outcome]) -> None:
    assert set(embedded(outcomes[name]).values()) == {0}
    assert outcomes[name].changed == []
    assert outcomes[name].err == ""


def test_it_prints_the_same_each_time(outcomes: dict[str, Outcome]) -> None:
    for key in ("recordings", "floor", "ceiling"):
        assert rows(outcomes["first"])["ge2e"][key] == rows(outcomes["second"])["ge2e"][key]


def test_one_touched_file_is_embedded_again_alone(outcomes: dict[str, Outcome]) -> None:
    assert embedded(outcomes["touched"]) == {"ge2e": 1}
    assert outcomes["touched"].changed == [CACHE]
    assert "1/1" in outcomes["touched"].err


def test_without_json_it_is_a_table_of_the_same(outcomes: dict[str, Outcome]) -> None:
    table, row = outcomes["table"], rows(outcomes["second"])["ge2e"]
    assert (table.status, table.changed) == (0, [])
    assert CACHE in table.out
    (line,) = [line for line in table.out.splitlines() if "ge2e" in line]
    cells = [cell.strip() for cell in line.strip("│").split("│")]
    assert cells == ["ge2e", str(COUNT), "0", f"{row['floor']:.3f}", f"{row['ceiling']:.3f}"]


def test_floor_and_ceiling_are_of_the_recordings_to_train_on(root: Path, outcomes: dict[str, Outcome]) -> None:
    exported = json.loads((root / "one" / "made" / "vectors.json").read_text())
    dataset = BaseDatasetConfig(
        formatter="coqui", dataset_name="demo", path=str(corpus_files.BUNDLED), meta_file_train="metadata.csv"
    )
    train, held_out = load_tts_samples(BaseTTSConfig(datasets=[dataset]), eval_split=True, eval_split_size=8)
    assert (len(train), len(held_out)) == (COUNT - 8, 8)
    cosines: dict[bool, list[float]] = {True: [], False: []}
    for pair in itertools.combinations(train, 2):
        one, other = (torch.tensor(exported[sample["audio_unique_name"]]["embedding"]).double() for sample in pair)
        cosines[pair[0]["speaker_name"] == pair[1]["speaker_name"]].append(
            (one @ other / one.norm() / other.norm()).item()
        )
    row = rows(outcomes["first"])["ge2e"]
    assert row["floor"] == pytest.approx(sum(cosines[False]) / len(cosines[False]), abs=1e-5)
    assert row["ceiling"] == pytest.approx(sum(cosines[True]) / len(cosines[True]), abs=1e-5)
    assert row["floor"] + 0.1 < row["ceiling"]


def test_options_after_overrides_are_heard(root: Path, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes["options last"]
    assert embedded(outcome) == {"ge2e": COUNT}
    assert outcome.changed == ["made/vectors.json", "other/speaker_references.safetensors"]
    exported = json.loads((root / "one" / "made" / "vectors.json").read_text())
    assert sorted(exported) == NAMES
    assert {name: entry["name"] for name, entry in exported.items()} == {
        name: name.removeprefix("demo#").partition("/")[0] for name in NAMES
    }


def test_options_before_the_config_are_heard(outcomes: dict[str, Outcome]) -> None:
    assert embedded(outcomes["options first"]) == {"ge2e": COUNT}
    assert outcomes["options first"].changed == ["out/named.safetensors"]


def test_without_a_cache_nothing_but_the_export_is_written(outcomes: dict[str, Outcome]) -> None:
    assert embedded(outcomes["no cache"]) == {"ge2e": COUNT}
    assert outcomes["no cache"].changed == ["vectors.pth"]
    assert json.loads(outcomes["no cache"].out)["cache"] == ""


def test_data_that_is_too_small_has_no_floor_and_no_ceiling(outcomes: dict[str, Outcome]) -> None:
    assert rows(outcomes["too small to measure"])["slow"] == {
        "encoder": "slow", "recordings": 4, "embedded": 4, "floor": None, "ceiling": None
    }  # fmt: skip
    (line,) = [line for line in outcomes["too small, as a table"].out.splitlines() if "slow" in line]
    assert [cell.strip() for cell in line.strip("│").split("│")] == ["slow", "4", "0", "-", "-"]


def test_its_help_imports_neither_torch_nor_coqui() -> None:
    imported, shown = slow_imports_of("embed", "-h")
    assert imported == set()
    for option in ("--config_path", "--import", "--export", "--encoder", "--json"):
        assert option in shown


# --- d-vector files ---------------------------------------------------------------------------------------------------


def test_one_encoder_of_two_is_exported(root: Path, outcomes: dict[str, Outcome]) -> None:
    assert embedded(outcomes["two encoders"]) == {"ge2e": COUNT, "slow": COUNT}
    assert outcomes["two encoders"].changed == [CACHE, "vectors.pth"]
    exported = torch.load(root / "two" / "vectors.pth", weights_only=True)
    assert sorted(exported) == NAMES
    assert {len(entry["embedding"]) for entry in exported.values()} == {12}


def test_what_is_imported_is_not_embedded_and_is_kept(root: Path, outcomes: dict[str, Outcome]) -> None:
    imported = outcomes["import"]
    assert embedded(imported) == {"slow": 0}
    assert f"{COUNT} embeddings of slow taken from ../two/vectors.pth" in imported.err
    assert imported.changed == [CACHE]
    assert entries(root / "import" / CACHE) == COUNT
    assert embedded(outcomes["after import"]) == {"slow": 0}
    for key in ("floor", "ceiling"):
        assert rows(imported)["slow"][key] == pytest.approx(rows(outcomes["two encoders"])["slow"][key], abs=1e-6)


# --- stopped half way -------------------------------------------------------------------------------------------------


def assert_kept(stopped: Stopped) -> None:
    assert stopped.status != 0
    assert 6 <= stopped.left < COUNT
    assert "References by slow" in stopped.shown


def assert_went_on(root: Path, output: str, outcome: Outcome, undisturbed: Outcome, left: int) -> None:
    assert embedded(undisturbed) == {"slow": COUNT}
    assert embedded(outcome) == {"slow": COUNT - left}
    caches = [root / "stopped" / folder / "speaker_references.safetensors" for folder in ("undisturbed", output)]
    assert caches[0].read_bytes() == caches[1].read_bytes()


def test_kill_9_keeps_what_was_done(stopped: dict[str, Stopped]) -> None:
    assert_kept(stopped["killed"])
    assert stopped["killed"].status == -signal.SIGKILL


def test_ctrl_c_keeps_what_was_done_without_a_traceback(by_ctrl_c: Stopped) -> None:
    assert_kept(by_ctrl_c)
    assert "Traceback" not in by_ctrl_c.shown
    assert "KeyboardInterrupt" not in by_ctrl_c.shown
    assert by_ctrl_c.status in (1, 130)


def test_going_on_after_kill_9_ends_with_the_same_bytes(
    root: Path, outcomes: dict[str, Outcome], stopped: dict[str, Stopped]
) -> None:
    assert_went_on(root, "killed", outcomes["after kill"], outcomes["undisturbed"], stopped["killed"].left)


def test_going_on_after_ctrl_c_ends_with_the_same_bytes(
    root: Path, outcomes: dict[str, Outcome], by_ctrl_c: Stopped
) -> None:
    assert_went_on(root, "interrupted", outcomes["after Ctrl-C"], outcomes["undisturbed"], by_ctrl_c.left)


# --- what it refuses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_cannot_use_is_one_message_and_status_2(name: str, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[name]
    outcome.assert_refused(REFUSED[name].parts)
    assert outcome.out == ""


def test_without_a_config_it_is_wrong_usage(outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes["no config"]
    assert (outcome.status, outcome.out, outcome.changed) == (2, "", [])
    assert "--config_path" in outcome.err
    assert "Traceback" not in outcome.err


def test_recordings_that_share_a_name_are_refused_as_in_training(outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes["recordings that share a name"]
    assert outcome.status in (1, 2)
    outcome.assert_one_message(["share the name"])
    assert (outcome.out, outcome.changed) == ("", [])


@pytest.mark.parametrize("name", UNWRITABLE)
def test_where_it_cannot_write_is_one_message(name: str, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[name]
    outcome.assert_one_message(UNWRITABLE[name].parts)
    assert outcome.status in (1, 2)
    assert outcome.out == ""
    assert set(outcome.changed) <= {CACHE}


# --- real speech ------------------------------------------------------------------------------------------------------


def test_real_speech_of_ten_speakers(libri10: Path, tmp_path: Path) -> None:
    write_config(tmp_path / "config.json", ["ge2e"], libri10, held_out=10)
    first, second = run_commands({name: Command(tmp_path, with_config("--json")) for name in "ab"}).values()
    assert (embedded(first), embedded(second)) == ({"ge2e": 100}, {"ge2e": 0})
    row = rows(first)["ge2e"]
    assert 0.4 < row["floor"] < 0.65
    assert 0.75 < row["ceiling"] < 0.95
