"""`coqui-scl export`: runs as a stock Coqui without the package speaks them, and what is refused."""

import json
import platform
import resource
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import stock_coqui
import torch
from command_driver import Outcome, run_here, slow_imports_of
from tiny_vits import SIZES
from trainer import Trainer, TrainerArgs
from trainer.io import save_model
from TTS.config.shared_configs import BaseAudioConfig
from TTS.tts.configs.shared_configs import BaseDatasetConfig
from TTS.tts.configs.vits_config import VitsArgs, VitsConfig
from TTS.tts.models.vits import Vits

from coqui_scl_plugin import SclVits, SclVitsConfig
from coqui_scl_plugin.coqui.run_folder import load_run
from coqui_scl_plugin.demo import corpus_files
from coqui_scl_plugin.demo.small_vits import SmallVits, small_args
from coqui_scl_plugin.monitoring.history import Row, write_history
from coqui_scl_plugin.utils.fingerprint import fingerprint

pytestmark = pytest.mark.usefixtures("one_thread")
VOICES = ["zoë", "ann|b", "cat"]
RATE = 16_000
TEXT = "so it is"
PRIVATE = "/home/somebody/private"
SCL = {"encoders": [{"name": "ge2e", "params": {"sha256": "ab12"}}], "holdout": [{"name": "dvector"}]}


@dataclass
class Made:
    """A run folder, and its model as it was saved."""

    folder: Path
    model: Vits
    speaker: str | None = None
    language: str | None = None

    def spoken(self) -> np.ndarray:
        torch.manual_seed(stock_coqui.SEED)
        return self.model.eval().synthesize(TEXT, speaker=self.speaker, language=self.language)["wav"]


def export(*arguments: str | Path, folder: Path) -> Outcome:
    return run_here(folder, "export", *arguments)


# --- runs -------------------------------------------------------------------------------------------------------------


def write_run(
    folder: Path, kind: type[Vits] = SclVits, *, args: dict[str, Any] | None = None, file="best_model.pth", **fields
) -> Made:
    """Write a run folder as Coqui's trainer leaves it, of a model that was not trained."""
    folder.mkdir(parents=True)
    stock = kind is Vits
    config = (VitsConfig if stock else SclVitsConfig)(
        model_args=VitsArgs(**(SIZES | (args or {}))),
        audio=BaseAudioConfig(sample_rate=RATE),
        text_cleaner="basic_cleaners",
        output_path=PRIVATE,
        logger_uri=f"s3://{PRIVATE}",
        test_sentences=["a private sentence"],
        **{"datasets": [BaseDatasetConfig(path=PRIVATE, language="en", formatter="coqui")], **fields},
    )
    if not stock:
        config.from_dict({"scl": SCL})
    torch.manual_seed(1)
    model = kind(config)
    model.config.save_json(str(folder / "config.json"))
    save_model(config, model, str(folder / file), current_step=7, epoch=1)
    return Made(folder, model)


def edit_config(folder: Path, **changes: Any) -> None:
    """Change keys of a run's config, `model_args__KEY` within `model_args`."""
    file = folder / "config.json"
    content = json.loads(file.read_text())
    for key, value in changes.items():
        section = content["model_args"] if key.startswith("model_args__") else content
        section[key.removeprefix("model_args__")] = value
    file.write_text(json.dumps(content))


def trained(folder: Path) -> Made:
    """Train two steps by Coqui's trainer, with a loss and an encoder that have weights, and a frozen module."""
    samples = [dict(sample) for sample in corpus_files.load_samples(corpus_files.BUNDLED)[::7][:6]]
    config = SclVitsConfig(
        model_args=VitsArgs(**SIZES), audio=BaseAudioConfig(sample_rate=RATE), text_cleaner="basic_cleaners",
        datasets=[corpus_files.dataset_config(corpus_files.BUNDLED)],
        speakers=sorted({sample["speaker_name"] for sample in samples}), output_path=str(folder), batch_size=2,
        eval_batch_size=2, num_loader_workers=0, num_eval_loader_workers=0, epochs=1, run_eval=False, save_step=1,
        test_delay_epochs=9, print_step=9, plot_step=99, save_best_after=99,
    )  # fmt: skip
    section = {
        "loss": {"name": "angular_margin"}, "encoders": [{"name": "ge2e", "policy": "trainable"}],
        "gradient_share": 0.5, "window": {"seconds": 0.0},
        "freeze": {"modules": [{"pattern": "text_encoder"}]}, "preflight": {"skip": ["speakers"]},
    }  # fmt: skip
    config.from_dict({"scl": section})
    torch.manual_seed(2)
    trainer = Trainer(
        TrainerArgs(), config, str(folder), model=SclVits(config), train_samples=samples[:4],
        eval_samples=samples[4:], parse_command_line_args=False,
    )  # fmt: skip
    trainer.fit()
    return Made(Path(trainer.output_path), trainer.model, config.speakers[-1])


