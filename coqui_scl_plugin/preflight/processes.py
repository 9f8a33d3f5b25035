"""Check of runs with several processes."""

from collections.abc import Iterator

from torch import nn

from coqui_scl_plugin.preflight.facts import RunFacts
from coqui_scl_plugin.preflight.report import Finding

_BATCH_STATISTICS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def check_processes(facts: RunFacts) -> list[Finding]:
    """What several processes train together is what one process would train on their joint batch."""
    return list(_defects(facts)) if facts.processes > 1 else []


def _defects(facts: RunFacts) -> Iterator[Finding]:
    if facts.uses_accelerate:
        yield Finding(
            f"use_accelerate with {facts.processes} processes: accelerate averages by itself, waits for gradients of "
            "frozen parameters that never come, and knows nothing of the joint batch of a loss.",
            "Start with torchrun, and without --use_accelerate.",
        )
    if not facts.shares_data:
        yield Finding(
            f"The data loader is your own, and its sampler is no DistributedSampler: {facts.processes} processes would "
            "train on the same batches.",
            "Give it torch's DistributedSampler, or give the trainer train_samples.",
        )
    if facts.train_samples is not None and len(facts.train_samples) < facts.processes:
        yield Finding(
            f"{len(facts.train_samples)} training sample(s) for {facts.processes} processes: each needs its own.",
            "Start fewer processes, or add recordings.",
        )
    trained = facts.consistency.encoders.trained_encoders if facts.consistency is not None else {}
    for alias, encoder in trained.items():
        if any(isinstance(module, _BATCH_STATISTICS) for module in encoder.modules()):
            yield Finding(
                f"The encoder {alias!r} trains along and has batch normalisation, whose statistics would be of each "
                f"process's own items: {facts.processes} processes would have {facts.processes} different encoders.",
                "Set its policy to frozen, or train in one process.",
            )
