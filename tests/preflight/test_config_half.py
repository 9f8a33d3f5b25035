"""Each defect in Coqui's half of a config is found by one check, which names its key, what came and what is allowed."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_vits import dataset, run_config

from coqui_scl_plugin import SclVits, SclVitsConfig
from coqui_scl_plugin.coqui.config_facts import coqui_tools
from coqui_scl_plugin.coqui.run_config import resolved_config
from coqui_scl_plugin.preflight import config_keys
from coqui_scl_plugin.preflight.checks import run_checks
from coqui_scl_plugin.preflight.config_values import is_lost as is_lost_key
from coqui_scl_plugin.preflight.coqui_tools import CoquiTools, Phonemizers
from coqui_scl_plugin.preflight.facts import ConfigFacts, DataFacts
from coqui_scl_plugin.preflight.report import PreflightReport, Result

TOOLS = coqui_tools()
Changes = Mapping[str, Any]


def results(stage: Any, facts: ConfigFacts, *done: str) -> dict[str, Result]:
    """Return the results of a stage that are not in order, as if the checks named by `done` had passed."""
    report = run_checks(stage, facts, (), PreflightReport([Result(id_, "", "passed") for id_ in done]))
    return {result.id: result for result in report.of("failed", "warning", "skipped")}


def config_facts(changes: Changes, *overrides: str, coqui: CoquiTools = TOOLS) -> ConfigFacts:
    data = run_config(Path("data"), **changes)
    return ConfigFacts(config=resolved_config(data, overrides), written=data, coqui=coqui)


def of_config(changes: Changes, *overrides: str, coqui: CoquiTools = TOOLS) -> dict[str, Result]:
    """Return what is found in a sound config with changes."""
    return results("config", config_facts(changes, *overrides, coqui=coqui), "ffmpeg", "versions")


def args(**changes: Any) -> Changes:
    return {"args": changes}


def audio(**changes: Any) -> Changes:
    return {"audio": {"sample_rate": 16_000, **changes}}


def phonemes(**changes: Any) -> Changes:
    sound = {"use_phonemes": True, "phonemizer": "espeak", "phoneme_language": "en-us", "phoneme_cache_path": "cache"}
    return sound | {"text_cleaner": "phoneme_cleaners"} | changes


SOUND: dict[str, Changes] = {
    "sound": {},
    "a number of which Coqui makes a whole one": {"batch_size": 8.0},
    "no limit": {"max_audio_len": math.inf, "max_text_len": math.inf},
    "no schedule": {"lr_scheduler_gen": None, "lr_scheduler_disc": None},
    "no clipping": {"grad_clip": None},
    "keys that Coqui once wrote": {"num_chars": 130, "github_branch": "* main", "restore_path": None, "num_speakers": 4}
    | args(num_speakers=4),
    "comments": {"_comment": "mine", "//": "mine"},
    "twins that agree": {"use_language_embedding": True, "speaker_embedding_channels": 16}
    | args(use_language_embedding=True)
    | {"datasets": [dataset(Path("data"), language="en")]},
    "twins as Coqui writes them": {"d_vector_dim": 0, "d_vector_file": None, "speakers_file": ""}
    | args(d_vector_dim=512, d_vector_file=["d.pth"], speakers_file="s.json", use_speaker_embedding=False),
    "twins at their default": {"use_speaker_embedding": False, "d_vector_dim": None, "speaker_embedding_channels": 256},
    "phonemes": phonemes(),
    "phonemes of a language under its former name": phonemes(phoneme_language="en"),
    "a phonemizer for each language": phonemes(phonemizer="multi_phonemizer")
    | {
        "datasets": [dataset(Path("data"), language="en-us", phonemizer="espeak"), dataset(Path("more"), language="de")]
    },
    "characters": {"characters": {"characters": "abc", "punctuations": "!", "blank": "#"}},
    "characters without a blank, of which none is added": {"characters": {"characters": "abc", "punctuations": "!"}}
    | {"add_blank": False},
    "the characters of VITS": {
        "characters": {
            "characters_class": "TTS.tts.models.vits.VitsCharacters",
            "pad": "_",
            "characters": "ab",
            "punctuations": "!",
        }
    },
    "a decoder for latents of another rate": audio(sample_rate=48_000) | args(encoder_sample_rate=16_000),
    "a decoder that brings latents to another rate": audio(sample_rate=32_000)
    | args(
        encoder_sample_rate=16_000,
        interpolate_z=False,
        upsample_rates_decoder=[8, 8, 4, 2],
        upsample_kernel_sizes_decoder=[16, 16, 8, 4],
    ),
    "no d-vectors without their switch": args(d_vector_file="absent.pth"),
    "RAdam and NoamLR": {
        "optimizer": "RAdam",
        "optimizer_params": {},
        "lr_scheduler_gen": "NoamLR",
        "lr_scheduler_gen_params": {"warmup_steps": 4},
    },
}

VITS_CHARACTERS = {"characters_class": "TTS.tts.models.vits.VitsCharacters", "characters": "ab"}

DEFECTS: dict[str, tuple[Changes, str, tuple[str, ...]]] = {
    # as users wrote them
    "a name of another case": ({"optimizer": "adamw"}, "values", ("optimizer = 'adamw'", "Did you mean 'AdamW'")),
    "a section of another case": ({"SCL": {"weight": 9}}, "keys", ("SCL", "Did you mean 'scl'")),
    "a schedule that fails at its first step": (
        {"lr_scheduler_gen": "CosineAnnealingLR", "lr_scheduler_gen_params": {"T_max": 0}},
        "values",
        ("lr_scheduler_gen = 'CosineAnnealingLR'", "T_max", "cannot be used"),
    ),
    "a schedule that needs a value": (
        {"lr_scheduler_disc": "ReduceLROnPlateau", "lr_scheduler_disc_params": {}},
        "values",
        ("lr_scheduler_disc = 'ReduceLROnPlateau'", "gives its steps no value", "ExponentialLR"),
    ),
    "a million layers": (args(num_layers_flow=10**6), "values", ("num_layers_flow = 1000000", "not be above 1000")),
    "no discriminator": (args(init_discriminator=False), "architecture", ("init_discriminator = false",)),
    "no blank": (
        {"characters": {"characters": "abc", "punctuations": "!"}},
        "text",
        ("add_blank = true", "has no blank", "or characters.blank to a symbol"),
    ),
    "no begin and end in the characters of VITS": (
        {"characters": VITS_CHARACTERS | {"punctuations": "!", "pad": "_"}, "enable_eos_bos_chars": True},
        "text",
        ("enable_eos_bos_chars = true", "no bos and no eos", "to false."),
    ),
    "no padding": (
        {"characters": VITS_CHARACTERS | {"punctuations": "!", "pad": None}},
        "text",
        ("characters.pad = null", "padded"),
    ),
    "characters of VITS without punctuations": (
        {"characters": VITS_CHARACTERS | {"pad": "_"}},
        "text",
        ("characters.punctuations = null", "Set characters.punctuations"),
    ),
    # types
    "a string for a number": (
        {"batch_size": "8"},
        "values",
        ("batch_size = '8'", "a whole number", "default instead (32)"),
    ),
    "a fraction": ({"batch_size": 32.5}, "values", ("batch_size = 32.5", "a whole number", "cut it to 32")),
    "null": ({"lr_gen": None}, "values", ("lr_gen = null", "a finite number")),
    "a number that is none": ({"lr_disc": math.nan}, "values", ("lr_disc = nan", "a finite number")),
    "no end": ({"epochs": math.inf}, "values", ("epochs = inf", "a whole number")),
    "more than Coqui can hold": ({"epochs": 10**5000}, "values", ("epochs = ", "a whole number")),
    "a number for a string": ({"text_cleaner": 3}, "values", ("text_cleaner = 3", "a string")),
    "a string for a truth value": ({"use_phonemes": "no"}, "values", ("use_phonemes = 'no'", "true or false")),
    "a number for a truth value": ({"use_phonemes": 1}, "values", ("use_phonemes = 1", "true or false")),
    "a string for a section": ({"characters": "abc"}, "values", ("characters = 'abc'", "a section")),
    "a value in a section": (
        args(hidden_channels="x"),
        "values",
        ("model_args.hidden_channels = 'x'", "whole of model_args"),
    ),
    "an item of a list": (
        args(upsample_rates_decoder=[8, "8", 2, 2]),
        "values",
        ("model_args.upsample_rates_decoder.1 = '8'",),
    ),
    "a data set that is no section": ({"datasets": [3]}, "values", ("datasets.0 = 3", "a section", "formatter")),
    "a value of a data set": (
        {"datasets": [dataset(Path("data"), language=3)]},
        "values",
        ("datasets.0.language = 3", "a string"),
    ),
    "a long value": ({"batch_size": "8" * 5000}, "values", ("batch_size = '8", "…")),
    # numbers
    "no batch": ({"batch_size": 0}, "values", ("batch_size = 0", "above 0")),
    "a negative rate": ({"lr_gen": -1e-4}, "values", ("lr_gen = -0.0001", "above 0")),
    "a step of 0": ({"print_step": 0}, "values", ("print_step = 0", "above 0")),
    "negative workers": ({"num_loader_workers": -1}, "values", ("num_loader_workers = -1", "below 0")),
    "a kernel of 0": (
        args(resblock_kernel_sizes_decoder=[0]),
        "values",
        ("model_args.resblock_kernel_sizes_decoder = [0]", "each"),
    ),
    "dropout of everything": (args(dropout_p_text_encoder=1.0), "values", ("dropout_p_text_encoder = 1.0", "below 1")),
    "a rate that Coqui refuses": (audio(sample_rate=16), "values", ("audio.sample_rate = 16", "512 to 100000")),
    "lengths that exclude each other": (
        {"min_audio_len": 9, "max_audio_len": 8},
        "values",
        ("min_audio_len = 9", "max_audio_len = 8"),
    ),
    "one clip": ({"grad_clip": 5.0}, "values", ("grad_clip = 5.0", "a list of finite numbers")),
    "a list of one clip": ({"grad_clip": [5.0]}, "values", ("grad_clip = [5.0]", "two numbers")),
    "a precision": (
        {"mixed_precision": True, "precision": "fp32"},
        "values",
        ("precision = 'fp32'", "'fp16' or 'bf16'"),
    ),
    "an optimizer": ({"optimizer": "AdanW"}, "values", ("optimizer = 'AdanW'", "'AdamW'")),
    "its parameters": ({"optimizer_params": {"beta": 1}}, "values", ("optimizer_params = {'beta': 1}", "'beta'")),
    "a schedule": (
        {"lr_scheduler_gen": "Exponential"},
        "values",
        ("lr_scheduler_gen = 'Exponential'", "'ExponentialLR'"),
    ),
    "parameters of a schedule": (
        {"lr_scheduler_disc_params": {"gama": 1}},
        "values",
        ("lr_scheduler_disc_params = {'gama': 1}", "'gama'"),
    ),
    # keys
    "a key": ({"batch_sise": 8}, "keys", ("batch_sise", "'batch_size'")),
    "a key of model_args": (args(hiden_channels=8), "keys", ("model_args.hiden_channels", "'hidden_channels'")),
    "a key of audio": (audio(hop_lenght=8), "keys", ("audio.hop_lenght", "'hop_length'")),
    "a key of a data set": (
        {"datasets": [dataset(Path("data"), langauge="en")]},
        "keys",
        ("datasets.0.langauge", "'language'"),
    ),
    "a key of another section": (
        {"hidden_channels": 8},
        "keys",
        ("hidden_channels", "write model_args.hidden_channels"),
    ),
    "a key of the top level": (args(batch_size=8), "keys", ("model_args.batch_size", "belongs to the top level")),
    "a former key": ({"num_val_loader_workers": 2}, "keys", ("num_val_loader_workers", "now num_eval_loader_workers")),
    "a former key of a data set": (
        {"datasets": [dataset(Path("data"), name="ljspeech")]},
        "keys",
        ("datasets.0.formatter",),
    ),
    "a key without successor": ({"num_gpus": 2}, "keys", ("num_gpus", "CUDA_VISIBLE_DEVICES")),
    "a key that VITS replaces": ({"lr": 0.1}, "keys", ("lr = 0.1", "lr_gen and lr_disc")),
    "a sampler that VITS replaces": (
        {"use_speaker_weighted_sampler": True},
        "keys",
        ("use_speaker_weighted_sampler", "use_weighted_sampler"),
    ),
    "a twin": (
        {"speaker_embedding_channels": 512},
        "twin-keys",
        ("speaker_embedding_channels = 512", "model_args.", "is 16"),
    ),
    "a twin with another file": (
        {"d_vector_file": "a.pth"} | args(d_vector_file=["b.pth"]),
        "twin-keys",
        ("d_vector_file = 'a.pth'", "['b.pth']"),
    ),
    # architecture
    "a hop": (audio(hop_length=300), "architecture", ("audio.hop_length = 300", "[8, 8, 2, 2] is 256")),
    "an encoder's rate": (
        args(encoder_sample_rate=11_025),
        "architecture",
        ("encoder_sample_rate = 11025 does not divide", "= 16000"),
    ),
    "latents of another rate, not interpolated": (
        audio(sample_rate=32_000) | args(encoder_sample_rate=16_000, interpolate_z=False),
        "architecture",
        ("is 256", "interpolate_z", "512"),
    ),
    "latents of another rate, interpolated twice": (
        audio(sample_rate=32_000)
        | args(
            encoder_sample_rate=16_000,
            upsample_rates_decoder=[8, 8, 4, 2],
            upsample_kernel_sizes_decoder=[16, 16, 8, 4],
        ),
        "architecture",
        ("audio.hop_length = 256", "512", "interpolate_z"),
    ),
    "bins": (audio(fft_size=2048), "architecture", ("model_args.out_channels = 513", "audio.fft_size = 2048", "1025")),
    "a window": (audio(win_length=1200), "architecture", ("audio.win_length = 1200", "audio.fft_size = 1024")),
    "a highest frequency": (audio(mel_fmax=11_025.0), "architecture", ("audio.mel_fmax = 11025", "8000 Hz")),
    "heads": (args(num_heads_text_encoder=5), "architecture", ("hidden_channels = 32", "num_heads_text_encoder = 5")),
    "an even kernel": (args(kernel_size_flow=4), "architecture", ("model_args.kernel_size_flow = 4", "odd")),
    "an even kernel of the decoder": (
        args(resblock_kernel_sizes_decoder=[4]),
        "architecture",
        ("resblock_kernel_sizes_decoder = [4]", "odd"),
    ),
    "a kernel that does not fit its rate": (
        args(upsample_kernel_sizes_decoder=[15, 16, 4, 4]),
        "architecture",
        ("15 for a rate of 8",),
    ),
    "too few kernels": (
        args(upsample_kernel_sizes_decoder=[16, 16, 4]),
        "architecture",
        ("upsample_kernel_sizes_decoder = [16, 16, 4]",),
    ),
    "blocks without dilations": (
        args(resblock_kernel_sizes_decoder=[3, 5]),
        "architecture",
        ("resblock_dilation_sizes_decoder = [[1, 2]]", "[3, 5]"),
    ),
    "too few dilations": (args(resblock_type_decoder="1"), "architecture", ("need 3 dilations",)),
    "a narrow decoder": (
        args(upsample_initial_channel_decoder=8),
        "architecture",
        ("upsample_initial_channel_decoder = 8", "16"),
    ),
    "a slice": (args(spec_segment_size=1), "architecture", ("spec_segment_size = 1", "256 samples is too short")),
    # data sets
    "a formatter": (
        {"datasets": [dataset(Path("data"), formatter="ljspeach")]},
        "values",
        ("datasets.0.formatter = 'ljspeach'", "'ljspeech'"),
    ),
    "a data set without folder": (
        {"datasets": [{"formatter": "coqui", "path": None}]},
        "values",
        ("datasets.0.path = null",),
    ),
    "a data set without table": (
        {"datasets": [dataset(Path("data")) | {"meta_file_train": None}]},
        "values",
        ("datasets.0.meta_file_train = null", "a string"),
    ),
    # files
    "a run of a long name": ({"run_name": "x" * 300}, "files", ("run_name = 'xxx",)),
    "a folder of no name": ({"output_path": "a\0b"}, "files", ("output_path = 'a\\x00b'", "no folder")),
    "a folder of a name that is too long": ({"output_path": "x" * 300}, "files", ("output_path = 'xxx", "no folder")),
    "no d-vectors": (
        args(use_d_vector_file=True, use_speaker_embedding=False, d_vector_dim=8),
        "files",
        ("d_vector_file = null",),
    ),
    "d-vectors of a URL's ending": (
        args(use_d_vector_file=True, use_speaker_embedding=False, d_vector_dim=8, d_vector_file="absent.npy"),
        "files",
        ("absent.npy", "no such file"),
    ),
    "a size of no d-vectors": (
        args(use_d_vector_file=True, use_speaker_embedding=False, d_vector_file="s3://bucket/d.pth"),
        "files",
        ("model_args.d_vector_dim = 0",),
    ),
    "languages": (
        args(use_language_embedding=True, language_ids_file="absent.json"),
        "files",
        ("language_ids_file = 'absent.json'",),
    ),
    "the encoder that Coqui loads": (
        args(speaker_encoder_model_path="absent.pth", speaker_encoder_config_path="absent.json"),
        "files",
        ("speaker_encoder_model_path = 'absent.pth'", "speaker_encoder_config_path = 'absent.json'"),
    ),
    "its config": (
        args(speaker_encoder_model_path=__file__),
        "files",
        ("model_args.speaker_encoder_config_path = ''",),
    ),
    "statistics": (audio(stats_path="absent.npy"), "files", ("audio.stats_path = 'absent.npy'",)),
    "a file as a folder": ({"output_path": f"{__file__}/runs"}, "files", ("output_path", "is a file")),
    # text
    "a cleaner": ({"text_cleaner": "english_cleaner"}, "text", ("'english_cleaner'", "'english_cleaners'")),
    "a phonemizer": (phonemes(phonemizer="espeek"), "text", ("phonemizer = 'espeek'", "'espeak'")),
    "a phonemizer's language": (phonemes(phoneme_language="en-uk"), "text", ("phoneme_language = 'en-uk'", "espeak")),
    "no language": (phonemes(phoneme_language=None), "text", ("phoneme_language = null", "needs a language")),
    "a language without phonemizer": (
        phonemes(phonemizer=None, phoneme_language="tlh"),
        "text",
        ("phoneme_language = 'tlh'", "no phonemizer"),
    ),
    "no cache": (phonemes(phoneme_cache_path=None), "text", ("phoneme_cache_path = null", "needed")),
    "a data set without language": (
        phonemes(phonemizer="multi_phonemizer"),
        "text",
        ("datasets.0.language = ''", "multi_phonemizer"),
    ),
    "a class of characters": (
        {"characters": {"characters_class": "no.such.Class"}},
        "text",
        ("characters_class = 'no.such.Class'", "No module"),
    ),
    "characters without punctuation": (
        {"characters": {"characters": "abc"}},
        "text",
        ("characters.punctuations = null",),
    ),
    "a character twice": (
        {"characters": {"characters": "abc", "punctuations": "a"}},
        "text",
        ("characters", "duplicate", "'a'"),
    ),
    # languages
    "an empty language": (args(use_language_embedding=True), "languages", ("datasets.0.language = ''", "is true")),
    "a language that is not listed": (
        {"languages": ["en"], "datasets": [dataset(Path("data"), language="de")]} | args(use_language_embedding=True),
        "languages",
        ("datasets.0.language = 'de'", "only 'en'"),
    ),
}


def test_a_logger_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    text = of_config({"dashboard_logger": "wandb"})["values"].text
    assert "dashboard_logger = 'wandb': the package wandb is not installed" in text


NEED_ESPEAK = (
    "phonemes",
    "phonemes of a language under its former name",
    "a phonemizer for each language",
    "a phonemizer's language",
)


def skip_without_espeak(name: str) -> None:
    if name in NEED_ESPEAK and "espeak" in TOOLS.phonemizers().absent:
        pytest.skip("espeak-ng is not installed, which this config needs (apt-get install espeak-ng)")


@pytest.mark.parametrize("name", SOUND)
def test_nothing_is_found_in_a_sound_config(name: str) -> None:
    skip_without_espeak(name)
    assert of_config(SOUND[name]) == {}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_found_once_and_named(name: str) -> None:
    changes, check, words = DEFECTS[name]
    skip_without_espeak(name)
    found = of_config(changes)
    assert list(found) == [check], {id_: result.text for id_, result in found.items()}
    assert [word for word in words if word not in found[check].text] == [], found[check].text
    assert found[check].status == ("warning" if check in ("keys", "twin-keys") else "failed")
    assert len(found[check].text) < 2_000


@pytest.mark.parametrize(
    "name",
    [
        "a hop",
        "latents of another rate, not interpolated",
        "a window",
        "a highest frequency",
        "heads",
        "an even kernel",
        "too few dilations",
    ],
)
def test_coqui_cannot_build_what_is_found(name: str) -> None:
    config = config_facts(DEFECTS[name][0]).config
    config.speakers = ["a"]
    with pytest.raises((AssertionError, IndexError, RuntimeError)):
        SclVits(config)


def test_an_option_that_corrects_a_value_is_heard() -> None:
    assert of_config({"batch_size": "x"}, "--coqpit.batch_size", "8") == {}
    assert list(of_config({}, "--coqpit.batch_size", "0")) == ["values"]


def test_a_value_that_is_lost_takes_no_other_with_it() -> None:
    config = resolved_config({"model_args": {"hidden_channels": "x", "num_layers_flow": 2}}, [])
    assert (config.model_args.hidden_channels, config.model_args.num_layers_flow) == (192, 2)


def test_values_that_a_script_set() -> None:
    config = SclVitsConfig(batch_size="8", lr_gen=0.0)
    found = results("config", ConfigFacts(config=config, coqui=TOOLS), "ffmpeg", "versions")
    assert "batch_size = '8'" in found["values"].text
    assert "lr_gen = 0.0" in found["values"].text
    assert "keys" not in found


def test_successors_of_keys_exist_and_former_keys_do_not() -> None:
    config = SclVitsConfig()
    for path, successors in config_keys._SUCCESSORS.items():
        known = config_keys._known(config, path)
        assert [name for name in successors if name in known] == []
        assert [name for name in successors.values() if name not in known and "." not in name] == []
    assert [name for name in config_keys._WITHOUT_EFFECT if name not in config_keys._known(config, "")] == []


# --- files that exist -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", ("cannot be read",)),
        ("[]", ("must hold", "[]")),
        ("{}", ("must hold", "{}")),
        ('{"a": [1.0]}', ("'a' has [1.0]",)),
        ('{"a": {"name": "x"}}', ("'a' has {'name': 'x'}",)),
        ('{"a": {"name": "x", "embedding": "y"}}', ("embedding of 'a'", "'y'")),
        ('{"a": {"name": "x", "embedding": [1.0, NaN]}}', ("embedding of 'a'", "finite", "its number 2 is nan")),
        ('{"a": {"name": "x", "embedding": [[1.0]]}}', ("embedding of 'a'", "its number 1 is [1.0]")),
        ('{"a": {"name": "x", "embedding": []}}', ("embedding of 'a'", "it is empty")),
    ],
)
def test_a_d_vector_file_that_is_none(tmp_path: Path, content: str, words: tuple[str, ...]) -> None:
    file = tmp_path / "d.json"
    file.write_text(content)
    changes = args(use_d_vector_file=True, use_speaker_embedding=False, d_vector_file=[str(file)], d_vector_dim=1)
    text = of_config(changes)["files"].text
    assert [word for word in (str(file), *words) if word not in text] == [], text


def test_a_d_vector_file_of_tensors(tmp_path: Path) -> None:
    file = tmp_path / "d.pth"
    torch.save({"a": {"name": "x", "embedding": torch.ones(4)}}, file)
    changes = args(use_d_vector_file=True, use_speaker_embedding=False, d_vector_file=[str(file)], d_vector_dim=4)
    text = of_config(changes)["files"].text
    assert "embedding of 'a' is not a list of finite numbers: a Tensor" in text


def test_of_many_unknown_keys_a_few_are_told_and_the_others_counted() -> None:
    findings = of_config({f"unknown_{number}": 1 for number in range(2_000)})["keys"].findings
    assert len(findings) == 13
    assert "1988 more keys" in findings[-1].found


@pytest.mark.parametrize(("audio", "is_lost"), [(None, True), ({"sample_rate": "16000"}, True), ({}, False)])
def test_a_rate_that_is_not_the_written_one_is_not_blamed(audio: Any, is_lost: bool) -> None:
    facts = config_facts({"audio": audio})
    assert is_lost_key(facts, "audio.sample_rate") is is_lost


def test_d_vector_files_that_share_a_recording(tmp_path: Path) -> None:
    entry = {"name": "x", "embedding": [1.0]}
    (tmp_path / "a.json").write_text(json.dumps({"r": entry}))
    torch.save({"r": entry, "s": entry}, tmp_path / "b.pth")
    files = [str(tmp_path / name) for name in ("a.json", "b.pth")]
    changes = args(use_d_vector_file=True, use_speaker_embedding=False, d_vector_dim=1, d_vector_file=files)
    text = of_config(changes)["files"].text
    assert [word for word in ("'r' are both in", *files) if word not in text] == [], text
    assert of_config(args(**{**changes["args"], "d_vector_file": files[1:]})) == {}


def test_a_table_of_languages(tmp_path: Path) -> None:
    file = tmp_path / "ids.json"
    file.write_text('{"fr": 0}')
    changes = args(use_language_embedding=True, language_ids_file=str(file))
    found = of_config(changes | {"datasets": [dataset(Path("data"), language="en")]})
    assert list(found) == ["languages"]
    assert "datasets.0.language = 'en'" in found["languages"].text
    file.write_text('["fr"]')
    assert list(of_config(changes)) == ["files"]


# --- phonemizers that are not installed -------------------------------------------------------------------------------


def test_a_phonemizer_that_is_not_installed() -> None:
    here = Phonemizers({"be_phonemizer": ["be"]}, {"espeak": "apt-get install espeak-ng"}, {"be": "be_phonemizer"})
    coqui = dataclasses.replace(TOOLS, phonemizers=lambda: here)
    text = of_config(phonemes(), coqui=coqui)["text"].text
    assert "phonemizer = 'espeak': this phonemizer is not installed" in text
    assert "apt-get install espeak-ng" in text
    text = of_config(phonemes(phonemizer=None), coqui=coqui)["text"].text
    assert "phoneme_language = 'en-us'" in text
    assert "espeak: apt-get install espeak-ng" in text


# --- what the data decides --------------------------------------------------------------------------------------------

EARLIER = ("recordings", "sample-rate", "model", "samples")


def of_data(changes: Changes, speakers: str = "ab", train: bool = True) -> dict[str, Result]:
    facts = config_facts(changes)
    samples = [{"speaker_name": name, "language": "en", "audio_file": name, "text": "x"} for name in speakers]
    known = {field.name: getattr(facts, field.name) for field in dataclasses.fields(facts)}
    data = DataFacts(**known, train_samples=samples if train else None, eval_samples=[])
    return results("data", data, *EARLIER)


UNTOLD = args(use_speaker_embedding=False)
EN_DE = {"datasets": [dataset(Path("data"), language="en"), dataset(Path("more"), language="de")]}
WEIGHTED = {"use_weighted_sampler": True, "weighted_sampler_attrs": {"speaker_name": 1.0}}


@pytest.mark.parametrize(
    ("changes", "speakers", "status", "words"),
    [
        ({}, "ab", None, ()),
        (UNTOLD, "a", None, ()),
        (UNTOLD, "ab", "failed", ("2 speakers", "'a', 'b'", "model_args.use_speaker_embedding")),
        (
            UNTOLD | {"use_speaker_embedding": True},
            "ab",
            "failed",
            ("use_speaker_embedding = true", "reads model_args."),
        ),
        (UNTOLD | {"use_d_vector_file": True}, "ab", "failed", ("use_d_vector_file = true", "reads model_args.")),
        (UNTOLD | {"use_speaker_embedding": True}, "a", "warning", ("use_speaker_embedding = true",)),
        (args(use_d_vector_file=True), "ab", "failed", ("both true", "reads no d-vectors")),
        (args(use_d_vector_file=True, use_speaker_embedding=False), "ab", None, ()),
        ({"use_language_embedding": True}, "ab", "failed", ("use_language_embedding = true has no effect at the top",)),
        (EN_DE, "ab", "failed", ("2 languages", "'de', 'en'", "model_args.use_language_embedding")),
        (EN_DE | args(use_language_embedding=True), "ab", None, ()),
        ({"datasets": [dataset(Path("data"), language=f"en-{x}") for x in ("us", "gb")]}, "ab", None, ()),
    ],
)
def test_conditioning(changes: Changes, speakers: str, status: str | None, words: tuple[str, ...]) -> None:
    found = of_data(changes, speakers)
    if status is None:
        assert found == {}
        return
    assert list(found) == ["conditioning"]
    assert found["conditioning"].status == status
    assert [word for word in words if word not in found["conditioning"].text] == [], found["conditioning"].text


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        (WEIGHTED, None, ()),
        (WEIGHTED | {"use_weighted_sampler": False, "weighted_sampler_attrs": {"nothing": 0}}, None, ()),
        (WEIGHTED | {"weighted_sampler_attrs": {"speaker": 1.0}}, "failed", ("'speaker'", "speaker_name, text")),
        (WEIGHTED | {"weighted_sampler_attrs": {"speaker_name": 0.0}}, "failed", ("speaker_name = 0.0", "above 0")),
        (WEIGHTED | {"weighted_sampler_attrs": {"speaker_name": "1"}}, "failed", ("speaker_name = '1'", "a number")),
        (WEIGHTED | {"weighted_sampler_attrs": {}}, "warning", ("is empty", "nothing is balanced")),
        (
            WEIGHTED | {"weighted_sampler_attrs": {"language": 1, "speaker_name": 1}},
            "warning",
            ("last", "speaker_name"),
        ),
        (
            WEIGHTED | {"weighted_sampler_multipliers": {"speaker_name": {"z": 2.0}}},
            "failed",
            ("'z'", "not occur", "'a'"),
        ),
        (WEIGHTED | {"weighted_sampler_multipliers": {"speaker_name": {"a": -1}}}, "failed", ("a: -1", "not below 0")),
        (WEIGHTED | {"weighted_sampler_multipliers": {"speaker_name": {"a": 0, "b": 0}}}, "failed", ("is 0 for each",)),
        (
            WEIGHTED | {"weighted_sampler_multipliers": {"speaker_name": 2.0}},
            "failed",
            ("speaker_name = 2.0", "a mapping"),
        ),
        (
            WEIGHTED | {"weighted_sampler_multipliers": {"language": {"en": 2.0}}},
            "warning",
            ("language has no effect",),
        ),
        (WEIGHTED | {"weighted_sampler_multipliers": {"speaker_name": {"a": 2.0}}}, None, ()),
    ],
)
def test_sampler(changes: Changes, status: str | None, words: tuple[str, ...]) -> None:
    found = of_data(changes)
    if status is None:
        assert found == {}
        return
    assert list(found) == ["sampler"]
    assert found["sampler"].status == status
    assert [word for word in words if word not in found["sampler"].text] == [], found["sampler"].text


def test_nothing_is_said_of_data_that_a_loader_of_the_user_has() -> None:
    assert of_data(UNTOLD | WEIGHTED, train=False) == {}