def with_d_vectors(folder: Path) -> Made:
    vectors = {
        f"{PRIVATE}/{name}/{take}": {"name": name, "embedding": torch.randn(12, generator=torch.Generator()).tolist()}
        for name in VOICES
        for take in range(3)
    }
    file = folder.with_name("d_vectors.json")
    file.write_text(json.dumps(vectors))
    args = {"use_speaker_embedding": False, "use_d_vector_file": True, "d_vector_dim": 12, "d_vector_file": str(file)}
    made = write_run(folder, args=args)
    made.speaker = VOICES[1]
    return made


@pytest.fixture(scope="module")
def runs(tmp_path_factory, one_thread) -> dict[str, Made]:
    folder = tmp_path_factory.mktemp("runs")
    ids = folder / "languages.json"
    ids.write_text(json.dumps({"sv": 1, "en": 0}))
    two_languages = {"use_language_embedding": True, "language_ids_file": str(ids), "use_sdp": True}
    stock_loss = {"use_speaker_encoder_as_loss": True} | {
        f"speaker_encoder_{what}_path": f"{PRIVATE}/encoder" for what in ("model", "config")
    }
    made = {
        "trained": trained(folder / "trained"),
        "alone": write_run(folder / "alone", args={"use_speaker_embedding": False}),
        "languages": write_run(folder / "languages", args=two_languages, speakers=VOICES),
        "d_vectors": with_d_vectors(folder / "d_vectors"),
        "demo": write_run(folder / "demo", SmallVits, args=small_args().to_dict(), file="model.pth", speakers=VOICES),
        "stock": write_run(folder / "stock", Vits, file="checkpoint_7.pth", speakers=VOICES),
    }
    edit_config(made["stock"].folder, **{f"model_args__{key}": value for key, value in stock_loss.items()})
    ids.rename(made["languages"].folder / "gone.json")
    made["languages"].language = "sv"
    if shutil.which("espeak-ng"):
        datasets = [BaseDatasetConfig(path=PRIVATE, language=one, phonemizer="espeak") for one in ("en-us", "de")]
        phonemes = {"use_phonemes": True, "phonemizer": "multi_phonemizer", "datasets": datasets}
        made["phonemes"] = write_run(folder / "phonemes", speakers=VOICES, **phonemes)
        made["phonemes"].language = "de"
    for name in made.keys() - {"trained", "alone", "d_vectors"}:
        made[name].speaker = VOICES[2]
    return made


OPTIONS = {
    "trained": ["--discriminator"],
    "languages": ["--onnx", "--coqpit.model_args.language_ids_file", "gone"],
    "d_vectors": ["--onnx"],
}


@pytest.fixture(scope="module")
def exported(runs, tmp_path_factory) -> dict[str, Path]:
    """Return the exports of all runs, moved away from where they were made."""
    work, moved = tmp_path_factory.mktemp("exports"), tmp_path_factory.mktemp("moved")
    for name, made in runs.items():
        options = [str(made.folder / "gone.json") if option == "gone" else option for option in OPTIONS.get(name, [])]
        outcome = export(made.folder, name, *options, folder=work)
        assert outcome.status == 0, outcome.err + outcome.out
        assert "bit by bit" in outcome.out
        (work / name).rename(moved / name)
    assert list(work.iterdir()) == []
    return {name: moved / name for name in runs}


@pytest.fixture(scope="module")
def spoken(runs, exported, tmp_path_factory) -> dict[str, dict[str, Any]]:
    """Return what a Coqui without the package made of the exports, by way and name, in one process."""
    work = tmp_path_factory.mktemp("spoken")

    def job(way: str, name: str, out: str) -> dict[str, Any]:
        made = runs[name]
        own = {"speaker": made.speaker, "language": made.language, "text": TEXT}
        return {"way": way, "name": name, "folder": str(exported[name]), "out": str(work / out), **own}

    jobs = [job("api", name, f"{name}.npy") for name in exported]
    jobs += [job("onnx", "languages", ""), job("onnx", "d_vectors", "")]
    jobs += [job("tts", "trained", "tts.wav"), job("server", "trained", "server.wav")]
    (work / "jobs.json").write_text(json.dumps(jobs))
    command = [sys.executable, "-P", stock_coqui.__file__, work / "jobs.json", work / "results.json"]
    process = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=300, check=False)
    assert process.returncode == 0, process.stderr[-3000:]
    results = json.loads((work / "results.json").read_text())
    return {f"{job['way']} {job['name']}": {**job, **own} for job, own in zip(jobs, results, strict=True)}


