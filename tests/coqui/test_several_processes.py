"""Runs with two processes through `coqui-scl train` and Coqui's trainer, on real speech."""

import csv
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import train_process
from tiny_vits import dataset, run_config

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
TRAINED = 8
EVALUATED = 3


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    return kept | {"OMP_NUM_THREADS": "1", "SCL_PROCESS_TIMEOUT": "60", "CUDA_VISIBLE_DEVICES": ""} | more


def torchrun(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [*TORCHRUN, train_process.__file__, folder, "train", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment(**more), capture_output=True, text=True, timeout=600, check=False
    )


def two_alone(folder: Path, *arguments: str, **more: str) -> list[tuple[int, str, float]]:
    """Start two processes without a launcher that ends one when the other ends; return status, output and end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, **more}
    running = []
    for rank in ("0", "1"):
        with (folder / f"output-{rank}.txt").open("w") as output:
            command = [sys.executable, train_process.__file__, folder, "train", *arguments]
            variables = environment(RANK=rank, LOCAL_RANK=rank, **meeting)
            running.append(subprocess.Popen(command, cwd=folder, env=variables, stdout=output, stderr=output))
    ended: dict[int, float] = {}
    limit = time.monotonic() + 600
    while len(ended) < 2 and time.monotonic() < limit:
        ended |= {
            rank: time.monotonic()
            for rank, process in enumerate(running)
            if rank not in ended and process.poll() is not None
        }
        time.sleep(0.1)
    for process in running:
        process.kill()
    return [(p.wait(), (folder / f"output-{rank}.txt").read_text(), ended[rank]) for rank, p in enumerate(running)]


def write_config(folder: Path, libri10: Path, **changes: object) -> None:
    """Write the config of a run on the shortest recordings of four speakers."""
    with (libri10 / "metadata.csv").open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines, delimiter="|"))
    by_speaker: dict[str, list[dict[str, str]]] = {}
    for row in sorted(rows, key=lambda row: (libri10 / row["audio_file"]).stat().st_size):
        by_speaker.setdefault(row["speaker_name"], []).append(row)
    chosen = [row for own in list(by_speaker.values())[:4] for row in own[:3]][: TRAINED + EVALUATED]
    speech = folder / "speech"
    for row in chosen:
        (speech / row["audio_file"]).parent.mkdir(parents=True, exist_ok=True)
        (speech / row["audio_file"]).symlink_to((libri10 / row["audio_file"]).resolve())
    with (speech / "metadata.csv").open("w", encoding="utf-8", newline="") as lines:
        writer = csv.DictWriter(lines, list(rows[0]), delimiter="|")
        writer.writeheader()
        writer.writerows(chosen)
    config = run_config(
        speech,
        datasets=[dataset(speech)],
        batch_size=2,
        eval_batch_size=1,
        eval_split_size=EVALUATED,
        epochs=2,
        print_step=1,
        save_step=3,
        scl={
            "loss": {"name": "angular_margin"},
            "reference": {"source": "centroid", "cache": str(folder / "references.safetensors")},
            "freeze": {"check_every": 1},
            **changes,
        },
    )
    (folder / "config.json").write_text(json.dumps(config))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, libri10: Path) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("two")
    write_config(folder, libri10)
    process = torchrun(folder, "--config_path", "config.json", ACCIDENT="nan:1:2")
    assert process.returncode == 0, process.stdout[-3000:] + process.stderr[-3000:]
    return folder, process


def test_a_run_of_two_has_one_folder_and_one_set_of_records(finished):
    folder, process = finished
    printed = process.stdout + process.stderr
    (run,) = (folder / "runs").iterdir()
    names = {path.name for path in run.iterdir()}
    assert {"config.json", "freeze_report.json", "preflight.json", "scl_history.csv", "best_model.pth"} <= names
    assert len([name for name in names if name.startswith("events.out")]) == 1
    assert "trainer_1_log.txt" not in names
    assert printed.count("GLOBAL_STEP: 0") == 1
    assert printed.count("Real speech by ge2e") == 1


def test_both_end_with_the_same_parameters_and_had_data_of_their_own(finished):
    folder, _ = finished
    one, other = (torch.load(folder / f"parameters-{rank}.pt", weights_only=True) for rank in (0, 1))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert all(bool(parameter.isfinite().all()) for parameter in one.values())
    orders = [json.loads((folder / f"order-{rank}.json").read_text()) for rank in (0, 1)]
    assert sorted(orders[0] + orders[1]) == list(range(TRAINED))


def test_a_reference_that_is_nan_in_one_process_is_named_by_that_one_alone(finished):
    _, process = finished
    printed = process.stdout + process.stderr
    assert printed.count("left out, since the reference by encoder 'ge2e' is not finite for ") == 1
    assert printed.count("left out, since it is not finite in another process, which says why") == 1
    assert printed.count("bad step 1 of this run") == 2


def test_the_evaluation_counts_each_recording_once(finished):
    folder, _ = finished
    (run,) = (folder / "runs").iterdir()
    held_out = json.loads((run / "evaluation_set.json").read_text())
    assert json.loads((folder / "evaluated.json").read_text()) == {"ge2e": held_out}
    with (run / "scl_history.csv").open() as lines:
        assert [row["epoch"] for row in csv.DictReader(lines)] == ["0", "1"]


def test_a_run_continues_and_ends_with_a_message_when_a_process_is_killed(finished):
    folder, _ = finished
    (run,) = (folder / "runs").iterdir()
    before = {path.name for path in run.iterdir()}
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "epochs": 9}))
    (main, other) = two_alone(folder, "--continue_path", str(run), ACCIDENT="kill:1:6")
    assert other[0] == -9
    assert main[0] == 1, main[1][-2000:]
    assert main[2] - other[2] < 60
    assert "Process 0 of 2 lost contact with the others" in main[1]
    assert "GLOBAL_STEP: 5" in main[1] or "GLOBAL_STEP: 4" in main[1]
    assert before <= {path.name for path in run.iterdir()}
    assert list((folder / "runs").iterdir()) == [run]


@pytest.mark.nightly
def test_a_drift_in_one_process_ends_all(tmp_path, libri10):
    write_config(tmp_path, libri10)
    (main, other) = two_alone(tmp_path, "--config_path", "config.json", ACCIDENT="drift:1:2")
    assert (main[0], other[0]) == (1, 1)
    assert "process 1 stopped the run: The frozen speaker encoder 'ge2e' changed" in main[1]


@pytest.mark.nightly
def test_a_config_that_is_refused_is_refused_once(tmp_path, libri10):
    write_config(tmp_path, libri10, weight=-1)
    (main, other) = two_alone(tmp_path, "--config_path", "config.json")
    assert main[0] == 2
    assert "scl.weight = -1" in main[1]
    assert other[0] == 1
    assert "the main process did not start the run" in other[1]
    assert "scl.weight" not in other[1]
    assert not (tmp_path / "runs").exists()
