"""The command `coqui-scl`, its help and its `list` and `run`: what they show, start, import and refuse."""

import importlib.metadata
import json
import re
from pathlib import Path

import pytest
from command_driver import run_script, slow_imports_of

from coqui_scl_plugin.plugins.optional import evidence
from coqui_scl_plugin.plugins.registry import installed


@pytest.mark.parametrize(
    "command", ["", "list", "run", "demo", "preflight", "evaluate", "listen", "export", "enable", "init", "encoders"]
)
def test_help_imports_neither_torch_nor_coqui(command: str) -> None:
    imported, _ = slow_imports_of(*command.split(), "-h")
    assert imported == set()


@pytest.mark.parametrize(
    ("command", "part"),
    [
        ("train", "--config_path"),
        ("run", "-m TTS.bin.NAME"),
        ("list", "--json"),
        ("demo", "--steps"),
        ("export", "--onnx"),
        ("listen", "--score"),
        ("init", "--from"),
        ("encoders", "get"),
        ("disable", "--json"),
    ],
)
def test_each_command_has_help(command: str, part: str) -> None:
    helped = run_script(command, "-h")
    assert (helped.status, helped.err) == (0, "")
    assert helped.out.lower().startswith(("usage: coqui-scl", "\nusage: coqui-scl"))
    assert part in helped.out
    assert command in run_script("-h").out


def test_version_imports_neither_torch_nor_coqui() -> None:
    imported, shown = slow_imports_of("--version")
    assert imported == set()
    assert shown == f"coqui-scl {importlib.metadata.version('coqui-scl-plugin')}\n"


def test_list_names_every_built_in_with_this_distribution() -> None:
    listed = run_script("list", "--json")
    assert (listed.status, listed.err) == (0, "")
    own = f"coqui-scl-plugin {importlib.metadata.version('coqui-scl-plugin')}"
    rows = [row for row in listed.report if row["distribution"] == own]
    names = {(row["kind"], row["name"]) for row in rows}
    assert names >= {
        ("losses", "cosine"),
        ("losses", "angular_margin"),
        ("losses", "contrastive"),
        ("losses", "ensemble"),
        ("losses", "features"),
        ("encoders", "coqui"),
        ("encoders", "dvector"),
        ("encoders", "ge2e"),
        ("freeze_policies", "frozen"),
    }
    assert len(names) == len(rows)
    assert all(row["summary"].endswith(".") for row in rows)
    with_maps = {row["name"] for row in rows if "feature maps." in row["summary"] and row["kind"] == "encoders"}
    assert with_maps >= {"coqui", "speechbrain", "transformers"}
    assert not {"ge2e", "dvector", "torchscript"} & with_maps


def test_list_of_a_kind_is_that_part() -> None:
    listed = run_script("list", "freeze_policies", "--json")
    assert {row["kind"] for row in listed.report} == {"freeze_policies"}
    run_script("list", "loses").assert_refused(["'loses'", "Did you mean 'losses'?"])
    run_script("list", "losses", "cosin").assert_refused(["'cosin': no loss", "Did you mean 'cosine'?"])


def test_list_explains_one_with_its_parameters_and_figures() -> None:
    explained = run_script("list", "losses", "angular_margin", "--json").report
    assert explained["about"].startswith("Classify each generated item among the speakers, with a margin.")
    parameters = {one["name"]: one for one in explained["parameters"]}
    assert list(parameters) == ["kind", "margin", "scale", "margin_warmup_steps", "prototypes"]
    assert parameters["margin"] == {
        "name": "margin", "values": "number, at least 0, below π/2", "default": 0.2, "is_required": False,
        "meaning": "Radians, or a difference of cosines.",
    }  # fmt: skip
    assert parameters["prototypes"]["values"] == "batch or centroid"
    assert "docs/speed.md" in explained["evidence"]
    table = run_script("list", "losses", "angular_margin").out
    assert "at least 0, below π/2" in table
    assert "First round of the ablation" in table
    required = run_script("list", "encoders", "torchscript").out
    assert "required" in required


def test_each_gain_that_list_gives_is_in_the_docs() -> None:
    docs = Path(__file__).parents[2] / "docs"
    tables = {
        "docs/ablation.md": [*(docs / "ablation/small").glob("*.md")],
        "docs/ablation_first_round.md": [*(docs / "ablation/first_round").glob("*.md")],
    }
    for kind in ("losses", "encoders"):
        for name, entry in installed().entries(kind).items():
            said = evidence(entry.cls)
            known = "".join(f.read_text() for page, files in tables.items() if page in said for f in files)
            for figure in re.findall(r"[+-]\d\.\d{3}", said):
                assert figure in known, f"{kind} {name}: {figure}"
    assert evidence(installed().losses["angular_margin"].cls)


def test_list_without_json_is_a_table_of_the_same() -> None:
    listed = run_script("list")
    assert (listed.status, listed.err) == (0, "")
    for name in ("cosine", "angular_margin", "ensemble", "ge2e", "dvector", "frozen", "coqui-scl-plugin"):
        assert name in listed.out


