import csv
import pickle
import re
import warnings
import zipfile
from pathlib import Path

import hub_encoder_files
import pytest
import soundfile
import torch
import transformers
from speechbrain.lobes.models.ResNet import ResNet
from torch import Tensor, nn
from torch.nn.functional import normalize

from coqui_scl_plugin import build_encoder
from coqui_scl_plugin.encoders.loading.torchscript_calls import checked_calls
from coqui_scl_plugin.encoders.torchscript import TorchScriptEncoder
from coqui_scl_plugin.errors import ConfigError, EncoderError


class Mean(nn.Module):
    """The mean of the first frames of ten samples, through a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(10, 4)

    def forward(self, waveform: Tensor) -> Tensor:
        return self.layer(waveform.unfold(1, 10, 10).mean(dim=1))


class Saves(Mean):
    def forward(self, waveform: Tensor) -> Tensor:
        torch.save(waveform, "CREATED")
        return self.layer(waveform.unfold(1, 10, 10).mean(dim=1))


class SavesWhenLoaded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.ones(4)

    def forward(self, waveform: Tensor) -> Tensor:
        return waveform[:, :4] * self.scale

    @torch.jit.export
    def __getstate__(self) -> tuple[Tensor, bool]:
        return self.scale, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[Tensor, bool]) -> None:
        torch.save(state[0], "CREATED")
        self.scale = state[0]
        self.training = state[1]


class MapsAFile(Mean):
    def forward(self, waveform: Tensor) -> Tensor:
        return self.layer(waveform.unfold(1, 10, 10).mean(dim=1)) + torch.from_file("CREATED", True, 4)


class Profiles(Mean):
    def forward(self, waveform: Tensor) -> Tensor:
        torch.ops.profiler._record_function_enter("a", None)
        return self.layer(waveform.unfold(1, 10, 10).mean(dim=1))


class TooShort(Mean):
    def forward(self, waveform: Tensor) -> Tensor:
        if waveform.shape[1] < 20000:
            raise ValueError("needs 20000 samples")
        return self.layer(waveform.unfold(1, 10, 10).mean(dim=1))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(10, 8, batch_first=True)

    def forward(self, waveform: Tensor) -> Tensor:
        return self.lstm(waveform.unfold(1, 10, 10))[0][:, -1]


class Result(nn.Module):
    """Of another kind than an embedding."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, waveform: Tensor) -> Tensor:
        if self.kind == "three dimensions":
            return waveform.unfold(1, 100, 100)[:, :3]
        if self.kind == "one dimension":
            return waveform.mean(dim=1)
        if self.kind == "one row":
            return waveform[:1, :9]
        if self.kind == "double":
            return waveform[:, :9].double()
        if self.kind == "not finite":
            return waveform[:, :9] / 0
        if self.kind == "as long as the sound":
            return waveform
        return waveform[:, :9]