# --- what a stock Coqui makes of them ---------------------------------------------------------------------------------


def test_a_coqui_without_the_package_speaks_the_same_samples(runs, spoken):
    for name, made in runs.items():
        found = spoken[f"api {name}"]
        ours, theirs = made.spoken(), np.load(found["out"])
        theirs = theirs[: len(theirs) - 10_000]  # silence that Synthesizer appends, after it cut silence off
        assert len(theirs) > 0.5 * len(ours)
        assert np.array_equal(theirs, ours[: len(theirs)]), name
        assert (found["class"], found["speaker_encoder"]) == ("TTS.tts.models.vits", None)
        assert found["has_discriminator"] is (name == "trained")


def test_speakers_and_languages_are_those_of_the_run(spoken):
    assert spoken["api languages"]["speakers"] == spoken["api demo"]["speakers"] == VOICES
    assert sorted(spoken["api d_vectors"]["speakers"]) == sorted(VOICES)
    assert spoken["api alone"]["speakers"] is None
    assert spoken["api languages"]["languages"] == ["en", "sv"]
    assert spoken["api alone"]["languages"] is None


def test_tts_and_tts_server_speak(spoken):
    samples, rate = soundfile.read(spoken["tts trained"]["out"])
    assert rate == RATE
    assert np.abs(samples).max() > 0.01
    assert spoken["server trained"]["same"]


@pytest.mark.parametrize("name", ["languages", "d_vectors"])
def test_onnxruntime_speaks_the_same_by_coquis_own_functions(spoken, name):
    found = spoken[f"onnx {name}"]
    assert found["lengths"][0] == found["lengths"][1]
    assert found["difference"] < 1e-4


# --- what is in the folders -------------------------------------------------------------------------------------------


def test_it_has_the_weights_alone(runs, exported):
    state = torch.load(exported["trained"] / "model.pth", weights_only=True)
    assert set(state) == {"model", "step", "epoch"}
    assert state["step"] == 1  # Coqui counts from 0
    ours = runs["trained"].model.state_dict()
    expected = {key for key in ours if not key.startswith("speaker_encoder_loss.")}
    left_out = set(ours) - expected
    assert {key.split(".")[1] for key in left_out} == {"encoders", "gradient_share"}  # of the loss
    assert set(state["model"]) == expected
    assert any(key.startswith("disc.") for key in expected)
    assert all(torch.equal(value, ours[key]) for key, value in state["model"].items())
    others = torch.load(exported["demo"] / "model.pth", weights_only=True)["model"]
    assert not any(key.startswith("disc.") or "speaker_encoder" in key for key in others)


def test_the_config_is_stock_and_of_no_machine(exported):
    for folder in exported.values():
        config = json.loads((folder / "config.json").read_text())
        assert config["model"] == "vits"
        assert set(config) <= set(VitsConfig().to_dict())
        assert set(config["model_args"]) <= set(VitsArgs().to_dict())
        for file in folder.iterdir():
            content = file.read_bytes()
            for private in (PRIVATE, str(folder.parents[1]), "private sentence", "runs0"):
                assert private.encode() not in content, (file, private)
        assert not any(key == "scl" or "cache" in key for key in config)


def test_files_of_speakers_and_languages_lie_beside_it(exported):
    ids = {name: index for index, name in enumerate(VOICES)}
    assert json.loads((exported["languages"] / "speaker_ids.json").read_text()) == ids
    assert json.loads((exported["languages"] / "language_ids.json").read_text()) == {"en": 0, "sv": 1}
    vectors = json.loads((exported["d_vectors"] / "d_vectors.json").read_text())
    assert {key: len(entry["embedding"]) for key, entry in vectors.items()} == dict.fromkeys(VOICES, 12)
    assert {file.name for file in exported["alone"].iterdir()} == {"README.md", "config.json", "model.pth"}