def test_list_names_the_distribution_that_registered_it(example_plugin_path: Path) -> None:
    rows = run_script("list", "--json", paths=[example_plugin_path]).report
    (row,) = [row for row in rows if row["name"] == "euclidean"]
    assert row["kind"] == "losses"
    assert row["distribution"] == "scl-example-plugin 1.2.3"
    assert row["summary"].startswith("Mean of half the squared distance")
    (row,) = [row for row in rows if row["name"] == "cepstral"]
    assert (row["kind"], row["distribution"]) == ("encoders", "scl-example-plugin 1.2.3")
    assert row["summary"].endswith("Has feature maps.")
    (row,) = [row for row in rows if row["name"] == "counted"]
    assert (row["kind"], row["distribution"]) == ("freeze_policies", "scl-example-plugin 1.2.3")


def test_without_it_the_name_is_unknown() -> None:
    rows = run_script("list", "--json").report
    assert not {"euclidean", "cepstral", "counted"} & {row["name"] for row in rows}


def test_run_starts_a_module_of_coqui() -> None:
    ran = run_script("run", "-m", "TTS.bin.find_unique_chars", "-h")
    assert ran.status == 0, ran.err
    assert ran.out.startswith("usage: find_unique_chars.py")
    assert "--config_path" in ran.out


def test_a_module_that_run_starts_knows_scl_vits(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("audio_file|text\na.wav|abc\n")
    (tmp_path / "a.wav").touch()
    (tmp_path / "b.wav").touch()
    (tmp_path / "eval.csv").write_text("audio_file|text\nb.wav|cd!\n")
    dataset = {
        "formatter": "coqui",
        "path": str(tmp_path),
        "meta_file_train": "metadata.csv",
        "meta_file_val": "eval.csv",
    }
    (tmp_path / "config.json").write_text(json.dumps({"model": "scl_vits", "datasets": [dataset]}))
    ran = run_script("run", "-m", "TTS.bin.find_unique_chars", "--config_path", str(tmp_path / "config.json"))
    assert ran.status == 0, ran.err
    assert "!abcd" in ran.out


def test_run_starts_coquis_own_command() -> None:
    ran = run_script("run", "tts", "-h")
    assert ran.status == 0, ran.err
    assert ran.out.startswith("usage: tts")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ["run -m TTS.bin.NAME", "run tts"]),
        (["-m"], ["run -m TTS.bin.NAME", "run tts"]),
        (["--nosuch", "tts"], ["run -m TTS.bin.NAME", "run tts"]),
        (["nosuch"], ["'nosuch'", "use -m", "Known: ", "tts"]),
        (["ttss"], ["'ttss'", "Did you mean 'tts'?"]),
        (["-m", "no_such_package.module"], ["no_such_package.module"]),
        (["-m", "TTS.bin.nosuch"], ["TTS.bin.nosuch"]),
    ],
    ids=str,
)
def test_run_says_what_it_cannot_run(arguments: list[str], parts: list[str]) -> None:
    ran = run_script("run", *arguments)
    ran.assert_refused(parts)
    assert ran.out == ""


def test_run_passes_on_an_import_error_inside_the_module(tmp_path: Path) -> None:
    (tmp_path / "theirs.py").write_text("import no_such_package_at_all\n")
    ran = run_script("run", "-m", "theirs", paths=[tmp_path])
    assert ran.status == 1
    assert "ModuleNotFoundError: No module named 'no_such_package_at_all'" in ran.err


@pytest.mark.parametrize(
    ("arguments", "part"), [(["nosuch"], "nosuch"), (["lsit"], "'list'"), (["list", "--jsn"], "--json"), ([], "Usage")]
)
def test_wrong_usage_is_status_2(arguments: list[str], part: str) -> None:
    refused = run_script(*arguments)
    assert refused.status == 2
    assert refused.out.strip() == ""
    assert part in refused.err
    assert "Traceback" not in refused.err


def test_debug_shows_a_traceback_with_the_same_message_and_status() -> None:
    plain, debug = run_script("run", "nosuch"), run_script("--debug", "run", "nosuch")
    assert "Traceback (most recent call last)" in debug.err
    assert plain.err.removeprefix("coqui-scl: ").strip() in debug.err
    assert debug.status == plain.status == 2


@pytest.mark.parametrize("debug", [False, True])
def test_an_error_of_ours_below_run_is_shown_like_any_other(debug: bool, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model": "scl_vits", "scl": {"wieght": 5}}))
    arguments = ["run", "-m", "TTS.bin.find_unique_chars", "--config_path", str(tmp_path / "config.json")]
    refused = run_script(*["--debug"][: int(debug)], *arguments)
    assert "scl.wieght: unknown key. Did you mean 'weight'?" in refused.err
    assert ("Traceback" in refused.err) is debug
    assert refused.status == 2
