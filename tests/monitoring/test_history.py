"""The history of a run's evaluations."""

import pytest

from coqui_scl_plugin.monitoring.history import Row, read_history, take_up_history, write_history


def test_the_file_gives_back_what_was_written(tmp_path):
    rows = [
        Row(10, 0, {"ge2e": 0.25, "my_encoder": 0.5}, {"ge2e": -0.125}),
        Row(20, 1, {"ge2e": 0.75, "my_encoder": 0.5}, {"ge2e": 1.25}, 'it rises, "alone"; and more'),
    ]
    write_history(tmp_path, rows)
    assert read_history(tmp_path) == rows
    assert [path.name for path in tmp_path.iterdir()] == ["scl_history.csv"]
    header = (tmp_path / "scl_history.csv").read_text().splitlines()[0]
    assert header == "step,epoch,cross_utterance_ge2e,calibrated_cross_utterance_ge2e,cross_utterance_my_encoder,flags"


def test_a_run_without_a_file_has_no_history(tmp_path):
    assert read_history(tmp_path) == []


def test_columns_of_an_earlier_version_are_read_and_written_by_their_new_names(tmp_path):
    file = tmp_path / "scl_history.csv"
    file.write_text("step,epoch,secs_ge2e,scaled_ge2e,secs_dvector,flags\n10,0,0.25,-0.125,0.5,odd\n")
    rows = read_history(tmp_path)
    assert rows == [Row(10, 0, {"ge2e": 0.25, "dvector": 0.5}, {"ge2e": -0.125}, "odd")]
    write_history(tmp_path, rows)
    assert "secs_" not in file.read_text()
    assert read_history(tmp_path) == rows


SOUND = "step,epoch,cross_utterance_ge2e,flags\n10,0,0.25,\n"


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (f"{SOUND}20,1,0.5".encode(), 1),
        (f"{SOUND}20,1,0.5,,,\n30,2,0.5,\n".encode(), 2),
        (f"{SOUND}x,1,0.5,\n".encode(), 1),
        (f"{SOUND}".encode() + bytes(200_000), 1),
        (SOUND.encode()[20:], 0),
        (bytes(range(256)), 0),
        (bytes(500), 0),
    ],
    ids=["cut", "columns", "number", "no end", "no header", "bytes", "zeros"],
)
def test_a_torn_file_is_set_aside_and_its_sound_lines_stay(tmp_path, caplog, content, kept):
    file = tmp_path / "scl_history.csv"
    file.write_bytes(content)
    assert [row.step for row in read_history(tmp_path)] == [10, 30][:kept]
    assert "cut off or damaged" in caplog.text
    assert file.read_bytes() == content
    assert [row.step for row in take_up_history(tmp_path)] == [10, 30][:kept]
    assert "torn_scl_history.csv.aside" in caplog.text
    assert (tmp_path / "torn_scl_history.csv.aside").read_bytes() == content
    caplog.clear()
    assert [row.step for row in take_up_history(tmp_path)] == [10, 30][:kept]
    assert caplog.text == ""
