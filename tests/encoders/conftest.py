"""Encoders to test, and speech-like sound for them."""

from collections.abc import Callable
from pathlib import Path

import hub_encoder_files
import pytest
from coqui_encoder_files import CoquiFiles
from torch import Tensor, nn

from coqui_scl_plugin import build_encoder
from coqui_scl_plugin.encoders.base import SpeakerEncoder
from coqui_scl_plugin.plugins.registry import installed
from coqui_scl_plugin.testing import speech_like
from coqui_scl_plugin.testing.frozen_training import require_frozen

HUB_NAMES = (
    *(f"speechbrain-{kind}" for kind in hub_encoder_files.SPEECHBRAIN),
    *(f"transformers-{kind}" for kind in hub_encoder_files.TRANSFORMERS),
    "torchscript",
)
NAMES = (
    "ge2e", "dvector", "campplus", "coqui-resnet", "coqui-lstm",
    "coqui-resnet-audio-processor", "coqui-lstm-audio-processor", *HUB_NAMES,
)  # fmt: skip
FREEZING = [name for name, entry in installed().entries("freeze_policies").items() if not entry.cls.trainable]


@pytest.fixture(scope="session", params=NAMES)
def encoder(
    request: pytest.FixtureRequest, coqui_files: dict[str, CoquiFiles], tmp_path_factory: pytest.TempPathFactory
) -> nn.Module:
    """Each encoder in turn, as a frozen one is: in eval mode, no gradient for its weights."""
    name, _, kind = request.param.partition("-")
    params = coqui_files[kind].params() if name == "coqui" else {}
    if request.param in HUB_NAMES:
        params = hub_encoder_files.params(request.param, tmp_path_factory.mktemp(request.param))
    return build_encoder(name, params).eval().requires_grad_(False)


@pytest.fixture(params=FREEZING)
def stays_frozen(request: pytest.FixtureRequest) -> Callable[[SpeakerEncoder, Tensor], None]:
    """A function that asserts, for each freezing policy, that it freezes the encoder and that gradients still pass."""
    policy = installed().get("freeze_policies", request.param, "policy")()

    def check(encoder: SpeakerEncoder, waveform: Tensor) -> None:
        require_frozen(encoder, policy, waveform, request.param)

    return check


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Path], None]:
    """A function that puts a folder into the hub's cache under a name; no network is there."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def put(name: str, folder: Path) -> None:
        commit = "0123456789abcdef0123456789abcdef01234567"
        repository = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text(commit)
        (repository / "snapshots").mkdir()
        (repository / "snapshots" / commit).symlink_to(folder, target_is_directory=True)

    return put


@pytest.fixture(scope="session", name="speech_like")
def _speech_like() -> Callable[..., Tensor]:
    """A function to `[rows, samples]` of sound that resembles speech."""
    return speech_like
