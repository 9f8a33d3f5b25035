"""One config with encoders of three libraries, on real speech."""

import hub_encoder_files
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from coqui_scl_plugin import SclVits
from coqui_scl_plugin.demo import corpus_files

ALIASES = ("ge2e", "dvector", "ecapa")


@pytest.fixture(scope="module")
def speech(libri10):
    """Two recordings of each of four speakers, the shortest ones."""
    by_speaker = {}
    for sample in sorted(corpus_files.load_samples(libri10), key=lambda s: (libri10 / s["audio_file"]).stat().st_size):
        by_speaker.setdefault(sample["speaker_name"], []).append(sample)
    return [by_speaker[speaker][take] for take in (0, 1) for speaker in sorted(by_speaker)[:4]]


@pytest.mark.nightly
def test_each_members_raw_and_calibrated_cosine_is_in_tensorboard(speech, libri10, tiny_config, make_trainer, tmp_path):
    ecapa = {"source": str(hub_encoder_files.write_speechbrain("ecapa", tmp_path / "ecapa"))}
    config = tiny_config(
        {
            "loss": {"name": "ensemble", "params": {"combine": "mean"}},
            "encoders": [
                {"name": "ge2e"},
                {"name": "dvector", "weight": 0.5},
                {"name": "speechbrain", "alias": "ecapa", "params": ecapa},
            ],
        },
        datasets=[corpus_files.dataset_config(libri10)],
        speakers=sorted({sample["speaker_name"] for sample in speech}),
    )
    trainer = make_trainer(SclVits(config), train_samples=speech, eval_samples=speech[:4])
    trainer.fit()
    assert trainer.total_steps_done == 2
    events = EventAccumulator(str(trainer.output_path))
    events.Reload()

    def series(name: str) -> list[float]:
        return [event.value for event in events.Scalars(name)]

    raw, calibrated = (
        {a: series(f"TrainIterStats/{kind}_{a}") for a in ALIASES}
        for kind in ("reference_cosine", "calibrated_reference_cosine")
    )
    for encoder in config.scl.encoders:
        floor, ceiling = encoder.floor, encoder.ceiling
        assert series(f"SpeakerReferences/floor_{encoder.label}") == pytest.approx([floor])
        assert series(f"SpeakerReferences/ceiling_{encoder.label}") == pytest.approx([ceiling])
        assert len(raw[encoder.label]) == 2
        expected = [(value - floor) / (ceiling - floor) for value in raw[encoder.label]]
        assert calibrated[encoder.label] == pytest.approx(expected, rel=1e-3, abs=1e-3)
    assert len({round(values[0], 6) for values in raw.values()}) == 3
    weights = {"ge2e": 1.2, "dvector": 0.6, "ecapa": 1.2}
    members = {a: 1 - calibrated[a][1] for a in ALIASES}
    term = config.scl.weight * sum(weights[a] * members[a] for a in ALIASES) / 3
    assert series("TrainIterStats/loss_spk_encoder")[1] == pytest.approx(term, rel=1e-3)
