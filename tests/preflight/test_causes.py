"""A check that finds what an earlier failure explains is not run; one that finds nothing, or something else, is."""

import dataclasses
from collections.abc import Callable

import pytest

from coqui_scl_plugin import SclVitsConfig
from coqui_scl_plugin.errors import ConfigError, EvaluationSetError
from coqui_scl_plugin.preflight import checks
from coqui_scl_plugin.preflight.facts import ConfigFacts
from coqui_scl_plugin.preflight.listing import Listing
from coqui_scl_plugin.preflight.report import PreflightReport

BROKEN = Listing("datasets.0.meta_file_train", "mine", "folder", "table", error=ValueError("no columns"))
SOUND = dataclasses.replace(BROKEN, samples=[], error=None)


def refuse(error: Exception) -> Callable[[], object]:
    def list_samples() -> object:
        raise error

    return list_samples


@pytest.mark.parametrize(
    "error", [ConfigError("eval_split_size"), EvaluationSetError("eval_split_size"), KeyError("eval_split_size")]
)
@pytest.mark.parametrize(("listing", "skip"), [(BROKEN, ()), (BROKEN, ("metadata",)), (SOUND, ())])
def test_samples_that_cannot_be_listed(error: Exception, listing: Listing, skip: tuple[str, ...]) -> None:
    facts = ConfigFacts(config=SclVitsConfig(), list_datasets=lambda: [listing], list_samples=refuse(error))
    report = checks.run_checks("config", facts, skip, PreflightReport())
    by_id = {result.id: result for result in report.results}
    explained = listing is BROKEN and not skip
    assert by_id["metadata"].status == ("failed" if explained else "skipped" if skip else "passed")
    told = " ".join(result.text for result in report.results if result.id != "metadata")
    assert ("eval_split_size" in told) is not explained
    if explained:
        assert (by_id["samples"].status, by_id["samples"].why_not_run) == ("not run", "It needs metadata.")
        assert "evaluation-set" not in by_id


def test_a_step_that_passes_passes_whatever_failed_before() -> None:
    facts = ConfigFacts(config=SclVitsConfig(), list_datasets=lambda: [BROKEN])
    report = checks.run_checks("config", facts, (), PreflightReport())
    assert {result.id: result.status for result in report.results}["samples"] == "passed"


def test_causes_are_earlier_checks() -> None:
    for check in checks.CHECKS:
        assert all(checks.IDS.index(cause) < checks.IDS.index(check.id) for cause in check.explained_by)
