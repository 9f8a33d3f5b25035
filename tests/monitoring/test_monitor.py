"""Measuring and publishing an evaluation, by encoders whose embeddings are known."""

from types import SimpleNamespace

import pytest
import torch
from evaluation_data import RATE, first_samples

from coqui_scl_plugin.config import EvaluationConfig
from coqui_scl_plugin.consistency.encoder_bank import EncoderBank
from coqui_scl_plugin.encoders.audio import ResampledAudio
from coqui_scl_plugin.freeze import FrozenPolicy
from coqui_scl_plugin.losses.calibration import Calibration
from coqui_scl_plugin.monitoring.history import Row, read_history, write_history
from coqui_scl_plugin.monitoring.monitor import SimilarityMonitor
from coqui_scl_plugin.monitoring.publish import publish_similarity
from coqui_scl_plugin.references.sources import ReferenceBatch

OTHERS = torch.tensor([[0.6, 0.8], [1.0, 0.0]])


def consistency(others=OTHERS):
    """Two encoders, of which one is calibrated and held out; the same two other recordings for everyone."""
    encoders = {"held": first_samples(2), "trained": first_samples(2)}
    embeddings = SimpleNamespace(others=lambda alias, name, speaker: others)
    return SimpleNamespace(
        encoders=EncoderBank(encoders, dict.fromkeys(encoders, FrozenPolicy()), holdout=["held"]),
        references=SimpleNamespace(embeddings=embeddings),
        calibrations={"held": Calibration(0.2, 0.7)},
    )


def batch(*vectors):
    waveforms = [torch.tensor(vector) for vector in vectors]
    segments = ResampledAudio(torch.stack(waveforms), RATE)
    names = [f"recording {vector}" for vector in vectors]
    return ReferenceBatch(segments=segments, utterances=waveforms, names=names, speakers=["ann"] * len(vectors))


def test_similarities_are_those_with_other_recordings(tmp_path):
    monitor = SimilarityMonitor(consistency(), EvaluationConfig(), tmp_path)
    generated = [torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])]
    of_batch = monitor.measure(generated, batch([1.0, 0.0], [0.0, 1.0]), step=3)
    # cosines with the two others: 0.6 and 1, then 0.8 and 0
    assert of_batch == pytest.approx(
        {"cross_utterance_held": 0.6, "calibrated_cross_utterance_held": 0.8, "cross_utterance_trained": 0.6}
    )
    again = monitor.measure(generated[:1], batch([1.0, 0.0]), step=3)
    assert again["cross_utterance_held"] == pytest.approx(0.8)
    means = monitor.close(step=3, epoch=1)
    assert means["cross_utterance_held"] == pytest.approx((0.8 + 0.4 + 0.8) / 3)
    (row,) = read_history(tmp_path)
    assert row.step == 3
    assert row.cross_utterance["trained"] == pytest.approx(means["cross_utterance_trained"], abs=1e-6)
    assert [*row.calibrated] == ["held"]
    assert monitor.close(step=4, epoch=1) == {}


def test_an_evaluation_that_was_never_closed_is_no_part_of_the_next():
    monitor = SimilarityMonitor(consistency(), EvaluationConfig(), None)
    monitor.measure([torch.tensor([1.0, 0.0])], batch([1.0, 0.0]), step=3)
    monitor.measure([torch.tensor([0.0, 1.0])], batch([0.0, 1.0]), step=4)
    assert monitor.close(step=4, epoch=1)["cross_utterance_held"] == pytest.approx(0.4)


def test_a_run_that_goes_on_forgets_the_evaluations_of_lost_steps(tmp_path):
    """Continued from step 3, where the former run had been evaluated at step 4, the next evaluation may be at 5."""
    write_history(tmp_path, [Row(step, 0, {"trained": 0.5}, {}) for step in (2, 3, 4)])
    monitor = SimilarityMonitor(consistency(), EvaluationConfig(), tmp_path)
    monitor.forget_after(3)
    monitor.measure([torch.tensor([1.0, 0.0])], batch([1.0, 0.0]), step=5)
    monitor.close(step=5, epoch=1)
    assert [row.step for row in read_history(tmp_path)] == [2, 3, 5]


def test_without_other_recordings_the_recording_itself_is_compared_with():
    monitor = SimilarityMonitor(consistency(others=None), EvaluationConfig(), None)
    found = monitor.measure([torch.tensor([0.6, 0.8])], batch([1.0, 0.0]), step=1)
    assert found["cross_utterance_held"] == pytest.approx(0.6)


class Dashboard:
    def __init__(self):
        self.scalars, self.figures = {}, []

    def add_scalars(self, scope_name, scalars, step):
        self.scalars |= {f"{scope_name}/{name}": (value, step) for name, value in scalars.items()}

    def add_figure(self, title, figure, step):
        self.figures.append((title, step))


def test_an_encoder_that_joins_a_continued_run_is_published_without_a_change(tmp_path, capsys):
    write_history(tmp_path, [Row(1, 0, {"trained": 0.5}, {})])
    monitor, dashboard = SimilarityMonitor(consistency(), EvaluationConfig(), tmp_path), Dashboard()
    monitor.measure([torch.tensor([1.0, 0.0])], batch([1.0, 0.0]), step=2)
    monitor.close(step=2, epoch=1)
    publish_similarity(monitor, dashboard)
    lines = {line.split("│")[1].strip(): line for line in capsys.readouterr().out.splitlines() if "│" in line}
    assert [cell.strip() for cell in lines["trained, training"].split("│")[2:5]] == ["0.800", "-", "+0.300"]
    assert [cell.strip() for cell in lines["held, held-out"].split("│")[2:5]] == ["0.800", "1.20", "-"]
    prefix = "SpeakerSimilarity/"
    assert {name: step for name, (_, step) in dashboard.scalars.items()} == {
        f"{prefix}cross_utterance_held": 2, f"{prefix}calibrated_cross_utterance_held": 2,
        f"{prefix}cross_utterance_trained": 2,
    }  # fmt: skip
    assert dashboard.figures == [("SpeakerSimilarity/history", 2)]
