"""The checks of a run, without the run."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from coqui_scl_plugin.consistency.build import build_consistency
from coqui_scl_plugin.consistency.reach import ModuleReach
from coqui_scl_plugin.consistency.term import SpeakerConsistency
from coqui_scl_plugin.coqui.config_facts import coqui_tools
from coqui_scl_plugin.coqui.listing import list_datasets, warnings_of_coqui
from coqui_scl_plugin.coqui.restored import read_restored, restore
from coqui_scl_plugin.coqui.run_facts import (
    collect_facts,
    few_samples_alone,
    fields_of,
    name_optimizers,
    report_freezing,
    undisturbed,
)
from coqui_scl_plugin.coqui.samples import Samples, list_samples
from coqui_scl_plugin.coqui.vits import SclVits
from coqui_scl_plugin.coqui.vits_config import SclVitsConfig
from coqui_scl_plugin.freeze.report import FreezeReport
from coqui_scl_plugin.preflight.checks import Stage, can_run, run_checks
from coqui_scl_plugin.preflight.facts import ConfigFacts, DataFacts, Restored, RunFacts, TrainerFacts
from coqui_scl_plugin.preflight.generator import measured_reach
from coqui_scl_plugin.preflight.listing import Listing
from coqui_scl_plugin.preflight.report import PreflightReport
from coqui_scl_plugin.utils import processes


class PreparedRun:
    """A run that has not begun: its samples, and its model with its encoders, each made once a check asks for it."""

    def __init__(
        self,
        config: SclVitsConfig,
        restore_path: str | None = None,
        *,
        written: Mapping[str, Any],
        names_stock_loss: bool = False,
    ) -> None:
        """Take what a command was given; nothing is read yet.

        Args:
            config: Config of the run.
            restore_path: Checkpoint to start from.
            written: The config as its file has it.
            names_stock_loss: Whether the config names Coqui's own model with stock's own loss on.
        """
        self.config = config
        self.report = PreflightReport()
        """The results of the checks that were run."""
        self.reach: Sequence[ModuleReach] = ()
        self._restore_path = restore_path
        self._config_facts = ConfigFacts(
            config=config,
            written=written,
            coqui=coqui_tools(),
            names_stock_loss=names_stock_loss,
            list_datasets=lambda: self._listings,
            list_samples=lambda: self.samples,
            read_checkpoint=lambda: self._restored,
            load_encoders=lambda: self.consistency,
        )

    @functools.cached_property
    def samples(self) -> tuple[Samples, Samples]:
        """The training and the evaluation samples. Raises what Coqui raises."""
        with warnings_of_coqui():  # the check `metadata` reports them
            return list_samples(self.config, self._listings)

    @functools.cached_property
    def _listings(self) -> list[Listing]:
        return list_datasets(self.config)

    @functools.cached_property
    def consistency(self) -> SpeakerConsistency | None:
        """The speaker consistency term; None if the section is off. Raises EncoderError."""
        scl = self.config.scl
        return build_consistency(scl, accepts_changes="continued" in scl.preflight.skip) if scl.enabled else None

    @functools.cached_property
    def model(self) -> SclVits:
        """The model, with the same weights at each start. Raises what Coqui raises."""
        torch.manual_seed(self.config.training_seed)  # Coqui seeds only after the model is made
        return SclVits(self.config)

    @functools.cached_property
    def _optimizers(self) -> list[torch.optim.Optimizer]:
        """The optimizers of the model, after it has its encoders and the weights of the checkpoint."""
        self.model.parts.take_consistency(self.consistency)
        optimizers = self.model.get_optimizer()
        if self._restored is not None:
            with self.model.parts.carrying_rows(self._restored):
                restore(self.model, self._restored)
        return optimizers

    def _build_model(self) -> None:
        if self.report.has_failed("encoders") or self.report.has_failed("checkpoint"):
            _ = self.model
        else:
            _ = self._run_facts

    @functools.cached_property
    def _restored(self) -> Restored | None:
        if not self._restore_path:
            return None
        return read_restored(self._restore_path, continues=False, match_rows=self.config.scl.restore.match_rows)

    @functools.cached_property
    def _data_facts(self) -> DataFacts:
        train, evaluation = self.samples
        return DataFacts(
            **fields_of(self._config_facts),
            train_samples=train,
            eval_samples=evaluation,
            consistency=None if self.report.has_failed("encoders") else self.consistency,
            restored=None if self.report.has_failed("checkpoint") else self._restored,
            build_model=self._build_model,
        )

    @functools.cached_property
    def _run_facts(self) -> RunFacts:
        model, optimizers = self.model, self._optimizers
        known = TrainerFacts(
            **fields_of(self._data_facts) | {"config": model.config}, optimizers=name_optimizers(optimizers),
            processes=processes.count(),
        )  # fmt: skip
        facts = collect_facts(model.parts, known, few_samples_alone(model, self.samples[0]))
        model.train()
        return facts

    @property
    def freeze_report(self) -> FreezeReport | None:
        """What trains and what is frozen; None unless the model was built with its encoders."""
        if "_run_facts" not in vars(self):
            return None
        return report_freezing(self.model.parts, self._optimizers, step=0)

    def check(self, *stages: Stage) -> PreflightReport:
        """Run the checks of these stages, after those of earlier ones, and return all results. Writes nothing."""
        skip = self.config.scl.preflight.skip
        with undisturbed(self.config):
            for stage in stages:
                facts = self._facts_for(stage) if can_run(stage, self.report) else None
                self.report = run_checks(stage, facts, skip, self.report)
                if stage == "speech" and facts is not None:
                    self.reach = measured_reach(self._run_facts, self.report)
        return self.report

    def _facts_for(self, stage: Stage) -> ConfigFacts:
        if stage == "config":
            return self._config_facts
        return self._data_facts if stage == "data" else self._run_facts
