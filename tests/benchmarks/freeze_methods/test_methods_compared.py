"""The table of freezing methods: each cell that docs/freeze_methods.md relies on, and that the docs show such a run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.freeze_methods.__main__ import app

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.nightly
DOCS_TABLE = ROOT / "docs" / "freeze_methods_table.md"

NOTHING = "nothing (stock Coqui)"
DETACH = "detach() on the embedding"
NO_GRAD = "torch.no_grad() around the encoder"
FEATURES = "no_grad around its features (Coqui's LSTM)"
LEFT_OUT = "left out of the optimizer"
PLAIN_OBJECT = "in a plain object, no nn.Module"
NO_REQUIRES_GRAD = "requires_grad_(False)"
EVAL_ONCE = "requires_grad_(False), eval() once"
PUT_BACK = "put back after each step"
FROZEN = "frozen (this package)"
METHODS = [
    NOTHING, DETACH, NO_GRAD, FEATURES, LEFT_OUT, PLAIN_OBJECT, NO_REQUIRES_GRAD, EVAL_ONCE, PUT_BACK, FROZEN,
]  # fmt: skip

# field of a row: the methods for which it is true
TRUE_FOR = {
    "weights_move": {NOTHING, FEATURES},
    "buffers_move": {NOTHING, DETACH, NO_GRAD, LEFT_OUT, NO_REQUIRES_GRAD, EVAL_ONCE},
    "gradient_reaches_waveform": set(METHODS) - {DETACH, NO_GRAD, FEATURES},
    "gradient_on_weights": {NOTHING, FEATURES, LEFT_OUT, PLAIN_OBJECT, PUT_BACK},
    "gradients_pile_up": {LEFT_OUT, PLAIN_OBJECT},
    "left_by_model_zero_grad": {PLAIN_OBJECT},
    "survives_train": {PLAIN_OBJECT, FROZEN},
    "moves_with_to": set(METHODS) - {PLAIN_OBJECT},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[list[dict], str]:
    """Return the rows that the command prints, and the Markdown that it writes."""
    file = tmp_path_factory.mktemp("freeze-methods") / "table.md"
    arguments = ["--steps", "2", "--json", "--markdown", str(file)]
    command = [sys.executable, "-W", "error", "-m", "benchmarks.freeze_methods", *arguments]
    # one thread: two threads on two cores spin while they wait for each other once anything else runs beside them
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment, timeout=500
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout), file.read_text(encoding="utf-8")


def yes_and_no(table: str) -> list[list[str]]:
    """Return the headings, and the method and the yes or no of each row; the two costs at the end are left out."""
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [[cell.strip(" *") for cell in line.strip("|").split("|")][:-2] for line in lines]


def test_every_method_has_a_row(run):
    rows, _ = run
    assert [row["method"] for row in rows] == METHODS
    assert all(row["milliseconds"] > 0 for row in rows)


@pytest.mark.parametrize("field", TRUE_FOR)
def test_yes_and_no_of(field, run):
    rows, _ = run
    assert {row["method"] for row in rows if row[field]} == TRUE_FOR[field]


def test_memory(run):
    rows, _ = run
    mebibytes = {row["method"]: row["mebibytes"] for row in rows}
    encoder = 8_028_492 * 4 / 2**20
    # it saves the gradients and both of AdamW's moments, which at the peak of the baseline stand beside few activations
    assert mebibytes[FROZEN] < mebibytes[NOTHING] - encoder
    assert mebibytes[FROZEN] < mebibytes[LEFT_OUT] < mebibytes[NOTHING]
    assert mebibytes[PUT_BACK] == pytest.approx(mebibytes[NOTHING] + encoder, abs=2)
    assert mebibytes[NO_GRAD] < mebibytes[DETACH]


def test_the_docs_show_what_a_run_says(run):
    rows, written = run
    docs = DOCS_TABLE.read_text(encoding="utf-8")
    assert yes_and_no(docs) == yes_and_no(written)
    assert [line[0] for line in yes_and_no(docs)[2:]] == [row["method"] for row in rows]
    assert yes_and_no(docs)[2][1:3] == ["yes", "yes"]  # so that it is these cells that are compared


def test_bold_in_the_docs_is_what_must_not_be():
    docs = DOCS_TABLE.read_text(encoding="utf-8")
    lines = {line.split("|")[1].strip(): line for line in docs.splitlines() if line.startswith("| ")}
    assert [name for name in METHODS if "**" not in lines[name]] == [FROZEN]


def test_a_folder_that_does_not_exist_is_found_before_the_work(tmp_path):
    result = CliRunner().invoke(app, ["--markdown", str(tmp_path / "absent" / "table.md")])
    assert result.exit_code == 2
    assert "does not exist" in result.output


def test_no_steps_are_refused():
    assert CliRunner().invoke(app, ["--steps", "0"]).exit_code == 2
