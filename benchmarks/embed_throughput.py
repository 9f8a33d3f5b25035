"""Compare `coqui-scl embed` with Coqui's compute_embeddings: the same ResNet and recordings, in separate processes."""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from coqui_encoder_files import CoquiFiles, write_coqui_encoder

from benchmarks.speech import FOLDER, need_speech

_FEW_RECORDINGS = 10


def _config(folder: Path, files: CoquiFiles, rows: list[dict[str, str]]) -> Path:
    """Write a config for these recordings that both commands read."""
    listing = folder / "metadata.csv"
    with listing.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="|", quoting=csv.QUOTE_NONE, escapechar="\\")
        writer.writeheader()
        writer.writerows(rows)
    dataset = {"formatter": "coqui", "path": str(FOLDER.resolve()), "meta_file_train": str(listing.resolve())}
    config: dict[str, Any] = {
        "model": "vits",
        "output_path": str(folder),
        "datasets": [dataset],
        "eval_split_size": 0.2,
        "scl": {"encoders": [{"name": "coqui", "params": files.params()}]},
    }
    path = folder / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


def _seconds(command: list[str]) -> float:
    started = time.perf_counter()
    process = subprocess.run(command, check=False, capture_output=True, text=True)
    if process.returncode:
        sys.exit(process.stderr)
    return time.perf_counter() - started


def _both(folder: Path, files: CoquiFiles, rows: list[dict[str, str]]) -> tuple[float, float]:
    """Time Coqui's command and ours from start to end, in seconds."""
    folder.mkdir()
    config = str(_config(folder, files, rows))
    stock = [sys.executable, "-m", "TTS.bin.compute_embeddings", "--no_eval", "--config_dataset_path", config]
    stock += ["--model_path", str(files.model_path), "--config_path", str(files.config_path)]
    stock += ["--output_path", str(folder / "speakers.pth")]
    ours = [sys.executable, "-m", "coqui_scl_plugin", "embed", "--config_path", config]
    return _seconds(stock), _seconds(ours)


def main() -> None:
    """Time both commands on ten recordings and on all; the difference excludes the time that they need to start."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args()
    need_speech()
    with (FOLDER / "metadata.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="|", quoting=csv.QUOTE_NONE))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write_coqui_encoder("resnet", folder)
        few, all_rows = _both(folder / "few", files, rows[:_FEW_RECORDINGS]), _both(folder / "all", files, rows)
    count = len(rows) - len(rows[:_FEW_RECORDINGS])
    rates = [count / (a - b) for a, b in zip(all_rows, few, strict=True)]
    for label, seconds, rate in zip(("compute_embeddings", "coqui-scl embed"), all_rows, rates, strict=True):
        sys.stdout.write(f"{label:20} {seconds:6.1f} s for {len(rows)} recordings, {rate:5.2f} a second once started\n")
    ratio, whole = rates[1] / rates[0], all_rows[0] / all_rows[1]
    sys.stdout.write(f"ratio                {ratio:6.2f} once started, {whole:.2f} from start to end\n")


if __name__ == "__main__":
    main()
