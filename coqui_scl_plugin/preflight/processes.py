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
    yield from _too_few_batches(facts)
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


def _too_few_batches(facts: RunFacts) -> Iterator[Finding]:
    """Find what Coqui's weighted sampler shares out as whole batches, of which it repeats each once at most."""
    size = facts.config.batch_size  # for evaluations as well
    if not facts.config.use_weighted_sampler or size < 1:
        return
    for kind, samples in (("training", facts.train_samples), ("evaluation", facts.eval_samples)):
        batches = len(samples or ()) // size
        if 0 < 2 * batches < facts.processes:
            yield Finding(
                f"use_weighted_sampler with {facts.processes} processes: {len(samples or ())} {kind} samples are "
                f"{batches} batch(es) of batch_size = {size}, too few to share out.",
                "Lower batch_size, add recordings, start fewer processes, or set use_weighted_sampler to false.",
            )
