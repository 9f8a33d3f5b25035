import json
import pickle
import re
from pathlib import Path

import onnx
import pytest
import torch

from coqui_scl_plugin import build_encoder
from coqui_scl_plugin.encoders.dvector import DVectorEncoder
from coqui_scl_plugin.errors import EncoderError

SHIPPED_DVECTOR = DVectorEncoder.packaged_weights.load().path


class CreatesAFile:
    """Unpickling it without care creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def refuses(name: str, params: dict[str, str], path: Path) -> None:
    with pytest.raises(EncoderError, match=re.escape(str(path))):
        build_encoder(name, params)


def truncated(path: Path, folder: Path, share: float) -> Path:
    content = path.read_bytes()
    shorter = folder / f"truncated{path.suffix}"
    shorter.write_bytes(content[: int(share * len(content))])
    return shorter


def write(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def text_file(folder: Path) -> Path:
    path = folder / "notes.txt"
    path.write_text("This is no speaker encoder.\n")
    return path


def malicious_file(folder: Path, form: str) -> tuple[Path, Path]:
    """A checkpoint, and the file that it would create."""
    bad, created = folder / "model.pth", folder / "created"
    content = {"model": CreatesAFile(created), "model_state": CreatesAFile(created)}
    if form == "zip":
        torch.save(content, bad)
    else:
        bad.write_bytes(pickle.dumps(content, protocol=2))  # torch.load warns of newer ones
    return bad, created


@pytest.fixture(scope="module")
def ge2e_file(tmp_path_factory) -> Path:
    state = build_encoder("ge2e").state_dict()
    kept = {name: tensor for name, tensor in state.items() if name.startswith(("lstm.", "linear."))}
    return write(tmp_path_factory.mktemp("ge2e") / "ge2e.pt", {"model_state": kept})


def test_the_file_that_the_bad_ones_are_made_from_is_good(ge2e_file, coqui_files):
    build_encoder("ge2e", {"model_path": str(ge2e_file)})
    build_encoder("coqui", coqui_files["resnet"].params())


@pytest.mark.parametrize("name", ["ge2e", "dvector"])
def test_a_missing_file_is_named(name, tmp_path):
    missing = tmp_path / "missing.pt"
    refuses(name, {"model_path": str(missing)}, missing)
    refuses(name, {"model_path": str(tmp_path)}, tmp_path)


@pytest.mark.parametrize("key", ["model_path", "config_path"])
def test_a_missing_file_of_coquis_is_named(key, coqui_files, tmp_path):
    missing = tmp_path / ("missing.pth" if key == "model_path" else "missing.json")
    refuses("coqui", coqui_files["lstm"].params() | {key: str(missing)}, missing)


@pytest.mark.parametrize(
    "share",
    [0.0, pytest.param(0.001), 0.05, 0.5, 0.99],
)
@pytest.mark.parametrize("name", ["ge2e", "coqui"])
def test_a_truncated_checkpoint_is_refused(name, share, ge2e_file, coqui_files, tmp_path):
    good = ge2e_file if name == "ge2e" else coqui_files["lstm"].model_path
    bad = truncated(good, tmp_path, share)
    params = {} if name == "ge2e" else coqui_files["lstm"].params()
    refuses(name, params | {"model_path": str(bad)}, bad)


def test_a_folder_in_place_of_coquis_checkpoint_is_refused(coqui_files, tmp_path):
    refuses("coqui", coqui_files["lstm"].params() | {"model_path": str(tmp_path)}, tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_config_is_refused(share, coqui_files, tmp_path):
    bad = truncated(coqui_files["resnet"].config_path, tmp_path, share)
    refuses("coqui", coqui_files["resnet"].params() | {"config_path": str(bad)}, bad)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_onnx_model_is_refused(share, tmp_path):
    bad = truncated(SHIPPED_DVECTOR, tmp_path, share)
    refuses("dvector", {"model_path": str(bad)}, bad)


@pytest.mark.parametrize("form", ["zip", "plain pickle"])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(form, coqui_files, tmp_path):
    bad, created = malicious_file(tmp_path, form)
    refuses("ge2e", {"model_path": str(bad)}, bad)
    refuses("dvector", {"model_path": str(bad)}, bad)
    refuses("coqui", coqui_files["resnet"].params() | {"model_path": str(bad)}, bad)
    assert not created.exists()
    # and it would have
    torch.load(bad, weights_only=False) if form == "zip" else pickle.loads(bad.read_bytes())  # noqa: S301
    assert created.exists()


def test_a_text_file_is_refused(coqui_files, tmp_path):
    bad = text_file(tmp_path)
    refuses("ge2e", {"model_path": str(bad)}, bad)
    refuses("dvector", {"model_path": str(bad)}, bad)
    refuses("coqui", coqui_files["lstm"].params() | {"model_path": str(bad)}, bad)
    refuses("coqui", coqui_files["lstm"].params() | {"config_path": str(bad)}, bad)


@pytest.mark.parametrize(
    "content",
    [
        {"model_state": {}, "model": {}},
        {"model_state": {"lstm.weight_ih_l0": torch.zeros(3, 3)}, "model": {"conv1.weight": torch.zeros(3, 3)}},
        {"model_state": [1, 2], "model": [1, 2]},
        {"step": 1},
        [1, 2],
        pytest.param(torch.zeros(3)),
    ],
    ids=["empty", "other shapes", "lists", "no weights", "list", "tensor"],
)
def test_a_checkpoint_of_something_else_is_refused(content, coqui_files, tmp_path):
    bad = write(tmp_path / "other.pth", content)
    refuses("ge2e", {"model_path": str(bad)}, bad)
    refuses("coqui", coqui_files["resnet"].params() | {"model_path": str(bad)}, bad)


def test_the_checkpoint_of_another_architecture_is_refused(coqui_files):
    bad = coqui_files["lstm"].model_path
    refuses("coqui", coqui_files["resnet"].params() | {"model_path": str(bad)}, bad)
    refuses("ge2e", {"model_path": str(bad)}, bad)


def test_an_onnx_model_of_something_else_is_refused(tmp_path):
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [value], [value])
    bad = tmp_path / "other.onnx"
    onnx.save(onnx.helper.make_model(graph), bad)
    refuses("dvector", {"model_path": str(bad)}, bad)


def test_an_onnx_model_with_a_tensor_cut_short_is_refused(tmp_path):
    model = onnx.load(SHIPPED_DVECTOR)
    weight = next(tensor for tensor in model.graph.initializer if len(tensor.raw_data) > 1000)
    weight.raw_data = weight.raw_data[:100]
    bad = tmp_path / "short.onnx"
    onnx.save(model, bad)
    refuses("dvector", {"model_path": str(bad)}, bad)


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        {"model": "vits"},
        {"model": "speaker_encoder"},
        pytest.param({"model": "no_such_model"}),
    ],
    ids=["empty", "list", "vits", "defaults", "unknown"],
)
def test_a_config_of_something_else_is_refused(content, coqui_files, tmp_path):
    bad = tmp_path / "other.json"
    bad.write_text(json.dumps(content))
    refuses("coqui", coqui_files["resnet"].params() | {"config_path": str(bad)}, bad)


def changed_config(files, folder: Path, **sections: dict[str, object]) -> dict[str, str]:
    """Parameters of an encoder whose config differs in the given keys of its sections."""
    config = json.loads(files.config_path.read_text())
    for section, values in sections.items():
        config[section].update(values)
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return files.params() | {"config_path": str(path)}


@pytest.mark.parametrize(
    ("key", "audio"),
    [
        ("stats_path", {"stats_path": "stats.npy", "signal_norm": True}),
        ("stft_pad_mode", {"stft_pad_mode": "symmetric"}),
        ("mel_fmax", {"mel_fmax": 9000.0}),
        ("mel_fmax", {"mel_fmin": 900.0, "mel_fmax": 800.0}),
        ("db_level", {"db_level": None}),
        ("db_level", {"db_level": 3.0}),
        ("min_level_db", {"min_level_db": 0}),
        ("win_length", {"win_length": 1024}),
        ("num_mels", {"num_mels": 40}),
    ],
)
@pytest.mark.parametrize("kind", ["resnet", "lstm"])
def test_features_of_coquis_that_cannot_be_reproduced_are_refused(kind, key, audio, coqui_files, tmp_path):
    params = changed_config(coqui_files[f"{kind}-audio-processor"], tmp_path, audio=audio)
    with pytest.raises(EncoderError, match=re.escape(params["config_path"]) + f".*{key}"):
        build_encoder("coqui", params)


@pytest.mark.parametrize(
    ("audio", "refused"),
    [
        ({}, True),
        ({"signal_norm": True}, True),
        ({"signal_norm": True, "symmetric_norm": False, "clip_norm": False}, True),
        ({"signal_norm": True, "symmetric_norm": False}, False),
        ({"do_amp_to_db_mel": False}, False),
    ],
)
def test_a_logarithm_of_negative_features_is_refused(audio, refused, coqui_files, tmp_path):
    files = coqui_files["resnet-audio-processor"]
    params = changed_config(files, tmp_path, audio=audio, model_params={"log_input": True})
    if refused:
        with pytest.raises(EncoderError, match=re.escape(params["config_path"]) + ".*log_input"):
            build_encoder("coqui", params)
    else:
        assert torch.isfinite(build_encoder("coqui", params).eval()(torch.zeros(1, 16000))).all()


@pytest.mark.parametrize("kind", ["lstm", "lstm-audio-processor"])
@pytest.mark.parametrize(("key", "value"), [("log_func", "np.log2"), ("sample_rate", "16 kHz"), ("signal_norm", "no")])
def test_a_setting_of_the_wrong_type_is_named_and_does_not_reset_the_others(kind, key, value, coqui_files, tmp_path):
    # Coqui warns, and takes the defaults of the whole section: 22,050 Hz among them
    params = changed_config(coqui_files[kind], tmp_path, audio={key: value})
    with pytest.raises(EncoderError, match="^" + re.escape(params["config_path"]) + f".*audio.*{key}.*`{value}`"):
        build_encoder("coqui", params)
