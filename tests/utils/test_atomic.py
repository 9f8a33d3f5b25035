import shutil

import pytest

from coqui_scl_plugin.utils.atomic import replacing_folder


@pytest.fixture
def former(tmp_path):
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "old.txt").touch()
    return tmp_path / "made"


def fill_until_full(folder):
    with replacing_folder(folder) as temporary:
        (temporary / "new.txt").touch()
        raise OSError("full")


def fill_and_lose(folder):
    with replacing_folder(folder) as temporary:
        shutil.rmtree(temporary)


@pytest.mark.parametrize("fill", [fill_until_full, fill_and_lose])
def test_a_folder_that_cannot_be_replaced_is_as_it_was(former, fill):
    with pytest.raises(OSError, match=r"full|No such file"):
        fill(former)
    assert sorted(former.parent.rglob("*")) == [former, former / "old.txt"]