def test_the_card_says_what_was_trained_and_what_was_not_measured(exported):
    card = (exported["trained"] / "README.md").read_text()
    for part in (
        "`angular_margin`",
        "gradient_share 0.5",
        "| ge2e | training | ge2e | trainable |",
        "`text_encoder`: frozen",
        "step 1",
        "Licence",
    ):
        assert part in card
    assert "No encoder was held out." in card
    assert "Not measured during training." in card
    assert "Not measured by `coqui-scl evaluate`" in card
    card = (exported["languages"] / "README.md").read_text()
    for part in ("| dvector | held out |", "ab12", "not recorded", "zoë, ann\\|b, cat", "en, sv", "`model.onnx`"):
        assert part in card
    assert "Coqui's own" in (exported["stock"] / "README.md").read_text()


def test_the_card_says_nothing_that_is_not_known(runs, exported, tmp_path):
    stock = (exported["stock"] / "README.md").read_text()
    assert ("trained with" in stock, "exported by `coqui-scl-plugin`" in stock) == (False, True)
    shutil.copytree(runs["stock"].folder, tmp_path / "run")
    flags = {"freeze_encoder": True, "use_speaker_encoder_as_loss": False}
    edit_config(tmp_path / "run", **{f"model_args__{key}": value for key, value in flags.items()}, languages=[])
    edit_config(tmp_path / "run", datasets=[{"path": PRIVATE, "formatter": "coqui"}])
    assert export("run", "out", folder=tmp_path).status == 0
    card = (tmp_path / "out" / "README.md").read_text()
    for part in ("No speaker consistency loss took part", "- `text_encoder`: frozen", "| en (assumed by Coqui"):
        assert part in card
    assert ("All modules trained alike" in card, "emb_l" in card) == (False, False)
    assert export("out", "again", folder=tmp_path).status == 0
    card = (tmp_path / "again" / "README.md").read_text()
    assert "does not say how the model was trained" in card
    for part in ("took part in training", "trained alike", "Not measured"):
        assert part not in card


def test_the_card_has_the_results_of_this_model(runs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs["demo"].folder, run)
    rows = [Row(step, 0, {"ge2e": step / 10}, {"dvector": 0.1}, flags="odd" * (step == 7)) for step in (1, 4, 7, 9)]
    write_history(run, rows)
    scores = {"role": "holdout", "eer": 12.5, "secs": {"mean": 0.5, "low": 0.4, "high": 0.6}}
    scores |= {"cross_utterance": {"mean": 0.3, "low": None, "high": None}, "calibrated_cross_utterance": None}
    result = {
        "label": "x", "encoders": {"dvector": scores}, "recordings": {"synthetic": [{}] * 4},
        "warnings": ["listen", f"{PRIVATE}/a.wav is left out"],
    }  # fmt: skip
    own = fingerprint(load_run(run, None, []).model)
    for name, print_of in (("mine", own), ("other", "0")):
        source = {"source": {"synthesis": name, "model_fingerprint": print_of}}
        (run / name).mkdir()
        (run / name / "results.json").write_text(json.dumps(result | source))
    (run / "results.json").write_text("{}")
    assert export(run, "out", folder=tmp_path).status == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| ge2e | training | 0.100 | 0.700 |" in card  # of step 7, at which this checkpoint was saved
    assert "Flagged at step 7: odd" in card
    assert "| dvector | holdout | 0.500 (0.400 to 0.600) | 0.300 | – | 12.5 % |" in card
    assert "synthesis: mine; 4 recordings" in card
    assert "synthesis: other" not in card
    assert "listen" in card
    assert PRIVATE not in card


# --- the command ------------------------------------------------------------------------------------------------------


def test_help_is_fast_and_json_names_the_files(runs, tmp_path):
    imported, shown = slow_imports_of("export", "-h")
    assert imported == set()
    assert "--discriminator" in shown
    outcome = export(runs["alone"].folder, "out", "--json", folder=tmp_path)
    assert outcome.err == ""
    assert outcome.report["checkpoint"] == "best_model.pth"
    assert outcome.report["step"] == 7
    assert sorted(outcome.report["files"]) == sorted(file.name for file in (tmp_path / "out").iterdir())


