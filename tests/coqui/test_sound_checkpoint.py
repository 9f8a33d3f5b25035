"""Torn checkpoints are named and set aside, and the newest sound one is used."""

import re

import pytest
import torch
from trainer.io import get_last_checkpoint, keep_n_checkpoints

from coqui_scl_plugin.coqui.restored import read_restored
from coqui_scl_plugin.coqui.sound_checkpoint import find_sound
from coqui_scl_plugin.errors import ConfigError

WEIGHTS = {"flow.a": torch.arange(999.0), "text_encoder.emb.weight": torch.ones(3, 2)}


def save(folder, name, step):
    torch.save({"model": WEIGHTS, "step": step, "epoch": 0, "optimizer": [], "config": {}}, folder / name)
    return folder / name


def empty(path):
    path.write_bytes(b"")


def cut(path):
    path.write_bytes(path.read_bytes()[:-700])


def cut_early(path):
    path.write_bytes(path.read_bytes()[:100])


def flip_a_weight(path):
    content = bytearray(path.read_bytes())
    content[content.index(torch.tensor([500.0, 501.0]).numpy().tobytes())] ^= 1
    path.write_bytes(content)


def flip_the_directory(path):
    content = bytearray(path.read_bytes())
    content[-22] ^= 255
    path.write_bytes(content)


def zeros(path):
    path.write_bytes(bytes(len(path.read_bytes())))


def weights_alone(path):
    torch.save(WEIGHTS, path)


def a_list(path):
    torch.save([1], path)


TEARS = {
    empty: "an empty file", cut: "cut off or damaged", cut_early: "cut off or damaged",
    flip_a_weight: r"damaged: the checksum of its part '.*data/0' is wrong", flip_the_directory: "damaged",
    zeros: "damaged", weights_alone: "no checkpoint of Coqui's trainer", a_list: "no checkpoint of Coqui's trainer",
}  # fmt: skip


@pytest.mark.parametrize(("tear", "why"), TEARS.items(), ids=[tear.__name__ for tear in TEARS])
def test_a_torn_one_is_set_aside(tmp_path, tear, why):
    for step in (4, 8, 12):
        save(tmp_path, f"checkpoint_{step}.pth", step)
    tear(tmp_path / "checkpoint_12.pth")
    torn = (tmp_path / "checkpoint_12.pth").read_bytes()
    found = find_sound(tmp_path)
    assert found.checkpoint == tmp_path / "checkpoint_8.pth"
    assert found.best == found.checkpoint
    assert re.search(rf"checkpoint_12\.pth is .*{why}", found.message)
    assert "4 steps are lost (from step 8 to step 12)" in found.message
    assert (tmp_path / "torn_checkpoint_12.pth.aside").read_bytes() == torn
    assert get_last_checkpoint(tmp_path)[0] == str(tmp_path / "checkpoint_8.pth")
    keep_n_checkpoints(tmp_path, 1)  # does not count what was set aside
    assert (tmp_path / "checkpoint_8.pth").exists()
    assert find_sound(tmp_path).message == ""


def test_a_torn_best_model_and_its_copy(tmp_path):
    save(tmp_path, "checkpoint_9.pth", 9)
    save(tmp_path, "best_model_6.pth", 6)
    cut(save(tmp_path, "best_model.pth", 6))
    found = find_sound(tmp_path)
    assert (found.checkpoint.name, found.best.name) == ("checkpoint_9.pth", "best_model_6.pth")
    assert "no step is lost" in found.message
    assert (tmp_path / "best_model.pth").read_bytes() == (tmp_path / "best_model_6.pth").read_bytes()
    weights_alone(tmp_path / "best_model.pth")
    find_sound(tmp_path)
    assert (tmp_path / "best_model.pth").read_bytes() == (tmp_path / "best_model_6.pth").read_bytes()
    cut(tmp_path / "best_model_6.pth")
    found = find_sound(tmp_path)
    assert found.best.name == "best_model.pth"
    assert found.checkpoint.name == "checkpoint_9.pth"


def test_a_newer_best_model_counts(tmp_path):
    save(tmp_path, "checkpoint_9.pth", 9)
    save(tmp_path, "best_model_12.pth", 12)
    assert find_sound(tmp_path).checkpoint.name == "best_model_12.pth"
    cut(tmp_path / "best_model_12.pth")
    cut(tmp_path / "best_model.pth")
    assert "3 steps are lost" in find_sound(tmp_path).message


def test_a_copy_of_a_former_best_model_is_made_again(tmp_path):
    """As a kill between Coqui's writing the one and the other leaves it."""
    save(tmp_path, "best_model.pth", 6)
    save(tmp_path, "best_model_12.pth", 12)
    find_sound(tmp_path)
    assert torch.load(tmp_path / "best_model.pth", weights_only=True)["step"] == 12


@pytest.mark.parametrize("older", [True, False])
def test_a_copy_of_a_torn_best_model_counts(tmp_path, older):
    """It is what is left of the newest steps, and no older best model may take its place."""
    save(tmp_path, "checkpoint_9.pth", 9)
    if older:  # with `save_all_best`
        save(tmp_path, "best_model_6.pth", 6)
    cut(save(tmp_path, "best_model_12.pth", 12))
    save(tmp_path, "best_model.pth", 12)
    found = find_sound(tmp_path)
    assert (found.checkpoint.name, found.best.name) == ("best_model.pth", "best_model.pth")
    assert "The run goes on from best_model.pth; no step is lost." in found.message
    assert torch.load(tmp_path / "best_model.pth", weights_only=True)["step"] == 12
    assert find_sound(tmp_path).checkpoint.name == "best_model.pth"


def test_none_is_sound(tmp_path):
    for step in (4, 8):
        empty(save(tmp_path, f"checkpoint_{step}.pth", step))
    with pytest.raises(ConfigError, match=r"none of its checkpoints is sound.*checkpoint_8\.pth is an empty.*--config"):
        find_sound(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint_4.pth", "checkpoint_8.pth"]


def test_there_is_none(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no checkpoint in it\. Start it again: .*smaller save_step"):
        find_sound(tmp_path)


def test_a_torn_one_to_start_from_is_named_with_a_sound_one(tmp_path):
    save(tmp_path, "checkpoint_4.pth", 4)
    cut(save(tmp_path, "checkpoint_8.pth", 8))
    with pytest.raises(ConfigError, match=r"cut off.*newest sound checkpoint beside it is .*checkpoint_4\.pth"):
        read_restored(str(tmp_path / "checkpoint_8.pth"), continues=False)
    flip_a_weight(save(tmp_path, "checkpoint_8.pth", 8))
    restored = read_restored(str(tmp_path / "checkpoint_8.pth"), continues=False)
    assert restored.damaged is not None
    assert restored.instead == str(tmp_path / "checkpoint_4.pth")
