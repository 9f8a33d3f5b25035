"""What launchers set, and what of it is refused."""

import multiprocessing
import os
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from trainer import TrainerArgs

from coqui_scl_plugin import SclVits
from coqui_scl_plugin.coqui.distributed import check_group, joined
from coqui_scl_plugin.coqui.launch import Launch, launched
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.utils import processes

NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "SLURM_PROCID", "JSM_NAMESPACE_RANK", "CUDA_VISIBLE_DEVICES")
DISTRIBUTE = ["--continue_path=", "--group_id=group_1", "--use_ddp=true", "--config_path", "c.json"]


@pytest.fixture(autouse=True)
def variables(monkeypatch):
    for name in (*NAMES, processes.TIMEOUT):
        monkeypatch.delenv(name, raising=False)
    return lambda **given: [monkeypatch.setenv(name, value) for name, value in given.items()]


@pytest.mark.parametrize(
    ("given", "arguments", "expected", "gpu"),
    [
        ({}, [], Launch(), None),
        ({"RANK": "0", "WORLD_SIZE": "1"}, [], Launch(), None),
        ({"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4"}, [], Launch(3, 4), "1"),
        ({"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "CUDA_VISIBLE_DEVICES": "5,7"}, [], Launch(1, 2), "7"),
        ({"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "CUDA_VISIBLE_DEVICES": "6"}, [], Launch(1, 2), "6"),
        (
            {"RANK": "1", "CUDA_VISIBLE_DEVICES": "4,5"},
            [*DISTRIBUTE, "--rank=1"],
            Launch(1, 2, "tcp://localhost:54321"),
            "5",
        ),
    ],
)
def test_what_launchers_set_is_read_and_each_process_sees_one_gpu(variables, given, arguments, expected, gpu):
    variables(**given)
    assert launched(arguments) == expected
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == gpu


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"RANK": "1"}, "RANK = 1 is set, and no WORLD_SIZE greater than 1"),
        ({"SLURM_PROCID": "2"}, "SLURM_PROCID = 2 is set, and no WORLD_SIZE"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE = 2 is set, and RANK is not"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK = 2: must be less than the number of processes, 2"),
        ({"RANK": "x", "WORLD_SIZE": "2"}, "RANK = 'x': must be a whole number"),
        ({"RANK": "2", "WORLD_SIZE": "3", "CUDA_VISIBLE_DEVICES": "0,1"}, "names 2 GPUs, and each process needs one"),
    ],
)
def test_what_does_not_fit_together_is_refused(variables, given, message):
    variables(**given)
    with pytest.raises(ConfigError, match=message):
        launched([])


@pytest.mark.parametrize("given", ["0", "-1", "soon", "nan", "1e9"])
def test_a_timeout_must_be_a_number_of_seconds(variables, given):
    variables(SCL_PROCESS_TIMEOUT=given)
    with pytest.raises(ConfigError, match=f"SCL_PROCESS_TIMEOUT = '{given}': must be a number of seconds"):
        processes.timeout()


def test_the_timeout_is_ten_minutes_unless_it_is_set(variables):
    assert processes.timeout() == timedelta(minutes=10)
    variables(SCL_PROCESS_TIMEOUT="2.5")
    assert processes.timeout() == timedelta(seconds=2.5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"WORLD_SIZE": "2", "RANK": "0"}, "WORLD_SIZE = 2 is set, but the processes are no group"),
        ({"RANK": "1"}, "RANK = 1 is set, and no WORLD_SIZE"),
    ],
)
def test_a_script_without_a_group_is_refused(variables, tiny_config, make_trainer, tmp_path, given, message):
    variables(**given)
    with pytest.raises(ConfigError, match=message):
        make_trainer(SclVits(tiny_config()))
    assert not list((tmp_path / "runs").iterdir())


def test_a_script_that_does_not_tell_the_trainer_its_rank_is_refused():
    with pytest.raises(ConfigError, match="rank = 1, but this is process 0 of 1"):
        check_group(SimpleNamespace(args=TrainerArgs(rank=1)))


def hear_from_slow_main(rank: int, meeting: Path) -> None:
    with joined(Launch(rank, 2, f"file://{meeting}")):
        if rank == 0:
            time.sleep(3)
        assert processes.from_main("starts" if rank == 0 else None) == "starts"


def test_before_step_1_a_process_waits_for_the_main_one_longer_than_the_timeout(variables, tmp_path):
    variables(SCL_PROCESS_TIMEOUT="1.5")
    context = multiprocessing.get_context("fork")
    running = [context.Process(target=hear_from_slow_main, args=(rank, tmp_path / "meet")) for rank in (0, 1)]
    for process in running:
        process.start()
    for process in running:
        process.join(60)
    assert [process.exitcode for process in running] == [0, 0]
