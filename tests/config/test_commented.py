from pathlib import Path

from TTS.config import read_json_with_comments

from coqui_scl_plugin.config import read_config_file
from coqui_scl_plugin.config.commented import commented_json

CONFIG = {
    "model": "scl_vits",
    "model_args": {"a": 1, "b": None},
    "audio": {},
    "datasets": [
        {"path": "https://somewhere//x", "formatter": "coqui", "meta_file_train": "a" * 60},
        {"path": 'a"//b'},
    ],
    'key // "no comment"': [1.5, True, "ü"],
    "scl": {"weight": 9.0, "encoders": [{"name": "ge2e"}]},
}
COMMENTS = {
    "model": "one",
    "scl.encoders": 'it\'s "quoted" // twice ' * 20,
    "model_args.b": "last",
    "not.there": "lost",
}


def test_this_package_and_coqui_read_what_was_written(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(commented_json(CONFIG, COMMENTS), encoding="utf-8")
    assert read_config_file(str(file)) == CONFIG
    assert read_json_with_comments(str(file)) == CONFIG


def test_a_comment_stands_above_its_key_in_short_lines() -> None:
    lines = commented_json(CONFIG, COMMENTS).splitlines()
    assert lines[lines.index('    "model": "scl_vits",') - 1] == "    // one"
    assert lines[lines.index('        "b": null') - 1] == "        // last"
    above = lines[: lines.index('        "encoders": [{"name": "ge2e"}]')]
    assert above[-1].startswith("        // ")
    assert sum("quoted" in line for line in above) > 1
    assert max(len(line) for line in lines if "//" in line and "path" not in line) <= 100