class Pair(nn.Module):
    def forward(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        return waveform[:, :9], waveform[:, :9]


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return hub_encoder_files.write_torchscript(tmp_path_factory.mktemp("torchscript"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> None:
    """What a program writes to CREATED lands there."""
    monkeypatch.chdir(tmp_path)


def quietly(function, *arguments, **keywords):
    """Without the warnings that torch.jit is deprecated, and what tracing warns of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*arguments, **keywords)


def scripted(module: nn.Module, path: Path = Path("module.pt")) -> Path:
    quietly(torch.jit.script, module.eval()).save(str(path))
    return path


def load(path: Path) -> nn.Module:
    return quietly(torch.jit.load, str(path))


def with_code(source: Path, old: str, new: str) -> Path:
    """A copy with other text in its code."""
    path, found = Path("rewritten.pt"), False
    with zipfile.ZipFile(source) as before, zipfile.ZipFile(path, "w") as after:
        for info in before.infolist():
            content = before.read(info)
            if info.filename.endswith(".py"):
                found |= old.encode() in content
                content = content.replace(old.encode(), new.encode())
            after.writestr(info, content)
    assert found
    return path


def refuses(path: Path, *parts: str, **params: int) -> None:
    with pytest.raises(EncoderError) as caught:
        TorchScriptEncoder(str(path), **params)
    assert all(part in str(caught.value) for part in (str(path), *parts)), str(caught.value)


def assert_agrees(path: Path, waveform: Tensor) -> None:
    with torch.no_grad():
        ours, own = TorchScriptEncoder(str(path))(waveform), load(path).eval()(waveform)
    torch.testing.assert_close(ours, normalize(own, dim=1), rtol=0, atol=1e-4)


@pytest.fixture(params=[True, False], ids=["profiling executor", "legacy executor"])
def either_executor(request):
    """SpeechBrain, for one, switches a process to the legacy one."""
    before = torch._C._jit_set_profiling_executor(request.param)
    yield
    torch._C._jit_set_profiling_executor(before)


@pytest.mark.parametrize("samples", [16000, 30000])
def test_embeddings_equal_those_of_the_program(file, speech_like, samples):
    assert_agrees(file, speech_like(3, samples))


def test_embeddings_of_real_speech_equal_those_of_the_program(file, libri10):
    with (libri10 / "metadata.csv").open(newline="") as table:
        first = next(csv.DictReader(table, delimiter="|", quoting=csv.QUOTE_NONE))
    assert_agrees(file, torch.from_numpy(soundfile.read(libri10 / first["audio_file"], dtype="float32")[0])[None])


def test_loading_leaves_the_random_states_of_all_devices_alone(file, monkeypatch):
    def seeds_gpus(seed: int) -> None:
        raise AssertionError("torch.manual_seed also reseeds every GPU, which fork_rng(devices=[]) does not undo")

    before = torch.get_rng_state()
    monkeypatch.setattr(torch, "manual_seed", seeds_gpus)
    TorchScriptEncoder(str(file))
    assert torch.equal(torch.get_rng_state(), before)


def test_says_what_it_was_told(file):
    encoder = build_encoder("torchscript", {"model_path": str(file), "sample_rate": 22050, "min_samples": 4000})
    assert (encoder.sample_rate, encoder.min_samples, encoder.embedding_dim) == (22050, 4000, 48)
    for name in ("sample_rate", "min_samples"):
        with pytest.raises(ConfigError, match=rf"^params\.{name} = 0"):
            build_encoder("torchscript", {"model_path": str(file), name: 0})


@pytest.mark.usefixtures("either_executor")
def test_the_gradient_is_that_of_the_same_layers_in_eager_mode(file, speech_like):
    encoder = TorchScriptEncoder(str(file)).requires_grad_(False)
    eager = hub_encoder_files._MelsAndConvolution().eval().requires_grad_(False)
    eager.load_state_dict(encoder.model.state_dict())
    for samples in (16000, 16000, 30000, 20000):  # an optimising executor changes its mind at the second and third
        for_ours, for_eager = (speech_like(2, samples).requires_grad_() for _ in range(2))
        encoder(for_ours)[:, 0].sum().backward()
        normalize(eager(for_eager), dim=1)[:, 0].sum().backward()
        assert for_eager.grad.norm() > 1e-6
        assert (for_ours.grad - for_eager.grad).norm() < 1e-3 * for_eager.grad.norm()


def test_is_frozen_by_every_policy(file, speech_like, stays_frozen):
    stays_frozen(TorchScriptEncoder(str(file)), speech_like(2, 16000))


def test_a_program_that_torch_froze_can_be_frozen(speech_like, stays_frozen):
    quietly(torch.jit.freeze, quietly(torch.jit.script, Mean().eval())).save("frozen.pt")
    stays_frozen(TorchScriptEncoder("frozen.pt"), speech_like(2, 16000))


def test_loading_draws_no_random_numbers(file):
    before = torch.random.get_rng_state()
    TorchScriptEncoder(str(file))
    assert torch.equal(torch.random.get_rng_state(), before)


def traced_transformer() -> nn.Module:
    class Embeddings(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            size = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
            lengths = {"conv_dim": (32,) * 7, "tdnn_dim": (48, 48, 48, 48, 96), "num_conv_pos_embedding_groups": 4}
            self.model = transformers.WavLMForXVector(transformers.WavLMConfig(**size, **lengths)).eval()

        def forward(self, waveform: Tensor) -> Tensor:
            return self.model(waveform, return_dict=False)[1]

    return Embeddings()


def traced_resnet() -> nn.Module:
    class OnFrames(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.resnet = ResNet(input_size=16, channels=[8, 8, 16, 16], block_sizes=[1, 1, 1, 1], lin_neurons=12)

        def forward(self, waveform: Tensor) -> Tensor:
            return self.resnet(waveform.unfold(1, 16, 16))

    return OnFrames().eval()


@pytest.mark.parametrize("make", [traced_transformer, traced_resnet])
def test_the_code_of_real_encoders_is_understood(make):
    module = make()
    quietly(torch.jit.trace, module, torch.randn(2, 16000), check_trace=False).save("traced.pt")
    calls = checked_calls(Path("traced.pt"))
    assert {"forward", "linear"} <= calls
    assert not {"save", "from_file"} & calls
    waveform = torch.randn(2, 16000)
    with torch.no_grad():
        torch.testing.assert_close(load(Path("traced.pt"))(waveform), module(waveform), rtol=0, atol=1e-4)


def test_a_traced_encoder_that_takes_any_length_is_built():
    quietly(torch.jit.trace, traced_resnet(), torch.randn(2, 16000)).save("traced.pt")
    assert TorchScriptEncoder("traced.pt").embedding_dim == 12


def test_recurrent_layers_are_known(file):
    assert TorchScriptEncoder(str(scripted(Recurrent())))._recurrent
    assert not TorchScriptEncoder(str(file))._recurrent


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("three dimensions", "returns [2, 3, 100] of torch.float32"),
        ("one dimension", "returns [2] of torch.float32"),
        ("one row", "returns [1, 9] of torch.float32"),
        ("double", "returns [2, 9] of torch.float64"),
        ("not finite", "not finite"),
        ("as long as the sound", "depends on the length"),
    ],
)
def test_a_program_that_gives_no_embeddings_is_refused(kind, part):
    TorchScriptEncoder(str(scripted(Result("embedding"))))
    refuses(scripted(Result(kind)), part)


def test_a_program_that_gives_a_pair_is_refused():
    refuses(scripted(Pair()), "returns a tuple")


def test_a_program_that_needs_longer_waveforms_says_so():
    path = scripted(TooShort())
    refuses(path, "[2, 16000]", "needs 20000 samples", "raise min_samples, now 16000")
    assert TorchScriptEncoder(str(path), min_samples=20000).embedding_dim == 4


def test_a_program_traced_at_one_length_is_refused():
    class OneLength(Mean):
        def forward(self, waveform: Tensor) -> Tensor:
            return self.layer(waveform.view(int(waveform.shape[0]), 1600, 10).mean(dim=1))

    quietly(torch.jit.trace, OneLength(), torch.randn(2, 16000)).save("traced.pt")
    refuses(Path("traced.pt"), "[2, 32001]", "traced at one length")


@pytest.mark.parametrize("module", [Saves, SavesWhenLoaded, MapsAFile], ids=lambda module: module.__name__)
def test_a_program_that_touches_files_is_refused_and_does_not_run(module):
    path = scripted(module())
    refuses(path, "torch.from_file" if module is MapsAFile else "torch.save", "not loaded")
    assert not Path("CREATED").exists()
    load(path)(torch.randn(2, 16000))
    assert Path("CREATED").exists()  # and it would have


@pytest.mark.parametrize(
    "code",
    [
        "f = torch.save\n    f(waveform, 'CREATED')",
        "t = torch\n    t.save(waveform, 'CREATED')",
        "getattr(torch, 'save')(waveform, 'CREATED')",
        "getattr(torch, 'sa' 've')(waveform, 'CREATED')",
        "ops.aten.save(waveform, 'CREATED')",
        "o = ops.aten\n    o.save(waveform, 'CREATED')",
        "o = ops\n    x = o.profiler._record_function_enter('a', None)",
        "x = ops.profiler._record_function_enter('a', None)",
        "x = ops.inductor._alloc_from_pool(waveform, 0, 6, [1], [1])",
        "x = __torch__.torch.classes.profiler._RecordFunction()",
        "c = __torch__.torch\n    x = c.classes.profiler._RecordFunction()",
        "x = rpc_async(waveform, 'a')",
    ],
)
def test_code_that_reaches_further_under_any_name_is_refused(code):
    refuses(
        with_code(scripted(Mean()), "    layer = self.layer\n", f"    {code}\n    layer = self.layer\n"), "not loaded"
    )
    assert not Path("CREATED").exists()


@pytest.mark.parametrize("code", ["x = (", "getattr(torch, waveform)", "x = " + 3000 * "(" + "1" + 3000 * ")", "\x00"])
def test_code_that_cannot_be_understood_is_refused(code):
    refuses(with_code(scripted(Mean()), "    layer = self.layer\n", f"    {code}\n    layer = self.layer\n"), "code")


def test_objects_of_native_classes_are_refused():
    path = scripted(Mean())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("module/constants/data.pkl", b"c__torch__.torch.classes.profiler\n_RecordFunction\n")
    refuses(path, "torch.classes")


def test_the_format_of_old_is_refused():
    path = scripted(Mean())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("module/model.json", "{}")
    refuses(path, "PyTorch 1.0")


def test_a_program_of_another_library_is_refused():
    refuses(scripted(Profiles()), "ops.profiler._record_function_enter")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(share, file):
    path = Path("truncated.pt")
    path.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    refuses(path, "not a readable TorchScript file")


def test_files_of_something_else_are_refused():
    path = Path("other.pt")
    for content in (b"", b"This is no speaker encoder.\n", pickle.dumps({"a": 1})):
        path.write_bytes(content)
        refuses(path, "not a readable TorchScript file")
    torch.save({"model": torch.zeros(3)}, path)
    refuses(path, "not a readable TorchScript file")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "text")
    refuses(path, "not a readable TorchScript file")


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    refuses(tmp_path / "missing.pt", "does not exist")
    refuses(tmp_path, "does not exist")


def test_an_error_while_loading_is_named():
    class Raises(SavesWhenLoaded):
        @torch.jit.export
        def __setstate__(self, state: tuple[Tensor, bool]) -> None:
            raise ValueError("no state is good enough")

    with pytest.raises(EncoderError, match=re.escape("module.pt is not a readable TorchScript file")):
        TorchScriptEncoder(str(scripted(Raises())))
