"""`coqui-scl preflight` names and explains each defect as it occurs in the wild, and is silent on a sound config."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from command_driver import Command, Outcome, changes_in, run_commands
from coqui_encoder_files import CoquiFiles
from tiny_vits import dataset, run_config

from coqui_scl_plugin import SclVitsConfig
from coqui_scl_plugin.coqui import train_tts
from coqui_scl_plugin.demo import corpus_files
from coqui_scl_plugin.preflight.checks import IDS

# as a case's own folder, CASES/NAME, sees them
SPEECH, CHECKPOINTS, ENCODERS = (Path("../..") / name for name in ("speech", "checkpoints", "encoders"))
KINDS = ("lstm", "resnet", "lstm-audio-processor", "resnet-audio-processor")
COQUI = {kind: CoquiFiles(ENCODERS / f"{kind}.pth", ENCODERS / f"{kind}.json") for kind in KINDS}

Words = tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """Changes of a sound config, and the checks that then do not pass: their status, and words of their findings."""

    config: Mapping[str, Any] = field(default_factory=dict)
    expected: Mapping[str, tuple[str, Words]] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()


def failed(*words: str) -> tuple[str, Words]:
    return "failed", words


def warned(*words: str) -> tuple[str, Words]:
    return "warning", words


def scl(*encoders: str, **more: Any) -> dict[str, Any]:
    return {"scl": {"encoders": [{"name": name} for name in encoders or ("sound",)], **more}}


def data(table: str = "metadata.csv", **more: Any) -> dict[str, Any]:
    return {"datasets": [dataset(SPEECH, table, **more)]}


def frozen(*modules: str, **more: Any) -> dict[str, Any]:
    return scl(freeze={"modules": [{"pattern": module, **more} for module in modules]})


def with_d_vectors(name: str, table: str = "metadata.csv", **more: Any) -> dict[str, Any]:
    return data(table, **more) | {
        "args": {
            "use_d_vector_file": True,
            "use_speaker_embedding": False,
            "d_vector_file": [str(SPEECH / f"{name}.json")],
            "d_vector_dim": 8,
        }
    }


NO_GRADIENT = failed("No gradient reaches the generated waveform", "differentiable", "no torch.no_grad")
MARGIN = {"name": "angular_margin"}
WEIGHTED = {"use_weighted_sampler": True, "weighted_sampler_attrs": {"speaker_name": 1.0}}
STOCK = {"model": "vits"}
ALL_BUT_EMBEDDING = ("text_encoder", "posterior_encoder", "flow", "duration_predictor", "waveform_decoder")
SPEAKS_LATER = {"freeze": {"modules": [{"pattern": "waveform_decoder", "until_step": 50}]}}
SENTENCE = "a short text"

SILENT = {
    "sound": Case(),
    "sound, with batch normalisation": Case(scl("batch_norm")),
    **{
        f"sound, with Coqui's {kind}": Case({"scl": {"encoders": [{"name": "coqui", "params": COQUI[kind].params()}]}})
        for kind in KINDS
    },
    "sound, restored": Case(arguments=("--restore_path", str(CHECKPOINTS / "whole.pth"))),
    "sound, with d-vectors": Case(with_d_vectors("d_vectors")),
    "sound, with angular_margin": Case(scl(loss=MARGIN)),
    "sound, with centroids of many speakers": Case(
        data("many.csv") | scl(loss={"name": "angular_margin", "params": {"prototypes": "centroid"}})
    ),
    "sound, with recordings of another table to evaluate with": Case(data(meta_file_val="apart.csv")),
    "sound, with another encoder held out": Case(scl("ge2e", holdout=[{"name": "dvector"}])),
    "sound, with speech of another utterance": Case(data("many.csv") | scl(reference={"source": "cross_utterance"})),
    "sound, lopsided but sampled by speaker": Case(
        data("lopsided.csv")
        | scl(loss=MARGIN)
        | {
            "use_weighted_sampler": True,
            "weighted_sampler_attrs": {"speaker_name": 1.0},
            "eval_split_size": 8,
            "batch_size": 6,
        }
    ),
    "sound, a multiplier for a speaker": Case(
        data("many.csv", meta_file_val="metadata.csv")
        | WEIGHTED
        | {"weighted_sampler_multipliers": {"speaker_name": {"speaker 11": 2.0}}, "run_eval": False}
    ),
    "sound, short recordings left out": Case(data("short.csv") | {"min_audio_len": 8_000}),
    "sound, the first recordings left out": Case({"max_audio_len": 17_000}),
    "sound, test sentences of known speakers": Case({"test_sentences": [[SENTENCE, "a"]], "test_delay_epochs": 0}),
    "sound, without the loss": Case(scl(enabled=False, weight=0.0)),
    "sound, stock without the loss": Case(STOCK),
    "sound, the speaker embedding alone": Case(frozen(*ALL_BUT_EMBEDDING)),
    "sound, without the posterior encoder": Case(scl(segment={"detach_posterior": True})),
    "sound, a member drawn at each step": Case(
        scl("sound", "batch_norm", loss={"name": "ensemble", "params": {"combine": "random", "calibrate": False}})
    ),
    "sound, d-vectors and a decoder that trains in part": Case(
        with_d_vectors("d_vectors") | frozen("waveform_decoder.ups")
    ),
    "sound, d-vectors and a decoder that trains once the loss begins": Case(
        with_d_vectors("d_vectors") | scl(start_step=50, **SPEAKS_LATER)
    ),
    "sound, frozen in part": Case(scl(freeze={"modules": [{"pattern": "text_encoder", "until_step": 9}]})),
}

DEFECTS = {
    # the gradient
    "stock's LSTM forward": Case(
        {"scl": {"encoders": [{"name": "stock_lstm", "params": COQUI["lstm"].params()}]}},
        {"gradient": failed("'stock_lstm'", *NO_GRADIENT[1])},
    ),
    "an encoder in no_grad": Case(scl("no_grad"), {"gradient": failed("'no_grad'", *NO_GRADIENT[1])}),
    "an encoder through numpy": Case(scl("like_onnx"), {"gradient": failed("'like_onnx'", *NO_GRADIENT[1], "ONNX")}),
    "an encoder through numpy without detach": Case(
        scl("like_onnx_without_detach"),
        {"gradient": failed("'like_onnx_without_detach'", "carries a gradient", "numpy()", "ONNX")},
    ),
    "an encoder that hears nothing": Case(scl("constant"), {"gradient": failed("'constant'", "is 0")}),
    "a root of silence": Case(
        scl("root_at_zero"), {"gradient": failed("half-silent", "'root_at_zero'", "not finite", "square root")}
    ),
    "a logarithm of silence": Case(
        scl("logarithm_of_zero"), {"gradient": failed("half-silent", "not finite", "logarithm")}
    ),
    "a noise gate": Case(scl("gate"), {"gradient": failed("quiet segment", "'gate'", "is 0")}),
    "the second of two encoders in no_grad": Case(
        scl("sound", "no_grad", loss={"name": "ensemble", "params": {"calibrate": False}}),
        {"gradient": failed("'no_grad'", *NO_GRADIENT[1])},
    ),
    # what it reaches
    "d-vectors and a frozen decoder": Case(
        with_d_vectors("d_vectors") | frozen("waveform_decoder"),
        {
            "reach": failed(
                "'posterior_encoder' alone",
                "text-to-speech never uses",
                "Let 'waveform_decoder' train",
                "use_speaker_embedding",
            )
        },
    ),
    "a frozen decoder and a frozen speaker embedding": Case(
        frozen("waveform_decoder", "emb_g"),
        {"reach": failed("'posterior_encoder' alone", "Let 'emb_g', 'waveform_decoder' train")},
    ),
    "d-vectors and a decoder that is frozen at first": Case(
        with_d_vectors("d_vectors") | scl(**SPEAKS_LATER),
        {
            "reach": warned(
                "Until step 50", "'posterior_encoder' alone", "reaches 'waveform_decoder'", "start_step to 50"
            )
        },
    ),
    # what moves
    "batch normalisation left in train mode": Case(
        scl("always_training"), {"eval-mode": failed("'always_training'", "train mode", "batch_norm", "eval mode")}
    ),
    "functional batch normalisation": Case(
        scl("functional_batch_norm"),
        {"eval-mode": failed("'functional_batch_norm'", "encoder.mean", "training=True")},
    ),
    "an encoder that fails": Case(
        scl("raises"),
        {
            "eval-mode": failed("'raises'", "expected [B, 1, T]"),
            "references": failed("expected [B, 1, T]"),
        },
    ),
    "an encoder that trains": Case(
        {"scl": {"encoders": [{"name": "batch_norm", "policy": "trainable"}]}},
        {"policies": warned("'batch_norm'", "TRAIN", '"policy": "frozen"')},
    ),
    "an encoder without weights": Case(
        scl("hidden_network"), {"policies": warned("'hidden_network'", "neither frozen nor watched", "nn.Module")}
    ),
    "an encoder for a higher rate": Case(scl("high_rate"), {"sample-rate": warned("24000 Hz", "16000 Hz", "8000 Hz")}),
    # the config against itself
    "stock's loss": Case(
        STOCK | {"args": COQUI["lstm"].stock_loss()},
        {"stock-loss": warned("LSTM", "no gradient reaches", '"model": "scl_vits"')},
    ),
    "stock's loss with a ResNet": Case(
        STOCK | {"args": COQUI["resnet"].stock_loss()},
        {"stock-loss": warned("stock trains the speaker encoder along", '"model": "scl_vits"')},
    ),
    "stock's alpha with the loss off": Case(
        STOCK | {"speaker_encoder_loss_alpha": 5.0},
        {"weight": failed("speaker_encoder_loss_alpha = 5", "is off", "use_speaker_encoder_as_loss")},
    ),
    "a weight with the section off": Case(
        scl(enabled=False, weight=4.0), {"weight": failed("scl.weight = 4", "scl.enabled = false", "to true")}
    ),
    "stock's alpha beside the section": Case(
        {"speaker_encoder_loss_alpha": 5.0}, {"weight": warned("speaker_encoder_loss_alpha = 5", "scl.weight = 9")}
    ),
    "the section off": Case(scl(enabled=False), {"weight": warned("scl.enabled = false", "scl.weight = 9", "to 0")}),
    "no weight": Case(scl(weight=0.0), {"weight": warned("scl.weight = 0", "teaches nothing")}),
    # held-out encoders
    "the same encoder held out": Case(
        scl("ge2e", holdout=[{"name": "ge2e", "alias": "judge"}]), {"holdout": failed("'ge2e' again", "another one")}
    ),
    "the same weights held out under another path": Case(
        {
            "scl": {
                "encoders": [{"name": "coqui", "params": COQUI["resnet"].params()}],
                "holdout": [
                    {
                        "name": "coqui",
                        "alias": "judge",
                        "params": COQUI["resnet"].params() | {"model_path": str(ENCODERS / "copy.pth")},
                    }
                ],
            }
        },
        {"holdout": failed("'judge'", "weights", "'coqui'", "another one")},
    ),
    "the same network held out in another class": Case(
        scl("ge2e", holdout=[{"name": "repackaged"}]), {"holdout": failed("'repackaged'", "'ge2e'", "another one")}
    ),
    "the same network held out that hears at another rate": Case(
        scl("ge2e", holdout=[{"name": "repackaged", "params": {"sample_rate": 24_000}}]),
        {
            "holdout": failed("'repackaged'", "'ge2e'", "mean cosine 0.9", "another one"),
            "sample-rate": warned("24000 Hz"),
        },
    ),
    # the data
    "d-vectors of other speakers": Case(
        with_d_vectors("d_vectors", "prefixed.csv"),
        {"d-vectors": failed("3 of 3 speakers", "Nearest to 'VCTK_a': 'a'", "dataset_name")},
    ),
    "d-vectors of other recordings": Case(
        with_d_vectors("d_vectors_other_keys"),
        {"d-vectors": failed("18 of 18 recordings", "Nearest to 'toy#a/0': 'a/0'", "coqui-scl embed")},
    ),
    "d-vectors of other recordings and speakers": Case(
        with_d_vectors("d_vectors_vctk", dataset_name="VCTK"),
        {
            "d-vectors": failed(
                "18 of 18 recordings", "Nearest to 'VCTK#a/0': 'VCTK_a/0'", "3 of 3 speakers", "'VCTK_a'"
            )
        },
    ),
    "d-vectors of another size": Case(
        with_d_vectors("d_vectors_other_size"), {"d-vectors": failed("d_vector_dim = 8", "16 numbers", "to 16")}
    ),
    "too few to evaluate with": Case(
        {"eval_split_size": 0.01}, {"evaluation-set": failed("eval_split_size = 0.01", "would be empty", "0.056")}
    ),
    "nothing to evaluate with": Case(
        data(meta_file_val="gone.csv"),
        {"metadata": failed("datasets.0.meta_file_val", "gone.csv", "None of the 2 recordings exists", "'gone/0.wav'")},
    ),
    "nothing that is long enough": Case(
        {"min_audio_len": 160_000},
        {"recordings": failed("None of the 15 samples to train on", "min_audio_len", "16000 to 17600 samples")},
    ),
    "nothing that is long enough to evaluate with": Case(
        data(meta_file_val="fifteen.csv") | {"min_audio_len": 8_000},
        {"evaluation-set": failed("None of the 2 samples", "min_audio_len")},
    ),
    "less than a batch to evaluate with": Case(
        {
            "use_weighted_sampler": True,
            "weighted_sampler_attrs": {"speaker_name": 1.0},
            "eval_batch_size": 8,
            "batch_size": 8,
        },
        {"evaluation-set": failed("3 samples", "one batch", "weighted sampler")},
    ),
    "a multiplier for a speaker that is not evaluated with": Case(
        data(meta_file_val="apart.csv") | WEIGHTED | {"weighted_sampler_multipliers": {"speaker_name": {"b": 2.0}}},
        {"evaluation-set": failed("weighted sampler fails", "b not in ['a']", "weighted_sampler_multipliers")},
    ),
    "recordings that are gone": Case(
        data("ljspeech_gone.csv", formatter="ljspeech") | {"args": {"use_speaker_embedding": False}},
        {"recordings": failed("1 of 1 recordings", "gone.wav", "does not exist")},
    ),
    "recordings to evaluate with that are gone": Case(
        data("ljspeech.csv", formatter="ljspeech", meta_file_val="ljspeech_gone.csv")
        | {"args": {"use_speaker_embedding": False}},
        {"recordings": failed("1 of 7 recordings", "gone.wav", "does not exist")},
    ),
    "a recording that is no audio": Case(
        data("broken.csv"), {"recordings": failed("broken/0.wav", "not readable audio")}
    ),
    "a recording that is no audio, without the loss": Case(
        data("broken.csv") | scl(enabled=False, weight=0.0),
        {"recordings": warned("broken/0.wav", "not readable audio")},
    ),
    "one speaker": Case(
        data("one_speaker.csv") | scl(loss=MARGIN), {"speakers": failed("at least 2 speakers", "has 1", "'cosine'")}
    ),
    "one item a batch": Case(
        scl(loss=MARGIN) | {"batch_size": 1}, {"speakers": failed("batch_size is 1", "Raise batch_size")}
    ),
    "99 of 100 recordings by one speaker": Case(
        data("lopsided.csv") | scl(loss=MARGIN),
        {"speakers": failed("by 'a'", "96% of the batches", "one speaker", "use_weighted_sampler")},
    ),
    "two of three recordings by one speaker": Case(
        data("two_of_three.csv") | scl(loss=MARGIN), {"speakers": warned("by 'a'", "21% of the batches")}
    ),
    "recordings of two rates": Case(
        data("two_rates.csv"),
        {"sample-rate": failed("16000", "1 of 19 recordings", "1 has 22050 Hz", "fast/0.wav", "TTS.bin.resample")},
    ),
    "short recordings": Case(
        data("short.csv"),
        {
            "segment-length": warned("short/0.wav", "min_audio_len = 4096"),
            "text-length": warned("1 text of 19 has more tokens", "'toy#short/0' has 25 tokens and 9 frames"),
        },
    ),
    "recordings shorter than the window": Case(
        scl(window={"seconds": 30}),
        {"segment-length": warned("shorter than scl.window.seconds = 30", "min_audio_len = 480000")},
    ),
    "a short window": Case(
        scl(window={"seconds": 0.05}), {"segment-length": failed("0.050 s", "Raise scl.window.seconds")}
    ),
    "one item for a loss of two speakers": Case(
        scl(loss=MARGIN, window={"seconds": 0.0, "items": 1}),
        {"speakers": failed("scl.window.items is 1", "Raise scl.window.items")},
    ),
    "a share of a mel loss that is off": Case(
        scl(gradient_share=0.1) | {"mel_loss_alpha": 0.0}, {"weight": failed("mel_loss_alpha = 0", "scl.weight")}
    ),
    "a loss that begins once something trains": Case(
        scl(
            start_step=3,
            freeze={
                "modules": [
                    {"pattern": name, "until_step": 2} for name in ("waveform_decoder", "posterior_encoder", "emb_g")
                ]
            },
        ),
        {},
    ),
    "a short slice": Case(
        {"args": {"spec_segment_size": 4}}, {"segment-length": failed("0.064 s", "spec_segment_size", "0.1 s")}
    ),
    "two data sets of one name": Case(
        {"datasets": [dataset(SPEECH), dataset(SPEECH.with_name("other"))]},
        {"recordings": failed("share the name 'toy#", "dataset_name")},
    ),
    "names of speakers with a space": Case(
        data("spaced.csv"), {"metadata": failed("3 names of speakers", "spaces or line ends", "'a '", "lines 2, 3, 4")}
    ),
    "test sentences of an unknown speaker": Case(
        {"test_sentences": [[SENTENCE, "a"], [SENTENCE, "A"]], "test_delay_epochs": 0},
        {"test-sentences": failed("1 of 2", "'A'", "test_sentences")},
    ),
    # what a run starts from
    "a checkpoint without discriminator": Case(
        {},
        {"discriminator": failed("generator.pth", "no discriminator weights", "full training checkpoint")},
        ("--restore_path", str(CHECKPOINTS / "generator.pth")),
    ),
    "a checkpoint of another model": Case(
        {},
        {"restored-weights": failed("other.pth", "random numbers", "model_args")},
        ("--restore_path", str(CHECKPOINTS / "other.pth")),
    ),
    # skipped
    "a check that is skipped": Case(
        scl("no_grad"), {"gradient": ("skipped", ("'no_grad'",))}, ("--skip", "gradient", "--skip", "holdout")
    ),
    "a check that the config skips": Case(
        scl("no_grad", preflight={"skip": ["gradient"]}), {"gradient": ("skipped", ("'no_grad'",))}
    ),
    "a check that is skipped beside another": Case(
        scl("no_grad", weight=4.0, enabled=True, preflight={"skip": ["gradient"]}) | {"batch_size": 1},
        {"gradient": ("skipped", ("'no_grad'",))},
        ("--skip=speakers",),
    ),
}
CASES = SILENT | DEFECTS

WRONG = {
    "an unknown check": (("--config_path", "config.json", "--skip", "gradent"), ("--skip", "'gradent'", "'gradient'")),
    "an unknown check in the config": (
        ("--config_path", "config.json", "--coqpit.scl.preflight.skip", "hold-out"),
        ("scl.preflight.skip", "'hold-out'", "'holdout'"),
    ),
    "no config": (("--config_path", "nosuch.json"), ("nosuch.json",)),
    "no checkpoint": (("--config_path", "config.json", "--restore_path", "nosuch.pth"), ("nosuch.pth",)),
    "an unknown option": (("--config_path", "config.json", "--frobnicate"), ("--frobnicate",)),
    "an unknown key": (("--config_path", "config.json", "--coqpit.scl.wieght", "1"), ("scl.wieght",)),
    "an unknown encoder": (("--config_path", "config.json", "--coqpit.scl.encoders.0.name", "ge2"), ("'ge2e'",)),
    "another model of Coqui's": (("--config_path", "glow.json"), ("glow_tts", "scl_vits")),
}

TRAINED = {
    "train": (Case(scl("no_grad")), (), ("No gradient reaches", "check 'gradient'", "--skip gradient")),
    "train what never speaks": (
        DEFECTS["d-vectors and a frozen decoder"],
        (),
        ("'posterior_encoder' alone", "check 'reach'", "--skip reach"),
    ),
    "train and skip": (
        Case(scl("no_grad", preflight={"skip": ["holdout"]})),
        ("--skip", "gradient", "--skip=weight", "--small_run=4"),
        None,
    ),
    "train and skip what there is not": (
        Case(scl("no_grad")),
        ("--skip", "gradeint"),
        ("--skip = 'gradeint'", "'gradient'"),
    ),
    "train and skip what a config names wrongly": (
        Case(scl("no_grad", preflight={"skip": ["gradeint"]})),
        (),
        ("scl.preflight.skip = 'gradeint'", "'gradient'"),
    ),
    "train another model and skip": (
        Case(STOCK),
        ("--skip", "gradient"),
        ("--skip gradient", "without any check"),
    ),
}


WITH_CONFIG = ("--config_path", "config.json")


@pytest.fixture(scope="module")
def root(speech_folder: Path, checkpoints: Path, coqui_files: dict[str, CoquiFiles]) -> Path:
    """Return an empty folder for the cases, beside the speech, the checkpoints and the encoders that they use."""
    encoders, root = speech_folder.parent / "encoders", speech_folder.parent / "cases"
    shutil.copytree(coqui_files["lstm"].model_path.parent, encoders)
    shutil.copy(encoders / "resnet.pth", encoders / "copy.pth")
    root.mkdir()
    return root


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(run_config(SPEECH, encoder="sound", **config)))


def commands(root: Path) -> dict[str, Command]:
    """Write what each command needs into a folder of its own; return the commands."""
    found = {}
    for number, (name, case) in enumerate(CASES.items()):
        write_config(root / str(number), case.config)
        found[name] = Command(root / str(number), ["preflight", *WITH_CONFIG, "--json", *case.arguments])
    for name, (arguments, _) in WRONG.items():
        write_config(root / name, {})
        (root / name / "glow.json").write_text(json.dumps({"model": "glow_tts", **data()}))
        found[name] = Command(root / name, ["preflight", *arguments])
    for name, (case, arguments, _) in TRAINED.items():
        write_config(root / name, case.config)
        found[name] = Command(root / name, ["train", *WITH_CONFIG, *arguments])
    bundled = {"datasets": [corpus_files.dataset_config(corpus_files.BUNDLED).to_dict()], "eval_split_size": 4}
    write_config(root / "bundled", {"scl": {}} | bundled)
    write_config(root / "human", DEFECTS["an encoder in no_grad"].config)
    write_config(root / "embedding", SILENT["sound, the speaker embedding alone"].config)
    return found | {
        "help": Command(root / "human", ["preflight", "-h"]),
        "bundled": Command(root / "bundled", ["preflight", *WITH_CONFIG]),
        "human": Command(root / "human", ["preflight", *WITH_CONFIG, "--skip=weight"]),
        "embedding": Command(root / "embedding", ["preflight", *WITH_CONFIG]),
    }


@pytest.fixture(scope="module")
def outcomes(root: Path, third_party: Path) -> dict[str, Outcome]:
    """Run all cases in one process; nothing that they share may change."""
    shared = [root.with_name(name) for name in ("speech", "encoders", "checkpoints")]
    with changes_in(*shared) as changed:
        outcomes = run_commands(commands(root), third_party)
    assert changed == []
    return outcomes


def not_passed(outcome: Outcome) -> dict[str, str]:
    """Return the status, by id, of the checks that were run and did not pass."""
    checks = outcome.report["checks"]
    return {check["id"]: check["status"] for check in checks if check["status"] not in ("passed", "not run")}


def check_of(outcome: Outcome, id_: str) -> dict[str, Any]:
    (found,) = [check for check in outcome.report["checks"] if check["id"] == id_]
    return dict(found)


@pytest.mark.parametrize("name", CASES)
def test_a_config_fails_those_checks_and_no_others(name: str, outcomes: dict[str, Outcome]) -> None:
    outcome, expected = outcomes[name], CASES[name].expected
    assert outcome.out.startswith("{"), outcome
    assert not_passed(outcome) == {id_: status for id_, (status, _) in expected.items()}, outcome.out[:4000]
    for id_, (status, words) in expected.items():
        findings = check_of(outcome, id_)["findings"]
        said = " ".join(f"{finding['found']} {finding['change']}" for finding in findings)
        assert [word for word in words if word not in said] == [], said
        assert all(finding["is_error"] for finding in findings) == (status != "warning")
    fails = any(status == "failed" for status, _ in expected.values())
    assert outcome.report["passed"] is not fails
    assert outcome.status == int(fails)
    assert outcome.changed == []


@pytest.mark.parametrize("name", SILENT)
def test_a_sound_config_passes_every_check(name: str, outcomes: dict[str, Outcome]) -> None:
    checks = outcomes[name].report["checks"]
    assert [check["id"] for check in checks] == list(IDS) or sorted(c["id"] for c in checks) == sorted(IDS)
    assert {check["status"] for check in checks} == {"passed"}
    assert not any(check["findings"] or check["why_not_run"] for check in checks)
    assert all(check["checks"].endswith(".") for check in checks)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_usage_is_status_2_and_one_message(name: str, outcomes: dict[str, Outcome]) -> None:
    outcome, words = outcomes[name], WRONG[name][1]
    outcome.assert_refused(words)
    assert outcome.out == ""


def test_a_check_is_not_run_without_what_it_needs(outcomes: dict[str, Outcome]) -> None:
    gradient = check_of(outcomes["d-vectors of another size"], "gradient")
    assert (gradient["status"], gradient["why_not_run"]) == ("not run", "It needs d-vectors.")


def test_the_table_shows_what_is_wrong_and_the_last_line_counts(outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes["human"]
    assert outcome.status == 1
    lines = outcome.out.splitlines()
    assert lines[-1] == f"{len(IDS)} checks: {len(IDS) - 2} passed, 1 failed, 1 not run."
    row = next(line for line in lines if "gradient" in line and "failed" in line)
    assert "No gradient reaches the generated waveform" in row
    assert "What trains and what is frozen" in outcome.out


REACHED = {
    "sound": {"posterior_encoder", "waveform_decoder", "emb_g"},
    "sound, without the posterior encoder": {"waveform_decoder", "emb_g"},
    "sound, the speaker embedding alone": {"emb_g"},
    "sound, a member drawn at each step": {"posterior_encoder", "waveform_decoder", "emb_g"},
    "sound, with d-vectors": {"posterior_encoder", "waveform_decoder"},
    "sound, without the loss": set(),
    "d-vectors and a frozen decoder": {"posterior_encoder"},
    "an encoder in no_grad": set(),
    "a check that is skipped": set(),
}


@pytest.mark.parametrize("name", REACHED)
def test_the_modules_that_the_gradient_reaches_are_listed(name: str, outcomes: dict[str, Outcome]) -> None:
    rows = {row["module"]: row for row in outcomes[name].report["reach"]}
    assert {module for module, row in rows.items() if row["gradient_norm"]} == REACHED[name]
    if not REACHED[name]:
        assert rows == {}
        return
    assert rows.keys() - {"emb_g"} == {*ALL_BUT_EMBEDDING}
    assert {module for module, row in rows.items() if not row["used_in_speech"]} == {"posterior_encoder"}
    for row in rows.values():
        assert (row["gradient_norm"] is None) == (row["trainable"] == 0)
        assert (row["reached"] > 0) == bool(row["gradient_norm"])


def test_a_gradient_that_does_not_arrive_is_not_followed(outcomes: dict[str, Outcome]) -> None:
    failing = check_of(outcomes["an encoder in no_grad"], "reach")
    assert (failing["status"], failing["why_not_run"]) == ("not run", "It needs gradient.")
    skipping = check_of(outcomes["a check that is skipped"], "reach")
    assert (skipping["status"], skipping["findings"]) == ("not run", [])
    assert "No gradient arrives" in skipping["why_not_run"]


def test_the_table_shows_what_the_gradient_reaches(outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes["embedding"]
    assert outcome.status == 0
    _, _, shown = outcome.out.partition("What the gradient of the speaker consistency loss reaches")
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in shown.splitlines() if "│" in line]
    by_module = {module: cells for module, *cells in rows}
    assert by_module.keys() == {*ALL_BUT_EMBEDDING, "emb_g"}
    assert by_module["posterior_encoder"] == ["-", "frozen", "no"]
    assert by_module["waveform_decoder"] == ["-", "frozen", "yes"]
    norm, *rest = by_module["emb_g"]
    assert float(norm) > 0.0
    assert rest == ["yes", "yes"]
    assert "What the gradient" not in outcomes["human"].out  # none arrives


def test_help_explains(outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes["help"]
    assert outcome.status == 0
    for word in ("--config_path", "--restore_path", "--skip", "--json", "--coqpit.KEY", "Writes nothing"):
        assert word in outcome.out


def test_a_sound_config_on_the_bundled_speech(outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes["bundled"]
    assert outcome.status == 0
    assert outcome.out.splitlines()[-1] == f"{len(IDS)} checks: {len(IDS)} passed."
    assert "what was found" not in outcome.out
    assert outcome.changed == []


@pytest.mark.parametrize("name", [name for name, (_, _, words) in TRAINED.items() if words])
def test_a_run_that_does_not_start(name: str, outcomes: dict[str, Outcome]) -> None:
    outcome, words = outcomes[name], TRAINED[name][2]
    assert outcome.status == (1 if name in ("train", "train what never speaks") else 2), outcome.err
    assert "Traceback" not in outcome.err
    assert [word for word in words or () if word not in outcome.err] == [], outcome.err
    assert [path for path in outcome.changed if path.startswith("runs/") and path.count("/") > 1] == []  # no run folder


def test_a_run_that_starts_since_a_check_is_skipped(root: Path, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes["train and skip"]
    assert outcome.status == 0, outcome.err
    (report,) = [root / "train and skip" / path for path in outcome.changed if path.endswith("preflight.json")]
    recorded = json.loads(report.read_text())
    assert recorded["skip"] == ["holdout", "gradient", "weight"]
    statuses = {check["id"]: check["status"] for check in recorded["checks"] if check["status"] != "passed"}
    assert statuses == {"gradient": "skipped", "reach": "not run"}
    assert recorded["reach"] == []
    (finding,) = next(c["findings"] for c in recorded["checks"] if c["id"] == "gradient")
    assert "No gradient reaches" in finding["found"]
    config = json.loads(report.with_name("config.json").read_text())
    assert config["scl"]["preflight"] == {"skip": ["holdout", "gradient", "weight"]}
    assert "skipped" in outcome.out


def test_a_run_that_goes_on_skips_what_it_skipped_and_more(
    tmp_path: Path, speech_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[str, tuple[str, ...], int]] = []

    class Begun:
        def __init__(self, args: Any, config: SclVitsConfig, output_path: str, *, model: Any, **more: Any) -> None:
            begun.append((args.continue_path, model.parts.skipped_checks, config.epochs))

        def train(self) -> None:
            pass

    monkeypatch.setattr(train_tts, "CommandTrainer", Begun)
    section = {"preflight": {"skip": ["holdout"]}}
    (tmp_path / "config.json").write_text(json.dumps(run_config(speech_folder, scl=section)))
    torch.save({"model": {}, "step": 1}, tmp_path / "checkpoint_1.pth")
    going_on = ["--continue_path", str(tmp_path)]
    train_tts.train([*going_on, "--skip", "weight", "--skip", "holdout", "--coqpit.epochs", "7"])
    train_tts.train(going_on)
    assert begun == [
        (str(tmp_path), ("holdout", "weight"), 7),
        (str(tmp_path), ("holdout",), 7),
    ]  # as Coqui keeps overrides
