import csv
import json
import logging
import pickle
import shutil
from pathlib import Path
from typing import NamedTuple

import hub_encoder_files
import numpy as np
import pytest
import soundfile
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch.nn.functional import normalize

from coqui_scl_plugin import build_encoder
from coqui_scl_plugin.encoders.transformers import TransformersEncoder
from coqui_scl_plugin.errors import EncoderError


class CreatesAFile:
    """Unpickling it without care creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


class Both(NamedTuple):
    """An encoder here and in transformers."""

    encoder: TransformersEncoder
    model: torch.nn.Module
    extractor: transformers.Wav2Vec2FeatureExtractor


def load_both(folder: Path) -> Both:
    return Both(
        TransformersEncoder(str(folder)).requires_grad_(False),
        transformers.AutoModelForAudioXVector.from_pretrained(folder).eval(),
        transformers.AutoFeatureExtractor.from_pretrained(folder),
    )


@pytest.fixture(scope="module", params=hub_encoder_files.TRANSFORMERS)
def real(request, tmp_path_factory) -> Both:
    """Each kind at its real size."""
    folder = hub_encoder_files.write_transformers(request.param, tmp_path_factory.mktemp(request.param))
    both = load_both(folder)
    shutil.rmtree(folder)  # 400 MB
    return both


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    return hub_encoder_files.write_transformers("wavlm", tmp_path_factory.mktemp("small"), small=True)


@pytest.fixture
def folder(small, tmp_path) -> Path:
    """A copy of the small encoder, to be spoilt."""
    return Path(shutil.copytree(small, tmp_path / "encoder"))


def library_embeddings(both: Both, waveform: torch.Tensor) -> torch.Tensor:
    inputs = both.extractor(list(waveform.numpy()), sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        return normalize(both.model(**inputs).embeddings, dim=1)


def assert_agrees(both: Both, waveform: torch.Tensor) -> None:
    with torch.no_grad():
        ours = both.encoder(waveform)
    torch.testing.assert_close(ours, library_embeddings(both, waveform), rtol=0, atol=1e-4)


def real_utterance(libri10: Path) -> torch.Tensor:
    """Its first three seconds."""
    with (libri10 / "metadata.csv").open(newline="") as file:
        first = next(csv.DictReader(file, delimiter="|", quoting=csv.QUOTE_NONE))
    return torch.from_numpy(soundfile.read(libri10 / first["audio_file"], dtype="float32")[0])[None, :48000]


def edit(folder: Path, name: str, **values: object) -> None:
    """Set keys of a JSON file; None removes one."""
    content = json.loads((folder / name).read_text()) | values
    (folder / name).write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def refuses(folder: Path, named: Path, *parts: str) -> None:
    with pytest.raises(EncoderError) as caught:
        TransformersEncoder(str(folder))
    assert all(part in str(caught.value) for part in (str(named), *parts)), str(caught.value)


def to_bin(folder: Path) -> Path:
    """The weights as older versions of transformers saved them, with their names for weight norm."""
    state = load_file(folder / "model.safetensors")
    new_to_old = {".parametrizations.weight.original0": ".weight_g", ".parametrizations.weight.original1": ".weight_v"}
    for new, old in new_to_old.items():
        state = {name.replace(new, old): tensor for name, tensor in state.items()}
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    return folder / "pytorch_model.bin"


def test_embeddings_equal_those_of_transformers(real, speech_like):
    assert_agrees(real, speech_like(2, 12000))


def test_embeddings_of_real_speech_equal_those_of_transformers(real, libri10):
    assert_agrees(real, real_utterance(libri10))


def test_the_shortest_waveform_gives_a_finite_gradient_and_a_shorter_one_no_embedding(real, speech_like):
    assert real.encoder.min_samples == 5200
    waveform = speech_like(2, 5200).requires_grad_()
    real.encoder(waveform)[:, 0].sum().backward()
    assert torch.isfinite(waveform.grad).all()
    assert (waveform.grad.norm(dim=1) > 0).all()
    with pytest.warns(UserWarning, match="std.*degrees of freedom"):
        assert real.encoder.embed(speech_like(2, 5199)).isnan().all()


@pytest.mark.parametrize("kind", hub_encoder_files.TRANSFORMERS)
def test_is_frozen_by_every_policy(kind, tmp_path, speech_like, stays_frozen):
    folder = hub_encoder_files.write_transformers(kind, tmp_path, small=True)
    stays_frozen(TransformersEncoder(str(folder)), speech_like(2, 8000))


@pytest.mark.parametrize("do_normalize", [True, False])
def test_the_feature_extractor_is_followed(do_normalize, tmp_path, speech_like):
    folder = hub_encoder_files.write_transformers("wav2vec2", tmp_path, small=True, do_normalize=do_normalize)
    assert_agrees(load_both(folder), 0.1 * speech_like(2, 8000) + 0.05)
    edit(folder, "preprocessor_config.json", sampling_rate=8000)
    assert TransformersEncoder(str(folder)).sample_rate == 8000


def test_layers_of_other_lengths_have_another_shortest_waveform(folder, speech_like):
    config = transformers.WavLMConfig.from_pretrained(
        folder, tdnn_dilation=(1, 2, 4, 1, 1), conv_stride=(4,) + (2,) * 6
    )
    transformers.WavLMForXVector(config).save_pretrained(folder)
    encoder = TransformersEncoder(str(folder)).eval()
    waveform = speech_like(2, encoder.min_samples).requires_grad_()
    encoder(waveform)[:, 0].sum().backward()
    assert (waveform.grad.norm(dim=1) > 0).all()
    with pytest.warns(UserWarning, match="std.*degrees of freedom"):
        assert encoder.embed(speech_like(2, encoder.min_samples - 1)).isnan().all()


def test_weights_in_a_pickle_under_their_old_names_are_the_same(small, folder, speech_like):
    to_bin(folder)
    waveform = speech_like(1, 8000)
    assert torch.equal(TransformersEncoder(str(folder)).eval()(waveform), TransformersEncoder(str(small))(waveform))


def test_half_precision_weights_are_computed_in_float32(folder, speech_like):
    state = load_file(folder / "model.safetensors")
    save_file({name: tensor.half() for name, tensor in state.items()}, folder / "model.safetensors", {"format": "pt"})
    edit(folder, "config.json", dtype="float16")
    encoder = TransformersEncoder(str(folder))
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}
    assert encoder(speech_like(1, 8000)).dtype == torch.float32


def test_is_found_on_the_hub(small, hub_cache, speech_like):
    hub_cache("microsoft/wavlm-base-sv", small)
    waveform = speech_like(1, 8000)
    from_hub = build_encoder("transformers", {"source": "microsoft/wavlm-base-sv"})
    assert torch.equal(from_hub(waveform), build_encoder("transformers", {"source": str(small)})(waveform))


def test_loading_is_silent(small, capfd, caplog):
    shown = transformers.utils.logging.is_progress_bar_enabled()
    level = logging.getLogger("transformers").level
    TransformersEncoder(str(small))
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    assert transformers.utils.logging.is_progress_bar_enabled() == shown
    assert logging.getLogger("transformers").level == level


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_a_missing_file_is_named(name, folder):
    (folder / name).unlink()
    refuses(folder, folder / name, "does not exist")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_truncated_weights_are_refused(name, share, folder):
    path = to_bin(folder) if name == "pytorch_model.bin" else folder / name
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    refuses(folder, path)


@pytest.mark.parametrize("content", [b"This is no speaker encoder.\n", b"[1]", b"", b"\xff\xfe", b'{"a": 1', b"3"])
@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_a_file_of_something_else_is_refused(name, content, folder):
    (folder / name).write_bytes(content)
    refuses(folder, folder / name)


@pytest.mark.parametrize(
    "content", [{}, {"a": torch.zeros(3)}, {"a": 1}, {1: 2}, [1, 2], torch.zeros(3), "x"], ids=repr
)
def test_a_pickle_of_something_else_is_refused(content, folder):
    path = to_bin(folder)
    torch.save(content, path)
    refuses(folder, path, "WavLMForXVector")


@pytest.mark.parametrize("change", ["missing", "unexpected", "mismatched"])
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_weights_that_do_not_fill_the_model_are_refused(name, change, folder):
    state = load_file(folder / "model.safetensors")
    key = {"missing": "tdnn.0.kernel.weight", "unexpected": "tdnn.9.kernel.weight"}.get(change, "projector.weight")
    state[key] = torch.zeros(3, 3)
    if change == "missing":
        del state[key]
    if name == "pytorch_model.bin":
        torch.save(state, to_bin(folder))
    else:
        save_file(state, folder / name, {"format": "pt"})
    refuses(folder, folder / name, f"{change}: ", key)


def test_the_weights_of_another_architecture_are_refused(folder, tmp_path):
    other = hub_encoder_files.write_transformers("data2vec-audio", tmp_path / "other", small=True)
    shutil.copy(other / "model.safetensors", folder)
    refuses(folder, folder / "model.safetensors", "WavLMForXVector")


def test_weights_in_several_files_are_refused(folder):
    model = transformers.WavLMForXVector.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="300KB")
    refuses(folder, folder / "model.safetensors.index.json", "max_shard_size")


@pytest.mark.parametrize("architectures", [["WavLMModel"], ["BertModel"], [], None, "WavLMForXVector", ["os.system"]])
def test_another_architecture_is_refused_with_those_that_will_do(architectures, folder):
    edit(folder, "config.json", architectures=architectures)
    refuses(folder, folder / "config.json", *hub_encoder_files.TRANSFORMERS.values())


@pytest.mark.parametrize("rate", ["16k", 0, 16000.5])
def test_a_sampling_rate_that_is_none_is_refused(rate, folder):
    edit(folder, "preprocessor_config.json", sampling_rate=rate)
    refuses(folder, folder / "preprocessor_config.json", f"sampling_rate = {rate!r}")


def test_adapter_layers_are_refused(folder):
    edit(folder, "config.json", add_adapter=True)
    refuses(folder, folder / "config.json", "add_adapter")


@pytest.mark.parametrize(
    "values",
    [{"hidden_size": "big"}, {"tdnn_dim": 3}, {"hidden_act": "no_such"}, {"num_attention_heads": 5}, {"conv_dim": []}],
    ids=str,
)
def test_a_config_that_makes_no_model_is_refused(values, folder):
    edit(folder, "config.json", **values)
    refuses(folder, folder, "WavLMForXVector")


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(folder, tmp_path):
    path, created = to_bin(folder), tmp_path / "created"
    for content in (CreatesAFile(created), torch.load(path, weights_only=True) | {"x": CreatesAFile(created)}):
        torch.save(content, path)
        refuses(folder, path)
    path.write_bytes(pickle.dumps({"x": CreatesAFile(created)}, protocol=2))
    refuses(folder, path)
    assert not created.exists()
    pickle.loads(path.read_bytes())  # noqa: S301
    assert created.exists()  # and it would have


def test_code_in_the_folder_is_refused_and_does_not_run(folder, tmp_path):
    created = tmp_path / "created"
    (folder / "modeling.py").write_text(f"import pathlib\npathlib.Path({str(created)!r}).touch()\n")
    classes = {"AutoConfig": "modeling.Config", "AutoModelForAudioXVector": "modeling.Model"}
    edit(folder, "config.json", auto_map=classes)
    refuses(folder, folder / "config.json", "auto_map")
    assert not created.exists()


def test_what_else_a_config_may_ask_transformers_for_is_not_done(small, folder, speech_like):
    edit(
        folder, "config.json",
        quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True},
        attn_implementation="someone/some-kernels", _attn_implementation="someone/some-kernels",
        fusion_config={"patch_embeddings": True}, transformers_weights="../elsewhere.safetensors",
    )  # fmt: skip
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/other"}')
    waveform = speech_like(1, 8000)
    assert torch.equal(TransformersEncoder(str(folder))(waveform), TransformersEncoder(str(small))(waveform))


def test_embeddings_depend_on_the_sound(small, speech_like):
    waveform = speech_like(2, 16000)
    embedding = TransformersEncoder(str(small))(waveform).detach().numpy()
    assert np.abs(embedding[0] - embedding[1]).max() > 1e-3
