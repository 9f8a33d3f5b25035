import contextlib
import copy
import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import hub_encoder_files
import pytest
import soundfile
import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.inference.classifiers import EncoderClassifier
from torch.nn.functional import normalize

from coqui_scl_plugin import build_encoder
from coqui_scl_plugin.encoders.speechbrain import SpeechBrainEncoder
from coqui_scl_plugin.errors import EncoderError

SHORTEST = {"ecapa": 640, "xvector": 480, "resnet": 160}
"""Samples: what reflection of 4 frames needs, of 3, and two frames, since one minus its own mean is nothing."""


class CreatesAFile:
    """Unpickling it without care creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


class Real(NamedTuple):
    """An encoder at its real size, here and in SpeechBrain."""

    kind: str
    folder: Path
    encoder: SpeechBrainEncoder
    classifier: EncoderClassifier


@pytest.fixture(scope="module", params=hub_encoder_files.SPEECHBRAIN)
def real(request, tmp_path_factory) -> Real:
    folder = hub_encoder_files.write_speechbrain(request.param, tmp_path_factory.mktemp(request.param))
    classifier = EncoderClassifier.from_hparams(
        str(folder), overrides={"pretrained_path": str(folder)}, run_opts={"device": "cpu"}
    )
    return Real(request.param, folder, SpeechBrainEncoder(str(folder)).requires_grad_(False), classifier)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    return hub_encoder_files.write_speechbrain("xvector", tmp_path_factory.mktemp("small"), small=True)


@pytest.fixture
def folder(small, tmp_path) -> Path:
    """A copy of the small encoder, to be spoilt."""
    return Path(shutil.copytree(small, tmp_path / "encoder"))


def assert_agrees(real: Real, waveform: torch.Tensor) -> None:
    with torch.no_grad():
        library = normalize(real.classifier.encode_batch(waveform).flatten(1), dim=1)
        torch.testing.assert_close(real.encoder(waveform), library, rtol=0, atol=1e-4)


def real_utterance(libri10: Path) -> torch.Tensor:
    """Its first three seconds."""
    with (libri10 / "metadata.csv").open(newline="") as file:
        first = next(csv.DictReader(file, delimiter="|", quoting=csv.QUOTE_NONE))
    return torch.from_numpy(soundfile.read(libri10 / first["audio_file"], dtype="float32")[0])[None, :48000]


def edit(folder: Path, old: str, new: str) -> None:
    path = folder / "hyperparams.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))


def refuses(folder: Path, named: Path | str, *parts: str) -> None:
    with pytest.raises(EncoderError) as caught:
        SpeechBrainEncoder(str(folder))
    assert all(part in str(caught.value) for part in (str(named), *parts)), str(caught.value)


def test_embeddings_equal_those_of_speechbrain(real, speech_like):
    assert_agrees(real, speech_like(2, 12000))


def test_embeddings_of_real_speech_equal_those_of_speechbrain(real, libri10):
    assert_agrees(real, real_utterance(libri10))


def test_every_weight_of_the_checkpoint_is_in_use(real):
    stored = torch.load(real.folder / "embedding_model.ckpt", weights_only=True)
    loaded = real.encoder.embedding_model.state_dict()
    assert stored.keys() == loaded.keys()
    assert all(torch.equal(stored[name], loaded[name]) for name in stored)


def test_the_shortest_waveform_gives_a_finite_gradient_and_a_shorter_one_none(real, speech_like):
    assert real.encoder.min_samples == SHORTEST[real.kind]
    waveform = speech_like(2, real.encoder.min_samples).requires_grad_()
    real.encoder(waveform)[:, 0].sum().backward()
    assert torch.isfinite(waveform.grad).all()
    assert (waveform.grad.norm(dim=1) > 0).all()
    shorter = speech_like(2, real.encoder.min_samples - 1).requires_grad_()
    if real.kind == "resnet":  # which pads with zeros
        real.encoder.embed(shorter)[:, 0].sum().backward()
        assert not shorter.grad.any()
    else:
        with pytest.raises(RuntimeError, match="Padding size should be less"):
            real.encoder.embed(shorter)


def test_is_frozen_by_every_policy(real, speech_like, stays_frozen):
    stays_frozen(real.encoder, speech_like(2, 8000))


def test_the_same_sound_has_the_same_embedding(real, speech_like):
    waveform = speech_like(1, 4000)
    assert torch.equal(real.encoder(waveform), real.encoder(waveform))


def test_what_speechbrain_keeps_beside_its_parameters_is_guarded_and_moves_along(small):
    encoder = build_encoder("speechbrain", {"source": str(small)})
    buffers = dict(encoder.named_buffers())
    assert {"compute_features.compute_STFT.window", "compute_features.compute_fbanks.f_central"} <= buffers.keys()
    assert encoder.double().compute_features.compute_STFT.window.dtype == torch.float64


def test_works_on_another_device(real, monkeypatch):
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda device: torch.float16)  # autocast does not know this one
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)
    encoder = copy.deepcopy(real.encoder).to("meta")
    waveform = torch.zeros(2, 8000, device="meta", requires_grad=True)
    encoder(waveform).sum().backward()
    assert waveform.grad.device.type == "meta"


def test_the_sampling_rate_is_that_of_the_file(folder):
    assert SpeechBrainEncoder(str(folder)).sample_rate == 16000
    edit(folder, "n_mels: 24", "n_mels: 24\nsample_rate: 8000")
    edit(folder, "Fbank\n", "Fbank\n    sample_rate: !ref <sample_rate>\n")
    encoder = SpeechBrainEncoder(str(folder))
    assert (encoder.sample_rate, encoder.min_samples) == (8000, 240)


def test_is_found_on_the_hub(small, hub_cache, speech_like):
    hub_cache("speechbrain/spkrec-xvect-voxceleb", small)
    waveform = speech_like(1, 8000)
    from_hub = build_encoder("speechbrain", {"source": "speechbrain/spkrec-xvect-voxceleb"})
    assert torch.equal(from_hub(waveform), build_encoder("speechbrain", {"source": str(small)})(waveform))


def test_without_speechbrain_the_extra_is_named(small, monkeypatch):
    monkeypatch.setitem(sys.modules, "speechbrain", None)
    with pytest.raises(EncoderError, match=re.escape('pip install "coqui-scl-plugin[speechbrain]"')):
        build_encoder("speechbrain", {"source": str(small)})


def test_registering_imports_no_speechbrain_and_building_changes_no_setting_of_torch(small):
    code = """
