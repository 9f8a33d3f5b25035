"""How the checks are run: in stages, and whatever one of them ends with."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_driver import run_here
from tiny_vits import run_config

from coqui_scl_plugin.errors import ConfigError, EncoderError, EvaluationSetError, PreflightError
from coqui_scl_plugin.preflight import checks
from coqui_scl_plugin.preflight.checks import CHECKS, Check
from coqui_scl_plugin.preflight.facts import ConfigFacts
from coqui_scl_plugin.preflight.report import Finding, NotMeasuredError, PreflightReport

FACTS = ConfigFacts(config=None)


def raising(error: Exception) -> Callable[[Any], list[Finding]]:
    def check(facts: Any) -> list[Finding]:
        """Nothing is wrong."""
        raise error

    return check


def finding(facts: Any) -> list[Finding]:
    """Nothing is wrong."""
    return [Finding("It is.", "Mend it.")]


def passing(facts: Any) -> list[Finding]:
    """Nothing is wrong."""
    return []


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put other checks in the place of those of the same id."""

    def put(**by_id: Callable[[Any], list[Finding]]) -> None:
        functions = {id_.replace("_", "-"): function for id_, function in by_id.items()}
        kept = [
            dataclasses.replace(check, run=functions.get(check.id, passing))  # all others pass
            for check in CHECKS
        ]
        monkeypatch.setattr(checks, "CHECKS", tuple(kept))

    return put


def run(*skip: str) -> PreflightReport:
    report = PreflightReport()
    for stage in checks.STAGES:
        facts = FACTS if checks.can_run(stage, report) else None
        report = checks.run_checks(stage, facts, skip, report)
    return report


def statuses(report: PreflightReport) -> dict[str, str]:
    return {result.id: result.status for result in report.results if result.status != "passed"}


def test_any_error_of_a_check_is_its_finding_and_the_others_are_kept(table: Callable[..., None]) -> None:
    error = ZeroDivisionError("division by zero")
    table(versions=raising(error), weight=finding, speakers=finding)
    report = run()
    assert statuses(report).items() >= {"versions": "failed", "weight": "failed", "speakers": "failed"}.items()
    (own,) = [result for result in report.results if result.id == "versions"]
    assert "The check versions could not be run: ZeroDivisionError: division by zero." in own.text
    assert "--debug" in own.text
    assert report.exit_status == 1
    with pytest.raises(PreflightError, match="3 checks failed") as caught:
        report.raise_failures()
    assert caught.value.__cause__ is error
    assert "--skip versions --skip weight --skip speakers" in str(caught.value)


def test_an_error_without_a_message_is_named_by_its_class(table: Callable[..., None]) -> None:
    table(versions=raising(AssertionError()))
    assert "could not be run: AssertionError()." in run().results[1].text


@pytest.mark.parametrize(
    ("step", "not_run", "still_run"),
    [
        ("samples", ("recordings", "speakers", "gradient"), ("versions", "weight", "encoders")),
        ("model", ("speakers", "policies", "gradient"), ("recordings", "sample-rate")),
        ("encoders", ("policies", "gradient"), ("recordings", "samples")),
    ],
)
def test_without_a_step_its_later_stages_are_not_run(
    step: str, not_run: tuple[str, ...], still_run: tuple[str, ...], table: Callable[..., None]
) -> None:
    table(**{step: raising(KeyError("''"))})
    report = run(step)  # a step cannot be skipped
    found = {result.id: result for result in report.results}
    assert list(found) == list(checks.IDS)
    assert found[step].status == "failed"
    for id_ in not_run:
        assert (found[id_].status, step in found[id_].why_not_run) == ("not run", True)
    for id_ in still_run:
        assert found[id_].status == "passed"


def test_a_step_that_failed_is_no_matter_of_skipping(table: Callable[..., None]) -> None:
    table(samples=raising(KeyError("audio_file")))
    with pytest.raises(PreflightError) as caught:
        run().raise_failures()
    assert "--skip" not in str(caught.value)
    with pytest.raises(ConfigError, match="no such check"):
        checks.check_skipped(["samples"], "--skip")


@pytest.mark.parametrize(("error", "status"), [(ConfigError("a.b = 3: no."), 2), (EncoderError("no weights"), 2)])
def test_an_error_of_ours_speaks_for_itself_and_keeps_its_exit_status(
    error: Exception, status: int, table: Callable[..., None]
) -> None:
    table(samples=raising(error))
    report = run()
    (own,) = report.of("failed")
    assert (own.id, own.text) == ("samples", str(error))
    assert report.exit_status == status
    with pytest.raises(PreflightError) as caught:
        report.raise_failures()
    assert caught.value.exit_status == status


def test_an_error_may_speak_for_another_check(table: Callable[..., None]) -> None:
    table(samples=raising(EvaluationSetError("it would be empty")))
    report = run()
    assert [(result.id, result.text) for result in report.of("failed")] == [("evaluation-set", "it would be empty")]
    assert next(r.why_not_run for r in report.results if r.id == "samples") == "It needs evaluation-set."
    assert [result.id for result in report.results] == list(checks.IDS)
    assert report.exit_status == 1


def test_what_cannot_be_measured_is_not_run(table: Callable[..., None]) -> None:
    table(reach=raising(NotMeasuredError("no gradient")))
    assert statuses(run()) == {"reach": "not run"}


def test_ids_are_of_one_stage_and_unique() -> None:
    assert all(isinstance(check, Check) and check.stage in checks.STAGES for check in CHECKS)
    assert len({check.id for check in CHECKS}) == len(CHECKS)


@pytest.mark.parametrize("debug", [False, True])
def test_debug_shows_where_a_check_ended(debug: bool, table: Callable[..., None], tmp_path: Path) -> None:
    table(versions=raising(ZeroDivisionError("division by zero")), samples=raising(KeyError("audio_file")))
    (tmp_path / "config.json").write_text(json.dumps(run_config(tmp_path)))
    options = ["--debug"][: int(debug)]
    outcome = run_here(tmp_path, *options, "preflight", "--config_path", "config.json", "--json")
    failed = [check["id"] for check in outcome.report["checks"] if check["status"] == "failed"]
    assert (outcome.status, failed, outcome.changed) == (1, ["versions", "samples"], [])
    shown = ("Traceback", "ZeroDivisionError: division by zero", "KeyError: 'audio_file'")
    assert [part in outcome.err for part in shown] == [debug] * 3