def test_force_replaces_a_former_export_and_nothing_else(runs, tmp_path):
    run = runs["alone"].folder
    assert export(run, "out", folder=tmp_path).status == 0
    export(run, "out", folder=tmp_path).assert_refused(["out exists", "--force"])
    (tmp_path / "out" / "notes.txt").write_text("")
    export(run, "out", "--force", folder=tmp_path).assert_refused(["former export only", "also has notes.txt"])
    (tmp_path / "out" / "notes.txt").unlink()
    assert export(run, "out", "--force", folder=tmp_path).status == 0
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"README.md", "config.json", "model.pth"}
    (tmp_path / "home" / "sub").mkdir(parents=True)
    export(run, "home", "--force", folder=tmp_path).assert_refused(["home", "former export only", "model.pth"])
    (tmp_path / "empty").mkdir()
    assert export(run, "empty", folder=tmp_path).status == 0


def test_a_card_that_was_completed_is_kept(runs, tmp_path):
    run, card = runs["alone"].folder, tmp_path / "out" / "README.md"
    assert export(run, "out", folder=tmp_path).status == 0
    completed = card.read_text() + "Licence: CC0, for everybody.\n"
    card.write_text(completed)
    outcome = export(run, "out", "--force", folder=tmp_path)
    assert "README.former.md is the card that you had completed" in outcome.out
    assert (card.with_name("README.former.md").read_text(), "CC0" in card.read_text()) == (completed, False)
    export(run, "out", "--force", folder=tmp_path).assert_refused(["also has README.former.md"])


def test_what_a_killed_export_left_is_removed_and_a_former_one_is_put_back(runs, tmp_path):
    run, dead = runs["alone"].folder, f"999999999@{platform.node()}"
    (tmp_path / f".out[1].{dead}.partial").mkdir()
    (tmp_path / f".out[1].{dead}.partial" / "model.pth").touch()
    (tmp_path / f".out[1].{dead}.former").mkdir()  # killed as the new folder was to take its place
    (tmp_path / f".out[1].{dead}.former" / "model.pth").touch()
    (tmp_path / f".other.{dead}.partial").mkdir()
    export(run, "out[1]", folder=tmp_path).assert_one_message(["out[1] exists"])
    assert {file.name for file in tmp_path.iterdir()} == {"out[1]", f".other.{dead}.partial"}
    assert [file.name for file in (tmp_path / "out[1]").iterdir()] == ["model.pth"]


def test_the_command_that_it_prints_can_be_pasted(tmp_path):
    made = write_run(tmp_path / "run", speakers=["ann o'hara", "zoë"])
    outcome = export(made.folder, "my voice", folder=tmp_path)
    (line,) = (line for line in outcome.out.splitlines() if line.startswith("tts "))
    files = [str(tmp_path / "my voice" / name) for name in ("model.pth", "config.json")]
    expected = ["tts", "--model_path", files[0], "--config_path", files[1], "--speaker_idx", "ann o'hara"]
    assert shlex.split(line)[:7] == expected


def test_onnx_is_refused_where_it_would_speak_differently(runs, tmp_path, monkeypatch):
    faithful = Vits.inference_onnx
    monkeypatch.setattr(Vits, "inference_onnx", lambda *args, **kwargs: 1.01 * faithful(*args, **kwargs))
    outcome = export(runs["alone"].folder, "out", "--onnx", folder=tmp_path)
    outcome.assert_one_message(["--onnx", "differ by 0.01"])
    assert (outcome.status, outcome.changed) == (1, [])


def test_a_model_that_would_speak_differently_is_not_exported(runs, tmp_path, monkeypatch):
    def loaded(self: Vits, *args: Any, **kwargs: Any) -> None:
        faithful(self, *args, **kwargs)
        self.inference_noise_scale = 0.6

    faithful = Vits.load_checkpoint
    monkeypatch.setattr(Vits, "load_checkpoint", loaded)
    outcome = export(runs["alone"].folder, "out", folder=tmp_path)
    outcome.assert_one_message(["does not speak as the run's does"])
    assert (outcome.status, outcome.changed) == (1, [])


