"""Flags of a run: evaluations whose similarities give reason to doubt it."""

from collections.abc import Mapping, Sequence

from coqui_scl_plugin.config import EvaluationConfig
from coqui_scl_plugin.losses.calibration import Calibration
from coqui_scl_plugin.monitoring.history import Row


def _gaming(earlier: Sequence[Row], since: int, now: Row, roles: Mapping[str, str], config: EvaluationConfig) -> str:
    """Describe how the generator games its training encoders; empty if it does not.

    A training encoder's rise counts from its maximum up to the evaluation `since`, a held-out encoder's from that
    evaluation.
    """

    def rises(role: str, rows: Sequence[Row]) -> dict[str, float]:
        known = [a for a, own in roles.items() if own == role and all(a in r.cross_utterance for r in (*rows, now))]
        return {a: now.cross_utterance[a] - max(row.cross_utterance[a] for row in rows) for a in known}

    risen = {a: r for a, r in rises("training", earlier[: since + 1]).items() if r >= config.training_rise}
    held_out = rises("holdout", [earlier[since]])
    if not risen or not held_out or max(held_out.values()) >= config.holdout_rise:
        return ""
    changes = ", ".join(f"{alias} {rise:+.3f}" for alias, rise in (risen | held_out).items())
    return (
        f"since step {earlier[since].step} training encoders rise and held-out encoders do not ({changes}): the "
        "generator is learning to please the encoder, not to sound like the speakers"
    )


def find_flags(
    earlier: Sequence[Row], now: Row, roles: Mapping[str, str], ceilings: Mapping[str, float], config: EvaluationConfig
) -> str:
    """Describe what in an evaluation gives reason for doubt; empty for a sound one.

    The evaluation is compared with the first one of the run, and with the one at which the held-out encoders scored
    highest, so that a run that starts to game its encoder late, or after both rose, is found as well.

    Args:
        earlier: Evaluations before this one.
        now: This evaluation.
        roles: Roles by alias: `training` or `holdout`.
        ceilings: Cross-utterance similarity of real speech of the same speakers, by alias.
        config: Thresholds.
    """
    held_out = [alias for alias, role in roles.items() if role == "holdout"]
    best = max(
        range(len(earlier)),
        key=lambda i: sum(earlier[i].cross_utterance.get(alias, -1.0) for alias in held_out),
        default=None,
    )
    baselines = [] if best is None else dict.fromkeys((best, 0))
    flags = [flag for since in baselines if (flag := _gaming(earlier, since, now, roles, config))][:1]
    for alias, similarity in now.cross_utterance.items():
        if alias in ceilings and similarity > ceilings[alias]:
            flags.append(
                f"by {alias} generated speech ({similarity:.3f}) is more similar to the speakers' recordings than "
                f"their own real speech is ({ceilings[alias]:.3f})"
            )
    return "; ".join(flags)


def ceilings_of(calibrations: Mapping[str, Calibration], real: Mapping[str, float]) -> dict[str, float]:
    """Return the larger of an encoder's ceiling and the similarity of the reconstructed recordings, by alias."""
    return {alias: max(value, calibrations[alias].ceiling) for alias, value in real.items() if alias in calibrations}
