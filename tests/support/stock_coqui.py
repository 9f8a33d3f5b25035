"""A program that speaks with exported model folders in a Coqui that knows no coqui_scl_plugin.

`python -P stock_coqui.py JOBS RESULTS`: each job names a folder, a text, a speaker and a language. Flask, which
`tts-server` needs and is an extra of Coqui, is a stand-in: it keeps the server's functions by their address.
"""

import contextlib
import io
import json
import sys
import types
from pathlib import Path
from typing import Any

SEED = 5


class _Refused:
    """Makes the package impossible to import, wherever it is installed."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] == "coqui_scl_plugin":
            raise ModuleNotFoundError(f"{name} is not installed here", name=name)


class _Flask:
    def __init__(self, name: str) -> None:
        self.view_functions: dict[str, Any] = {}

    def route(self, address: str, **_: Any) -> Any:
        return lambda function: self.view_functions.setdefault(address, function)


def _flask() -> types.ModuleType:
    module = types.ModuleType("flask")
    module.Flask, module.request = _Flask, types.SimpleNamespace(headers={}, values={})
    module.render_template = module.render_template_string = None
    module.send_file = lambda file, mimetype: file
    return module


def by_api(job: dict[str, Any]) -> dict[str, Any]:
    """Speak by `TTS.api.TTS`, and keep the samples."""
    import numpy as np
    import torch
    from TTS.api import TTS

    api = TTS(model_path=str(Path(job["folder"], "model.pth")), config_path=str(Path(job["folder"], "config.json")))
    torch.manual_seed(SEED)
    spoken = api.tts(job["text"], speaker=job["speaker"], language=job["language"])
    np.save(job["out"], np.asarray(spoken, dtype=np.float32))
    model = api.synthesizer.tts_model
    return {
        "class": type(model).__module__, "speakers": api.speakers, "languages": api.languages,
        "has_discriminator": hasattr(model, "disc"), "speaker_encoder": model.__dict__.get("speaker_encoder"),
    }  # fmt: skip


def by_tts(job: dict[str, Any]) -> dict[str, Any]:
    """Speak by the command `tts`, into a wav file."""
    from TTS.bin.synthesize import main

    files = ["--model_path", str(Path(job["folder"], "model.pth"))]
    files += ["--config_path", str(Path(job["folder"], "config.json"))]
    with contextlib.suppress(SystemExit):
        main([*files, "--text", job["text"], "--speaker_idx", job["speaker"], "--out_path", job["out"]])
    return {}


def by_server(job: dict[str, Any]) -> dict[str, Any]:
    """Ask `tts-server` for the text, and keep its wav file; say whether it is what the server's own model speaks."""
    import torch

    sys.modules["flask"] = _flask()
    files = ["--model_path", str(Path(job["folder"], "model.pth"))]
    sys.argv = ["tts-server", *files, "--config_path", str(Path(job["folder"], "config.json"))]
    from TTS.server import server

    server.request.values = {"text": job["text"], "speaker_id": job["speaker"]}
    torch.manual_seed(SEED)
    answer = server.app.view_functions["/api/tts"]()
    Path(job["out"]).write_bytes(answer.getvalue())
    torch.manual_seed(SEED)
    again = io.BytesIO()
    server.api.synthesizer.save_wav(server.api.tts(job["text"], speaker=job["speaker"]), again)
    return {"same": again.getvalue() == answer.getvalue()}


def by_onnx(job: dict[str, Any]) -> dict[str, Any]:
    """Speak by Coqui's `inference_onnx` without noise; return how far that is from torch."""
    import torch
    from TTS.config import load_config
    from TTS.tts.models.vits import Vits

    config = load_config(Path(job["folder"], "config.json"))
    model = Vits(config)
    model.load_checkpoint(config, str(Path(job["folder"], "model.pth")), eval=True)
    model.load_onnx(str(Path(job["folder"], "model.onnx")))
    model.inference_noise_scale = model.inference_noise_scale_dp = 0.0
    tokens = torch.tensor([model.tokenizer.text_to_ids(job["text"], language=job["language"])])
    speaker = model.speaker_manager.name_to_id[job["speaker"]]
    names = model.language_manager.name_to_id
    language = names[job["language"]] if job["language"] else None
    theirs = torch.from_numpy(model.inference_onnx(tokens, speaker_id=speaker, language_id=language))
    spoken = model.synthesize(job["text"], speaker=job["speaker"], language=job["language"])["wav"]
    ours = torch.from_numpy(spoken)[None]
    return {
        "lengths": [theirs.shape[-1], ours.shape[-1]],
        "difference": float((theirs - ours).abs().max() / ours.abs().max()),
    }


WAYS = {"api": by_api, "tts": by_tts, "server": by_server, "onnx": by_onnx}


def main() -> None:
    """Do the jobs of a file, each by its way, and write what each says to another."""
    sys.meta_path.insert(0, _Refused())
    import torch

    torch.set_num_threads(1)
    jobs = json.loads(Path(sys.argv[1]).read_text())
    results = Path(sys.argv[2])
    results.write_text(json.dumps([WAYS[job["way"]](job) for job in jobs]))


if __name__ == "__main__":
    main()
