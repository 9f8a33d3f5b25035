"""`coqui-scl` in one of several processes, with an accident: `python train_process.py NOTES ARGUMENTS`.

At the end, NOTES has `parameters-RANK.pt`, and `evaluated.json` with the recordings that the main process counted.
The variable ACCIDENT, `KIND:RANK:STEP`, kills a process or moves its encoder after a step, or makes NaN of a reference
in it.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from trainer import Trainer

from coqui_scl_plugin import SclVits, cli
from coqui_scl_plugin.consistency.term import SpeakerConsistency
from coqui_scl_plugin.losses.heard import Heard
from coqui_scl_plugin.utils import processes

KIND, RANK, STEP = (os.environ.get("ACCIDENT") or "none:0:0").split(":")


def have_accident(model: SclVits, trainer: Trainer) -> None:
    if processes.rank() != int(RANK) or trainer.total_steps_done != int(STEP):
        return
    if KIND == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if KIND == "drift":
        with torch.no_grad():
            next(model.speaker_encoder_loss.encoders["ge2e"].parameters()).add_(0.01)


def main(notes: Path) -> None:
    step_end, eval_log, fit = SclVits.on_train_step_end, SclVits.eval_log, Trainer.fit
    hear_real = SpeakerConsistency.hear_real

    def hear(self: SpeakerConsistency, alias: str, real: Any, step: int = 0) -> Heard:
        heard = hear_real(self, alias, real, step)
        is_due = KIND == "nan" and self.training and (processes.rank(), step) == (int(RANK), int(STEP))
        return heard._replace(embedding=heard.embedding * float("nan")) if is_due else heard

    def on_train_step_end(self: SclVits, trainer: Trainer) -> None:
        have_accident(self, trainer)
        step_end(self, trainer)

    def log(self: SclVits, *args: Any, **kwargs: Any) -> None:
        measured = self.training_run.monitor._measured
        (notes / "evaluated.json").write_text(json.dumps({alias: sorted(names) for alias, names in measured.items()}))
        eval_log(self, *args, **kwargs)

    def fit_and_note(self: Trainer) -> None:
        fit(self)
        state = {name: parameter.detach() for name, parameter in self.model.named_parameters()}
        torch.save(state, notes / f"parameters-{processes.rank()}.pt")
        (notes / f"order-{processes.rank()}.json").write_text(json.dumps(list(self.train_loader.sampler)))

    SclVits.on_train_step_end, SclVits.eval_log, Trainer.fit = on_train_step_end, log, fit_and_note
    SpeakerConsistency.hear_real = hear
    SclVits.train_log = SclVits._create_logs = lambda *args, **kwargs: ({}, {})  # no plots, which take seconds
    cli.main()


if __name__ == "__main__":
    main(Path(sys.argv.pop(1)))
