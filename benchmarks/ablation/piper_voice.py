"""The weights of a Piper voice, an ONNX file of VITS's generator at inference, by the names of Coqui's `Vits`.

Piper's file lacks the posterior encoder, the discriminator and the posterior flows of the duration predictor.
"""

import re
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

_MODULES = {"enc_p": "text_encoder", "dec": "waveform_decoder", "dp": "duration_predictor", "flow": "flow"}


def piper_weights(file: Path) -> dict[str, Tensor]:
    """Read the weights of a voice.

    Args:
        file: The voice, an ONNX file.

    Returns:
        Weights by parameter name in Coqui's `Vits`; those under weight norm as `original0` (norms) and `original1`.
    """
    graph = onnx.load(file).graph
    tensors = {tensor.name: torch.from_numpy(np.array(numpy_helper.to_array(tensor))) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in ("Conv", "ConvTranspose") and node.input[1].startswith("onnx::"):  # lost in the export
            owner = node.name.strip("/").removesuffix("/Conv").replace("/", ".")
            tensors[f"{owner}.weight"] = tensors[node.input[1]]
        if node.name == "/enc_p/emb/Gather":
            tensors["enc_p.emb.weight"] = tensors[node.input[0]]
        if node.op_type == "Mul" and node.name.startswith("/dp/flows.0/Mul"):  # holds exp(-log_scale)
            scales = [tensors[name] for name in node.input if name in tensors and tensors[name].numel() == 2]
            if scales:
                tensors["dp.flows.0.logs"] = -scales[0].log().view(2, 1)
    named = {_coqui_name(name): value for name, value in tensors.items() if name.split(".")[0] in _MODULES}
    return dict(pair for name, value in named.items() for pair in _as_weight_norm(name, value))


def _coqui_name(name: str) -> str:
    module, _, rest = name.partition(".")
    name = f"{_MODULES[module]}.{rest}"
    if module == "flow":  # Piper counts the flips in between
        return re.sub(r"flows\.(\d)", lambda found: f"flows.{int(found[1]) // 2}", name, count=1)
    if module == "dp":
        name = re.sub(r"flows\.(\d)", lambda found: f"flows.{(int(found[1]) + 1) // 2}", name, count=1)
        return name.replace("flows.0.m", "flows.0.translation").replace("flows.0.logs", "flows.0.log_scale")
    return name


def _is_normalised(name: str) -> bool:
    """Tell whether Coqui's module has weight norm: the decoder but for its ends, and the flow's WaveNets."""
    inner = re.search(r"waveform_decoder\.(ups|resblocks)\.|flow\..*\.enc\.(in_layers|res_skip_layers)\.", name)
    return bool(inner) and name.endswith(".weight")


def _as_weight_norm(name: str, value: Tensor) -> list[tuple[str, Tensor]]:
    if not _is_normalised(name):
        return [(name, value)]
    prefix = name.removesuffix(".weight") + ".parametrizations.weight.original"
    return [(f"{prefix}0", torch.linalg.vector_norm(value, dim=(1, 2), keepdim=True)), (f"{prefix}1", value)]
