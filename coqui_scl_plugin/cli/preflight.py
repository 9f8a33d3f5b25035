"""`coqui-scl preflight`: the checks of a run, without the run."""

import json
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from coqui_scl_plugin.errors import ConfigError, HoldoutError
from coqui_scl_plugin.utils.imports import importing
from coqui_scl_plugin.utils.shown import shown

if TYPE_CHECKING:
    from coqui_scl_plugin.consistency.reach import ModuleReach
    from coqui_scl_plugin.freeze.report import FreezeReport
    from coqui_scl_plugin.preflight.report import PreflightReport

_MODELS = ("scl_vits", "vits")


def preflight(
    ctx: typer.Context,
    config_path: Annotated[str, typer.Option("--config_path", help="Config of the run: JSON or YAML.")],
    restore_path: Annotated[
        str | None, typer.Option("--restore_path", help="Checkpoint that the run is to start from.")
    ] = None,
    skip: Annotated[
        list[str] | None, typer.Option(help="Id of a check that may fail; may be given several times.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Check a run without starting it: whether the loss will teach the generator, and what would end the run late.

    The same checks run before step 1 of every training. Writes nothing. Ends with 1 if a check failed, or 2 if the
    config or a file that it names cannot be used. At the end of the line, --coqpit.KEY VALUE overrides single values
    of the config. See docs/preflight.md for the checks.
    """
    from coqui_scl_plugin.config import read_config_file

    content = read_config_file(config_path)  # one that cannot be used is refused before torch is imported

    with importing():
        from coqui_scl_plugin.consistency.reach import reach_dicts
        from coqui_scl_plugin.coqui import run_config
        from coqui_scl_plugin.coqui.dry_run import PreparedRun
        from coqui_scl_plugin.preflight.checks import STAGES, check_skipped, found_early

    check_skipped(skip or [], "--skip")
    data = run_config.with_sections(content)
    if (name := run_config.named_model(data, ctx.args)) not in _MODELS:
        raise ConfigError(
            f"model = {shown(name)}: preflight checks {' and '.join(_MODELS)}, not other models of Coqui."
        )
    if restore_path:
        run_config.check_checkpoint_exists(restore_path)
    report: FreezeReport | None = None
    reach: Sequence[ModuleReach] = ()
    try:
        config = run_config.resolved_config(data, ctx.args)
        if not run_config.asks_for_scl(data, ctx.args):
            config.scl.enabled, config.scl.weight = False, 0.0
        config.scl.preflight.skip = [*config.scl.preflight.skip, *(skip or [])]
        check_skipped(config.scl.preflight.skip, "scl.preflight.skip")
        run = PreparedRun(config, restore_path, written=data, names_stock_loss=run_config.names_stock_loss(data))
        checks, report, reach = run.check(*STAGES), run.freeze_report, run.reach
    except HoldoutError as error:
        checks = found_early(error)
    if as_json:
        freezing = report.to_dict() if report is not None else None
        result = {**checks.to_dict(), "freeze_report": freezing, "reach": reach_dicts(reach)}
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
    else:
        _print(checks, report, reach)
    if ctx.find_root().params["debug"]:
        for cause in checks.errors:
            traceback.print_exception(cause)
    if not checks.passed:
        sys.exit(checks.exit_status)


def _print(checks: "PreflightReport", report: "FreezeReport | None", reach: "Sequence[ModuleReach]") -> None:
    from rich.console import Console

    from coqui_scl_plugin.consistency.reach import reach_table

    console = Console()
    if report is not None:
        console.print(report.table())
    if reach:
        console.print(reach_table(reach))
    if checks.of("failed", "warning", "skipped", "not run"):
        console.print(checks.table())
    console.print(checks.summary(), highlight=False)