def damaged(run: Path) -> None:
    content = bytearray((run / "best_model.pth").read_bytes())
    content[len(content) // 2] ^= 255
    (run / "best_model.pth").write_bytes(content)


def cut(run: Path) -> None:
    content = (run / "best_model.pth").read_bytes()
    (run / "best_model.pth").write_bytes(content[: len(content) // 2])


def not_finite(run: Path) -> None:
    state = torch.load(run / "best_model.pth", weights_only=True)
    next(iter(state["model"].values())).view(-1)[0] = float("nan")
    torch.save(state, run / "best_model.pth")


def of_their_own(run: Path) -> None:
    edit_config(run, characters={**json.loads((run / "config.json").read_text())["characters"]})
    text = (run / "config.json").read_text()
    (run / "config.json").write_text(text.replace("TTS.tts.models.vits.VitsCharacters", "stock_coqui.Characters"))


REFUSED = {
    "no run": (lambda run: shutil.rmtree(run), [], ["no such run folder"]),
    "no config": (lambda run: (run / "config.json").unlink(), [], ["config.json", "no such file"]),
    "no checkpoint": (lambda run: (run / "best_model.pth").unlink(), [], ["neither best_model.pth nor"]),
    "other checkpoint": (lambda run: None, ["--checkpoint", "gone.pth"], ["gone.pth", "not a readable checkpoint"]),
    "damaged": (damaged, [], ["best_model.pth is damaged", "checksum", "--checkpoint FILE"]),
    "cut": (cut, [], ["best_model.pth", "not a readable checkpoint"]),
    "empty": (lambda run: (run / "best_model.pth").write_bytes(b""), [], ["it is an empty file", "--checkpoint FILE"]),
    "cut, with others": (
        lambda run: (shutil.copy(run / "best_model.pth", run / "checkpoint_6.pth"), cut(run)),
        [],
        ["best_model.pth is not a readable checkpoint", "--checkpoint run/checkpoint_6.pth"],
    ),
    "no weights": (
        lambda run: None,
        ["--checkpoint", "run/config.json"],
        ["it is a text file", "--checkpoint run/best_model.pth"],
    ),
    "link to itself": (
        lambda run: (shutil.rmtree(run), run.symlink_to("run")),
        [],
        ["no such run folder"],
    ),
    "not finite": (not_finite, [], ["1 of", "are not finite", "--checkpoint"]),
    "edited": (lambda run: edit_config(run, model_args__hidden_channels=48), [], ["does not fit the config"]),
    "impossible": (lambda run: edit_config(run, model_args__hidden_channels=-1), [], ["config.json", "cannot build"]),
    "no speakers": (
        lambda run: edit_config(
            run, speakers=[], model_args__use_speaker_embedding=True, model_args__speakers_file=f"{PRIVATE}/gone.pth"
        ),
        [],
        ["model_args.speakers_file", "gone.pth", "--coqpit.model_args.speakers_file FILE"],
    ),
    "no d-vectors": (
        lambda run: edit_config(run, model_args__use_d_vector_file=True, model_args__d_vector_file=["gone.json"]),
        [],
        ["model_args.d_vector_file", "gone.json"],
    ),
    "unknown option": (lambda run: None, ["--nosuch", "1"], ["--nosuch"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_exported_is_one_message(runs, tmp_path, name):
    spoil, options, parts = REFUSED[name]
    shutil.copytree(runs["alone"].folder, tmp_path / "run")
    spoil(tmp_path / "run")
    export("run", "out", *options, folder=tmp_path).assert_refused(parts)


@pytest.mark.parametrize(
    ("out", "parts"),
    [
        ("run", ["outside of the run folder"]),
        ("run/out", ["outside of the run folder"]),
        (".", ["outside of the run folder"]),
        ("file", ["this is a file"]),
        ("file/out", ["file/out", "cannot be written", "Not a directory"]),
        ("loop", ["loop", "cannot be written"]),
        ("x" * 300, ["cannot be written", "File name too long"]),
    ],
)
def test_a_folder_that_cannot_be_made_is_one_message(runs, tmp_path, out, parts):
    shutil.copytree(runs["alone"].folder, tmp_path / "run")
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    export("run", out, "--force", folder=tmp_path).assert_refused(parts)


def test_a_discriminator_that_is_not_stocks_is_refused(runs, tmp_path):
    outcome = export(runs["demo"].folder, "out", "--discriminator", folder=tmp_path)
    outcome.assert_refused(["--discriminator", "not that of a stock model"])


def test_onnx_without_onnxruntime_is_refused_at_once(runs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    outcome = export(runs["alone"].folder, "out", "--onnx", folder=tmp_path)
    outcome.assert_refused(["--onnx", 'pip install "coqui-scl-plugin[onnx]"'])


def test_a_full_disk_leaves_the_former_export(runs, tmp_path):
    run = runs["alone"].folder
    assert export(run, "out", folder=tmp_path).status == 0
    before = (tmp_path / "out" / "model.pth").stat()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # writing more fails, as on a full disk
    try:
        outcome = export(run, "out", "--force", folder=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    outcome.assert_refused(["out: cannot be written: File too large."])
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "model.pth").stat().st_mtime_ns == before.st_mtime_ns
