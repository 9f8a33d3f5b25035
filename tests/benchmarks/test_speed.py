"""What `python -m benchmarks.speed` compares with, and what it makes of the figures."""

import json
import sys
from types import SimpleNamespace

import pytest
import torch
from coqui_encoder_files import write_coqui_encoder
from tiny_vits import SIZES
from TTS.tts.configs.vits_config import VitsArgs, VitsConfig
from TTS.tts.models.vits import Vits

from benchmarks.speed import __main__ as command
from benchmarks.speed import page, results
from benchmarks.speed.figures import FIGURES
from benchmarks.speed.targets import TARGETS
from benchmarks.speed.terms import OurTerm, StockTerm
from benchmarks.speed.timing import Effort, Spread, Times
from coqui_scl_plugin import SclConfig


@pytest.fixture
def stock(tmp_path):
    files = write_coqui_encoder("resnet", tmp_path)
    args = VitsArgs(**SIZES | files.stock_loss())
    config = VitsConfig(model_args=args, speakers=["a", "b"], speaker_encoder_loss_alpha=9.0)
    torch.manual_seed(0)
    return Vits(config).train()


def test_stocks_term_is_what_a_step_of_stocks_own_model_logs(stock, one_thread):
    torch.manual_seed(0)
    batch = {
        "tokens": torch.randint(1, 20, (2, 8)), "token_lens": torch.tensor([8, 8]),
        "waveform": 0.1 * torch.randn(2, 1, 8_192), "waveform_rel_lens": torch.ones(2),
        "d_vectors": None, "language_ids": None, "speaker_ids": torch.tensor([0, 1]),
    }  # fmt: skip
    batch = stock.format_batch_on_device(batch)
    for turn, criterion in enumerate(stock.get_criterion()):
        outputs, losses = stock.train_step(batch, criterion, turn)
    term = StockTerm(stock, outputs["waveform_seg"].squeeze(1), outputs["model_outputs"].squeeze(1))
    (expected,) = torch.autograd.grad(losses["loss_spk_encoder"], outputs["model_outputs"])
    torch.testing.assert_close(term.loss(), losses["loss_spk_encoder"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(term(), expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))
    assert all(weight.grad is not None for weight in stock.speaker_encoder.parameters())


def test_each_call_of_our_term_is_a_step_with_the_loss():
    leaf, scl, steps = torch.ones(2, 1, 8), SclConfig(), []

    def add_term(batch, outputs, losses, turn):
        steps.append(run.step)
        return {"loss": scl.factor_at(run.step) * outputs["model_outputs"].sum()}

    run = SimpleNamespace(add_term=add_term)
    model = SimpleNamespace(training_run=run, config=SimpleNamespace(scl=scl), zero_grad=lambda **_: None)
    term = OurTerm(model, {}, {"model_outputs": leaf}, "model_outputs")
    assert all(bool(term().all()) for _ in range(3))
    assert len(set(steps)) == 3


def test_ratios_are_of_one_round():
    times = Times({"ours": [1.0, 20.0, 3.0], "stock": [2.0, 40.0, 12.0], "more": [2.0, 10.0, 3.0]})
    assert times.ratio("ours", "stock") == Spread(0.5, 0.25, 0.5)
    assert times.ratio("ours", "stock", "more").median == 0.25
    assert times.excess("stock", "ours").median == pytest.approx(9_000)


def test_things_take_turns_from_both_ends_after_one_round_that_does_not_count():
    called = []
    works = {name: (lambda name=name: called.append(name)) for name in "abc"}
    times = Effort(rounds=2).alternate(works)
    assert "".join(called) == "cba" + "abc" + "cba"
    assert all(len(seconds) == 2 for seconds in times.seconds.values())


def test_a_figure_measured_anew_leaves_the_others(tmp_path):
    file = tmp_path / "results.json"
    results.merge({"term": {"rows": [1]}, "step": {"rows": [2]}}, file)
    results.merge({"term": {"rows": [3]}}, file)
    assert results.read(file) == {"term": {"rows": [3]}, "step": {"rows": [2]}}
    file.write_text(json.dumps({"format": 0}))
    assert results.read(file) == {}


def test_a_record_holds_rows_as_json_can():
    record = results.measured([{"case": "x", "ms": Spread(1.23456, 1.0, 2.0)}], Effort(threads=1), 3.21, "abc")
    assert record["rows"] == [{"case": "x", "ms": {"median": 1.235, "low": 1.0, "high": 2.0}}]
    assert (record["threads"], record["revision"], record["took_seconds"]) == (1, "abc", 3.2)


def test_every_target_names_a_value_of_a_table():
    for target in TARGETS:
        assert target.key in FIGURES[target.figure].columns


def made_up(threads=2, **values):
    how = {"threads": threads, "cpu_time": False, "cpu": "AVX2"}
    return {**how, "revision": "abc", "when": "2026-01-02T03:04", "rows": [values]}


def test_the_page_says_what_is_met_missed_and_not_measured():
    figures = {
        "term": made_up(case="cached references", of_stock={"median": 0.3, "low": 0.2, "high": 0.4}, mib_of_stock=0.5),
        "embed": made_up(case="100 recordings", times_as_fast={"median": 5.5, "low": 5.0, "high": 6.0}),
        "help": made_up(case="coqui-scl -h", imports_torch=False),
    }
    lines = page.targets_table(figures).splitlines()
    ends = {line.split(" | ")[0].strip("| "): line for line in lines[2:]}
    assert ends["the term against stock's: cached references"].endswith("| 0.30 | at most 0.34 | met |")
    assert ends["memory that the term's graph keeps, against stock's"].endswith("| 0.50 | at most 0.35 | **not met** |")
    assert ends["`coqui-scl embed`, times as fast as Coqui's"].endswith("| 5.5 | at least 5.0 | met |")
    assert ends["`coqui-scl -h` imports torch"].endswith("| 0 | at most 0 | met |")
    assert ends["no encoder and no decoder pass, of a step"].endswith("| – | at most 1.0 % | not measured |")


def test_a_table_has_both_numbers_of_threads():
    one, two = made_up(1, case="x", ms=2.0), made_up(2, case="x", ms={"median": 1.0, "low": 1.0, "high": 3.0})
    table = page.figure_table("term", {"term": two, page.ONE_THREAD.format("term"): one})
    assert "| x | 2 | 1 (1–3) | – | – | – |" in table
    assert "| x | 1 | 2 | – | – | – |" in table
    assert "*2 threads of a CPU with AVX2, wall time, revision abc on 2026-01-02; 1 thread of a CPU" in table


def test_what_this_machine_cannot_measure_stays_as_another_measured_it(tmp_path, monkeypatch, capsys):
    before = json.dumps({"format": 1, "figures": {"bfloat16": made_up(case="cached references", of_stock=0.2)}})
    file = tmp_path / "results.json"
    file.write_text(before)

    def measure(effort):
        raise results.CannotMeasureError("this CPU lacks it")

    monkeypatch.setattr(results, "FILE", file)
    monkeypatch.setattr(results.read, "__defaults__", (file,))
    monkeypatch.setattr(command, "need_speech", lambda: None)
    monkeypatch.setattr(command.logging, "disable", lambda level: None)
    monkeypatch.setattr(command, "write_page", lambda figures: None)
    monkeypatch.setattr(command, "FIGURES", {"bfloat16": SimpleNamespace(measure=measure, one_thread=False)})
    monkeypatch.setattr(sys, "argv", ["speed", "--only", "bfloat16"])
    with pytest.raises(SystemExit) as ended:
        command.main()
    said = capsys.readouterr()
    assert (ended.value.code, file.read_text()) == (0, before)
    assert "left as it was: this CPU lacks it" in said.err
    assert "| the same in bfloat16 | 0.20 | at most 0.24 | met |" in said.out