import sys, torch
from coqui_scl_plugin import available, build_encoder
def settings():
    return (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32,
            torch._C._jit_set_profiling_executor(True))
before = settings()
assert "speechbrain" in available()["encoders"]
assert not {"speechbrain", "hyperpyyaml"} & sys.modules.keys()
build_encoder("speechbrain", {"source": sys.argv[1]})
assert settings() == before, (before, settings())
"""
    environment = {name: value for name, value in os.environ.items() if name != "SB_DISABLE_QUIRKS"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(small)], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["hyperparams.yaml", "embedding_model.ckpt"])
def test_a_missing_file_is_named(name, folder):
    (folder / name).unlink()
    refuses(folder, folder / name, "does not exist")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_truncated_weights_are_refused(share, folder):
    path = folder / "embedding_model.ckpt"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    refuses(folder, path)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.37])
def test_a_truncated_description_is_refused(share, folder):
    path = folder / "hyperparams.yaml"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    refuses(folder, folder)


@pytest.mark.parametrize(
    "content",
    [b"This is no speaker encoder.\n", b"- 1\n- 2\n", b"\xff\xfe\x00", b"{", b"a: !ref <b>", b"&a [*a]"],
    ids=["text", "list", "binary", "open", "dangling", "circle"],
)
def test_a_description_of_something_else_is_refused(content, folder):
    (folder / "hyperparams.yaml").write_bytes(content)
    refuses(folder, folder / "hyperparams.yaml")


@pytest.mark.parametrize("content", [{}, {"a": torch.zeros(3)}, [1, 2], torch.zeros(3), "text"], ids=repr)
def test_weights_of_something_else_are_refused(content, folder):
    torch.save(content, folder / "embedding_model.ckpt")
    refuses(folder, folder / "embedding_model.ckpt", "Xvector")


def test_a_text_file_in_place_of_the_weights_is_refused(folder):
    (folder / "embedding_model.ckpt").write_text("This is no speaker encoder.\n")
    refuses(folder, folder / "embedding_model.ckpt")


def test_the_weights_of_another_architecture_are_refused(folder, tmp_path):
    other = hub_encoder_files.write_speechbrain("ecapa", tmp_path / "other", small=True)
    shutil.copy(other / "embedding_model.ckpt", folder)
    refuses(folder, folder / "embedding_model.ckpt", "Xvector")


@pytest.mark.parametrize("key", ["compute_features", "mean_var_norm", "embedding_model"])
def test_a_missing_key_is_named(key, folder):
    edit(folder, f"\n{key}: !new", f"\nrenamed_{key}: !new")
    path = folder / "hyperparams.yaml"
    path.write_text(path.read_text().replace(f"<{key}>", f"<renamed_{key}>"))
    refuses(folder, path, f"the key {key} must", "None")


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("compute_features: !new:speechbrain.lobes.features.Fbank", "compute_features: 3\nx:", "there is 3"),
        ("Fbank\n    n_mels: !ref <n_mels>", "STFT\n    sample_rate: 16000", "must be Fbank or MFCC"),
        ("n_mels: 24", "n_mels: 24\nsample_rate: 16k", "sample_rate = '16k'"),
        ("norm_type: sentence", "norm_type: global", "'global'"),
        ("n_mels: 24", "n_mels: 24\nother: 80", None),
        ("    n_mels: !ref <n_mels>", "    n_mels: 80", "do not fit together"),
        ("    tdnn_blocks: 5", "    tdnn_blocks: 6", "IndexError"),
        ("    tdnn_blocks: 5", "    no_such_argument: 5", "no_such_argument"),
        ("activation: !name:torch.nn.LeakyReLU", "activation: relu", "TypeError"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(old, new, part, folder):
    edit(folder, old, new)
    if "STFT" in new:
        edit(folder, "speechbrain.lobes.features.STFT", "speechbrain.processing.features.STFT")
    if part is None:
        SpeechBrainEncoder(str(folder))
    else:
        refuses(folder, folder / "hyperparams.yaml", part)


@pytest.mark.parametrize("where", ["state", "whole"])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(where, folder, tmp_path):
    path, created = folder / "embedding_model.ckpt", tmp_path / "created"
    content = torch.load(path, weights_only=True) | {"blocks.0.conv.bias": CreatesAFile(created)}
    torch.save(content if where == "state" else CreatesAFile(created), path)
    refuses(folder, path)
    assert not created.exists()
    torch.load(path, weights_only=False)  # and it would have
    assert created.exists()


HOSTILE = {
    "apply": "x: !apply:os.mkdir [{created}]",
    "applyref": "x: !applyref:os.mkdir [{created}]",
    "python/object/apply": "x: !!python/object/apply:os.mkdir [{created}]",
    "new of a class": "x: !new:tempfile.TemporaryDirectory [a, b, {folder}]",
    "name with arguments": "a: !name:os.mkdir [{created}]\nx: !new:speechbrain.lobes.features.partial [!ref <a>]",
    "key": "? !apply:os.mkdir [{created}]\n: 1",
    "nested": "x: [1, {{a: [!apply:os.mkdir [{created}]]}}]",
    "in a module": "x: !new:torch.nn.Linear [!apply:os.mkdir [{created}], 2]",
    "anchored": "x: [&a !apply:os.mkdir [{created}], *a]",
    "verbatim": "x: !<!apply:os.mkdir> [{created}]",
}
IN_TEXT = {
    "tuple": "!tuple \"(!!python/object/apply:os.mkdir ['{created}'])\"",
    "unquoted tuple": "(!!python/object/apply:os.mkdir ['{created}'])",
    "put together": "!ref (<python>/object/apply:os.mkdir ['{created}'])\npython: '!!python'",
}
"""Tags in what YAML takes for text, and HyperPyYAML for a tuple."""
REFUSED = {
    "include": "x: !include:{folder}/other.yaml",
    "module": "x: !module:os",
    "new of a function": "x: !new:os.system [ls]",
    "function": "x: !name:torch.nn.functional.relu",
    "imported into an allowed module": "x: !new:speechbrain.lobes.features.partial [1]",
    "attribute of an allowed class": "x: !name:torch.nn.Linear.__init__",
    "module of an allowed module": "x: !new:torch.nn.modules.linear.Linear [1, 2]",
    "attribute": "a: {{b: 1}}\nx: !ref <a.keys>",
    "python/name": "x: !!python/name:os.system",
    "python/module": "x: !!python/module:os",
    "placeholder": "x: !PLACEHOLDER",
    "handle": "%TAG !h! !apply:\n---\nx: !h!os.mkdir [{created}]",
}


def hostile(folder: Path, text: str) -> tuple[Path, Path]:
    """The description with one more entry, and what that would create."""
    created, path = folder / "created", folder / "hyperparams.yaml"
    (folder / "other.yaml").write_text(f"y: !apply:os.mkdir [{created}]")
    entry = text.format(created=created, folder=folder)
    head, separator, entry = entry.rpartition("---\n")
    path.write_text(f"{head}{separator}{path.read_text()}\n{entry}\n")
    return path, created


@pytest.mark.parametrize("name", [*HOSTILE, *REFUSED])
def test_a_description_that_would_run_code_is_refused_and_does_not(name, folder):
    path, created = hostile(folder, (HOSTILE | REFUSED)[name])
    before = set(folder.iterdir())
    with pytest.raises(EncoderError, match=re.escape(str(path)) + r", line \d+: the tag "):
        SpeechBrainEncoder(str(folder))
    assert not created.exists()
    assert set(folder.iterdir()) == before


@pytest.mark.parametrize("name", IN_TEXT)
def test_tags_in_text_are_not_run(name, folder):
    path, created = hostile(folder, f"x: {IN_TEXT[name]}")
    SpeechBrainEncoder(str(folder))  # which x does not concern
    edit(folder, "n_mels: !ref <n_mels>", "n_mels: !ref <x>")
    refuses(folder, path)
    assert not created.exists()


@pytest.mark.parametrize("name", ["apply", "applyref", "python/object/apply", "anchored", "tuple", "unquoted tuple"])
def test_speechbrains_own_loader_would_have_run_it(name, folder):
    _, created = hostile(folder, HOSTILE.get(name) or f"x: {IN_TEXT[name]}")
    with contextlib.suppress(AttributeError, TypeError, ValueError):  # from what was made, after it was made
        load_hyperpyyaml((folder / "hyperparams.yaml").read_text())
    assert created.exists()
