"""The findings of checks: how they are shown, kept and acted on."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from coqui_scl_plugin.errors import PreflightError
from coqui_scl_plugin.utils.atomic import replacing
from coqui_scl_plugin.utils.shown import excerpt

FILE_NAME = "preflight.json"
NEEDS = "It needs"
"""Begins the reason why a check was not run if others failed."""
_MAX_LISTED_NAMES = 5

Status = Literal["passed", "warning", "failed", "skipped", "not run"]


@dataclass(frozen=True)
class Finding:
    """A defect that a check found, and what to change. An error stops the run, a warning does not."""

    found: str
    change: str
    is_error: bool = True


def some(names: Iterable[str]) -> str:
    """List the first few names.

    >>> some(["b", "a"]), some("abcdefg")
    ("'a', 'b'", "'a', 'b', 'c', 'd', 'e' and 2 more")
    """
    ordered = sorted(names)
    more = f" and {len(ordered) - _MAX_LISTED_NAMES} more" if len(ordered) > _MAX_LISTED_NAMES else ""
    return ", ".join(map(excerpt, ordered[:_MAX_LISTED_NAMES])) + more


_ONE_OF_SEVERAL = {"do": "does", "are": "is", "have": "has", "end": "ends", "hold": "holds"}


def agree(count: int, phrase: str) -> str:
    """Return a phrase that begins with a verb, in the singular if it is about one thing.

    >>> agree(1, "are empty"), agree(2, "are empty"), agree(1, "cannot be read")
    ('is empty', 'are empty', 'cannot be read')
    """
    verb, space, rest = phrase.partition(" ")
    return f"{_ONE_OF_SEVERAL.get(verb, verb) if count == 1 else verb}{space}{rest}"


def number(count: int, noun: str) -> str:
    """Return a number with its noun.

    >>> number(1, "line"), number(0, "line")
    ('1 line', '0 lines')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


class NotMeasuredError(Exception):
    """A check that could not be run on this run; its message says why."""


def warning(found: str, change: str) -> Finding:
    """Make a finding that does not stop the run."""
    return Finding(found, change, is_error=False)


@dataclass(frozen=True)
class Result:
    """The outcome of one check."""

    id: str
    checks: str
    """A sentence that holds when the check passes."""
    status: Status
    findings: list[Finding] = field(default_factory=list)
    why_not_run: str = ""
    error: Exception | None = None
    """The error that the check ended with, of which its finding speaks."""
    can_be_skipped: bool = True
    exit_status: int = 1
    """Exit status of a command that this result ends; an error may have its own."""

    @property
    def text(self) -> str:
        """All findings."""
        return "\n".join(f"{finding.found} {finding.change}".rstrip() for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return what is recorded of it."""
        findings = [asdict(finding) for finding in self.findings]
        recorded = {"id": self.id, "checks": self.checks, "status": self.status, "findings": findings}
        return {**recorded, "why_not_run": self.why_not_run}


def result_of(id_: str, checks: str, findings: list[Finding], *, skip: bool, error: Exception | None = None) -> Result:
    """Return the result of a check that was run."""
    failed = any(finding.is_error for finding in findings)
    status: Status = "passed" if not findings else "warning" if not failed else "skipped" if skip else "failed"
    return Result(id_, checks, status, findings, error=error)


@dataclass
class PreflightReport:
    """The results of all checks, in order."""

    results: list[Result] = field(default_factory=list)

    def of(self, *statuses: Status) -> list[Result]:
        """Return the results of these statuses."""
        return [result for result in self.results if result.status in statuses]

    def was_not_run(self, id_: str) -> bool:
        """Tell whether a check was not run, since one that it needs failed."""
        return any(result.id == id_ for result in self.of("not run"))

    def has_failed(self, id_: str) -> bool:
        """Tell whether a check failed or was not run."""
        return any(result.id == id_ for result in self.of("failed", "not run"))

    @property
    def errors(self) -> list[Exception]:
        """The errors that checks ended with, also of checks whose findings an earlier one explains."""
        return [result.error for result in self.results if result.error is not None]

    @property
    def exit_status(self) -> int:
        """The exit status of a command: 0 if the run may start, 2 if the config or a file cannot be used, else 1."""
        statuses = [result.exit_status for result in self.of("failed")]
        return max(statuses + [getattr(error, "exit_status", 1) for error in self.errors]) if statuses else 0

    @property
    def passed(self) -> bool:
        """Whether the run may start."""
        return not self.of("failed")

    def raise_failures(self) -> None:
        """Raise a PreflightError with everything that failed, if anything did."""
        failed = self.of("failed")
        if not failed:
            return
        lines = [f"{result.text} (check {result.id!r})" for result in failed]
        heading = "" if len(lines) == 1 else f"{len(lines)} checks failed.\n"
        advice = ""
        if all(result.can_be_skipped for result in failed):
            ids = " ".join(f"--skip {result.id}" for result in failed)
            advice = f"\nTo train anyway: coqui-scl train {ids}, or scl.preflight.skip."
        error = PreflightError(f"{heading}{chr(10).join(lines)}{advice}")
        error.exit_status = self.exit_status
        raise error from next(iter(self.errors), None)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `preflight.json`, which `--json` prints."""
        return {"passed": self.passed, "checks": [result.to_dict() for result in self.results]}

    def write(self, folder: Path, more: Mapping[str, Any]) -> None:
        """Write `preflight.json`, with the keys of `more`."""
        with replacing(folder / FILE_NAME) as temporary:
            temporary.write_text(json.dumps({**self.to_dict(), **more}, indent=2), encoding="utf-8")

    def summary(self) -> str:
        """Count the results by status, in a sentence."""
        statuses: tuple[Status, ...] = ("passed", "warning", "failed", "skipped", "not run")
        counts = [f"{len(found)} {status}" for status in statuses if (found := self.of(status))]
        return f"{len(self.results)} checks: {', '.join(counts)}."

    def table(self) -> Table:
        """Return the results that are not in order, for the console; those that need others share a row."""
        table = Table("check", "status", "what was found, and what to change", show_lines=True)
        for result in self.of("failed", "warning", "skipped"):
            table.add_row(result.id, result.status, Text(result.text))  # Text, so that brackets are not read as markup
        waiting, needed = [], set[str]()
        for result in self.of("not run"):
            if result.why_not_run.startswith(NEEDS):
                waiting.append(result.id)
                needed |= set(result.why_not_run.removeprefix(NEEDS).strip(" .").split(", "))
            else:
                table.add_row(result.id, "not run", Text(result.why_not_run))
        if waiting:
            causes = ", ".join(result.id for result in self.of("failed") if result.id in needed)
            table.add_row(f"{len(waiting)} more", "not run", Text(f"{', '.join(waiting)}. They need {causes}."))
        return table
