"""Numbers that are not finite, in runs through Coqui's trainer on real speech: what is left out, and what is said."""

import csv
import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from quick_vits import QuickVits
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from coqui_scl_plugin.errors import BadStepError

pytestmark = pytest.mark.usefixtures("one_thread")

BATCH, STEPS, SLOW = 4, 9, 7
"""Recordings in a batch, steps of a run, and the step of the faults that come late."""


@pytest.fixture(scope="session")
def speech(libri10, tmp_path_factory) -> list[dict]:
    """Twelve recordings of four speakers, one second from the middle of each."""
    folder, chosen = tmp_path_factory.mktemp("speech"), []
    with (libri10 / "metadata.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="|"))
    for speaker in sorted({row["speaker_name"] for row in rows})[:4]:
        for row in [row for row in rows if row["speaker_name"] == speaker][:3]:
            samples, rate = soundfile.read(libri10 / row["audio_file"], dtype="float32")
            name = Path(row["audio_file"]).stem
            soundfile.write(folder / f"{name}.wav", samples[len(samples) // 2 :][:rate], rate, subtype="FLOAT")
            sample = {"audio_file": str(folder / f"{name}.wav"), "audio_unique_name": name, "text": "so he said"}
            chosen.append(sample | {"speaker_name": speaker, "language": "", "root_path": str(folder)})
    return sorted(chosen, key=lambda sample: (sample["audio_unique_name"][-1], sample["speaker_name"]))


@pytest.fixture
def start(tiny_config, make_trainer, speech):
    """Make the trainer of a run of `STEPS` steps; `fault` gets it before its first step."""

    def make(fault=None, samples=None, scl=None, batch_group_size=0, **fields):
        section = {"reference": {"source": "utterance", "cache": None}, "freeze": {"check_every": 1}} | (scl or {})
        known = sorted({sample["speaker_name"] for sample in speech})
        fields = {"epochs": 3, "speakers": known, "batch_group_size": batch_group_size} | fields
        torch.manual_seed(0)
        model = QuickVits(tiny_config(section, **fields))
        trainer = make_trainer(model, train_samples=[dict(s) for s in samples or speech], eval_samples=speech[:2])
        if fault is not None:
            fault(trainer)
        return trainer

    return make


def at(step, trainer) -> bool:
    return trainer.total_steps_done == step


def heard_as(change):
    """Return a fault: `change` of what the encoder makes of generated speech, with its trainer."""

    def fault(trainer):
        encoder = trainer.model.speaker_encoder_loss.encoders["ge2e"].encoder
        encoder.register_forward_hook(lambda _, inputs, output: change(trainer, output))

    return fault


def with_gradient(factor):
    """Multiply the gradient of the embeddings at the step `SLOW`."""

    def change(trainer, output):
        if at(SLOW, trainer) and output.requires_grad:
            output.register_hook(lambda gradient: gradient * factor)
        return output

    return heard_as(change)


overflows = heard_as(
    lambda trainer, output: output * 1e38 * 1e38 if at(SLOW, trainer) and output.requires_grad else output
)


def injected(trainer) -> None:
    """One reference in memory is no longer a number."""
    trainer.model.speaker_encoder_loss.references.embeddings.by_encoder["ge2e"][0] = float("nan")


def tensors(trainer) -> dict[str, torch.Tensor]:
    """The weights of both networks, and the states of both optimizers."""
    found = {f"model.{name}": value.clone() for name, value in trainer.model.state_dict().items()}
    for number, optimizer in enumerate(trainer.optimizer):
        for index, state in enumerate(optimizer.state.values()):
            found |= {f"optimizer {number}.{index}.{key}": value.clone() for key, value in state.items()}
    return found


def not_finite(trainer) -> list[str]:
    return [name for name, value in tensors(trainer).items() if not value.isfinite().all()]


def means(trainer) -> dict[str, float]:
    return trainer.keep_avg_train.avg_values


def logged(trainer) -> dict[str, list[float]]:
    events = EventAccumulator(str(trainer.output_path), size_guidance={"scalars": 0}).Reload()
    tags = {tag.rpartition("/")[2]: tag for tag in events.Tags()["scalars"] if "TrainIter" in tag}
    return {name: [event.value for event in events.Scalars(tag)] for name, tag in tags.items()}


def warned(caplog) -> list[str]:
    return [record.message for record in caplog.records if record.levelno == logging.WARNING]


def test_a_reference_that_is_no_number_leaves_every_tensor_finite(start, speech, caplog):
    trainer = start(injected)
    trainer.fit()
    assert trainer.total_steps_done == STEPS
    assert not_finite(trainer) == []
    messages = warned(caplog)
    name = sorted(sample["audio_unique_name"] for sample in speech)[0]
    assert len(messages) == 3  # once an epoch
    for message in messages:
        assert f"the reference by encoder 'ge2e' is not finite for {name}." in message
    assert messages[0].startswith("Step 0: the speaker consistency loss was left out")
    assert all(torch.tensor(list(means(trainer).values())).isfinite())
    values = logged(trainer)
    assert values["scl_bad_steps"] == [1, 1, 1, 2, 2, 2, 3, 3][: len(values["scl_bad_steps"])]
    assert values["loss_spk_encoder"].count(0.0) == 3
    assert all(value > 0 for step, value in enumerate(values["loss_spk_encoder"]) if step % 3)


def test_the_recording_whose_embedding_is_no_number_is_named_where_others_are_compared_with_it(start, speech, caplog):
    """With centroids, all recordings of the speaker are; a margin of all speakers involves every recording."""
    loss = {"name": "angular_margin", "params": {"prototypes": "centroid"}}
    trainer = start(injected, scl={"loss": loss, "reference": {"source": "centroid", "cache": None}}, epochs=1)
    trainer.model.speaker_encoder_loss.references.embeddings._centroids.clear()
    trainer.fit()
    assert not_finite(trainer) == []
    messages = warned(caplog)
    assert len(messages) == STEPS // 3
    name = sorted(sample["audio_unique_name"] for sample in speech)[0]
    assert all(name in message for message in messages)
    assert sum(f"Not finite in memory are the embeddings of {name}." in message for message in messages) >= 2


MAKES = "what encoder 'ge2e' makes of the generated speech"
GRADIENT = "the gradient of the loss"
LATE = {
    "value": (overflows, MAKES, {}),
    "gradient": (with_gradient(float("nan")), GRADIENT, {}),
    "gradient, with a share": (with_gradient(float("inf")), GRADIENT, {"gradient_share": 0.1}),
}


@pytest.fixture(scope="module")
def without() -> dict[str, torch.Tensor]:
    """What a run has learned that has no loss at step `SLOW`; filled by the first test that asks for it."""
    return {}


@pytest.mark.parametrize("kind", LATE)
def test_a_bad_step_is_a_step_without_the_loss(start, caplog, kind, without):
    fault, cause, section = LATE[kind]
    bad = start(fault, scl=section)
    bad.fit()
    (message,) = warned(caplog)
    assert message.startswith(f"Step {SLOW}: the speaker consistency loss was left out, since {cause} is not finite")
    assert bad.total_steps_done == STEPS
    assert not_finite(bad) == []
    assert all(torch.tensor(list(means(bad).values())).isfinite())
    assert logged(bad)["scl_bad_steps"] == [1.0]
    if section:
        return
    if not without:
        other = start(with_gradient(0.0), scl={"freeze": {"check_every": 100}})
        other.fit()
        without |= tensors(other)
    for name, value in tensors(bad).items():
        assert torch.equal(value, without[name]), name


def test_weights_that_train_along_stay_finite_too(start, caplog):
    encoder = {"name": "ge2e", "policy": "trainable"}
    trainer = start(with_gradient(float("nan")), scl={"encoders": [encoder]})
    before = {name: value for name, value in tensors(trainer).items() if "speaker_encoder_loss" in name}
    trainer.fit()
    assert not_finite(trainer) == []
    after = tensors(trainer)
    assert before
    assert any(not torch.equal(after[name], value) for name, value in before.items())


def test_too_many_in_a_row_end_the_run_and_leave_the_checkpoint(start, caplog, capfd, speech):
    def broken(trainer, output):
        return output * float("nan") if trainer.total_steps_done > 3 and output.requires_grad else output

    trainer = start(
        heard_as(broken), scl={"max_bad_steps": 3}, save_checkpoints=True, save_step=2, save_n_checkpoints=9
    )
    with pytest.raises(SystemExit):
        trainer.fit()
    said = capfd.readouterr().err
    assert "BadStepError: Step 6: the speaker consistency loss was left out, since what encoder 'ge2e' makes" in said
    assert "It is bad step 3 in a row (scl.max_bad_steps = 3)" in said
    assert sum(sample["audio_unique_name"] in said for sample in speech) == BATCH
    assert len(warned(caplog)) == 2
    for step in (2, 4, 6):
        saved = torch.load(f"{trainer.output_path}/checkpoint_{step}.pth", weights_only=True)
        assert all(value.isfinite().all() for value in saved["model"].values())


def test_steps_in_a_row_are_counted_from_the_last_sound_one(start):
    def now_and_then(trainer, output):
        return output * float("nan") if trainer.total_steps_done % 3 and output.requires_grad else output

    trainer = start(heard_as(now_and_then), scl={"max_bad_steps": 3})
    trainer.fit()
    assert trainer.total_steps_done == STEPS


@pytest.mark.parametrize("name", ["loss_mel", "loss_disc"])
def test_a_loss_of_stocks_that_is_no_number_reaches_no_weight(start, caplog, name):
    """Of one turn: the other network trains on."""
    turn = {"loss_disc": 0, "loss_mel": 1}[name]

    def fault(trainer):
        criterion = trainer.criterion[turn]

        def spoil(_, inputs, losses):
            return losses | {name: losses[name] * float("nan"), "loss": losses["loss"] * float("nan")}

        criterion.register_forward_hook(lambda m, i, o: spoil(m, i, o) if at(SLOW, trainer) else o)

    seen = {}

    def remember(trainer):
        seen[trainer.total_steps_done] = tensors(trainer)

    trainer = start(fault)
    trainer.callbacks.parse_callbacks_dict({"on_train_step_end": remember})
    trainer.fit()
    assert not_finite(trainer) == []
    (message,) = warned(caplog)
    assert f"Step {SLOW}: no update was made from what is not finite ({name}" in message
    before, after = seen[SLOW], seen[SLOW + 1]
    stayed = {key for key in before if torch.equal(before[key], after[key])}
    own = {0: lambda key: key.startswith(("model.disc.", "optimizer 0")), 1: lambda key: key.startswith("optimizer 1")}
    assert {key for key in before if own[turn](key)} <= stayed
    assert any(key not in stayed for key in before if own[1 - turn](key))
    assert all(torch.tensor(list(means(trainer).values())).isfinite())


def test_a_learning_rate_that_is_too_high_ends_the_run_before_it_saves(start, capfd):
    def breaks(trainer):
        if trainer.total_steps_done == 3:
            next(trainer.model.waveform_decoder.parameters()).data.fill_(float("inf"))

    trainer = start(save_checkpoints=True, save_step=2, save_n_checkpoints=9)
    trainer.callbacks.parse_callbacks_dict({"on_train_step_end": breaks})
    with pytest.raises(SystemExit):
        trainer.fit()
    said = capfd.readouterr().err
    assert "BadStepError: No checkpoint is written, since the model is no longer finite: waveform_decoder" in said
    assert [path.name for path in sorted(Path(trainer.output_path).glob("checkpoint*"))] == ["checkpoint_2.pth"]


# --- bad recordings ---------------------------------------------------------------------------------------------------


def spoilt(speech, folder, kinds) -> list[dict]:
    """Copies of the samples in which the first of each batch of four has a defect, by name of the kind."""
    samples = [dict(sample) for sample in speech]
    for number, kind in enumerate(kinds):
        sample = samples[number]
        audio, rate = soundfile.read(sample["audio_file"], dtype="float32")
        if kind == "nan":
            audio[100:200] = float("nan")
        elif kind == "silent":
            audio[:] = 0.0
        elif kind == "clipped":
            audio = (audio * 1000).clip(-1, 1)
        elif kind == "short":
            audio = audio[:200]
        elif kind == "loud":
            audio[50] = 1.5
        elif kind == "stereo":
            audio = np.stack([audio, audio], axis=1)
        path = folder / f"{sample['audio_unique_name']}.wav"
        soundfile.write(path, audio, rate, subtype="FLOAT")
        if kind == "cut":
            path.write_bytes(path.read_bytes()[:60])
        sample["audio_file"] = str(path)
    return samples


SKIPPED = {"preflight": {"skip": ["audio", "recordings", "segment-length"]}, "reference": {"source": "segment"}}


@pytest.mark.parametrize("workers", [0, 1])
def test_recordings_that_cannot_be_used_are_left_out_and_named(start, speech, tmp_path, caplog, workers):
    kinds = ["nan", "silent", "clipped", "short", "loud", "stereo", "gone"]
    samples = spoilt(speech, tmp_path, kinds)
    named = {kind: sample["audio_unique_name"] for kind, sample in zip(kinds, samples, strict=False)}
    trainer = start(samples=samples, scl=SKIPPED, num_loader_workers=workers)
    gone = tmp_path / f"{named['gone']}.wav"
    trainer.callbacks.parse_callbacks_dict({"on_train_step_end": lambda trainer: gone.unlink(missing_ok=True)})
    trainer.fit()
    assert trainer.total_steps_done == STEPS
    assert not_finite(trainer) == []
    left_out = {message for message in warned(caplog) if "left out of its batches" in message}
    reasons = {
        "nan": "it holds samples that are not finite.",
        "short": "it is shorter than a frame of the spectrogram.",
        "loud": "its samples are not within [-1, 1], or Coqui cannot load it (AssertionError).",
        "stereo": "it has 2 channels.",
        "gone": "Coqui cannot load it (",
    }
    assert len(left_out) == len(reasons)
    for kind, reason in reasons.items():
        (message,) = [m for m in left_out if m.startswith(f"The recording {named[kind]} is left out of its batches: ")]
        assert reason in message
    assert logged(trainer)["scl_bad_recordings"][-1] == 5.0
    assert "scl_bad_steps" not in logged(trainer)


def test_the_rest_of_a_batch_is_what_coqui_makes_of_it_alone(tiny_config, speech, tmp_path):
    samples = spoilt(speech, tmp_path, ["nan"])[:BATCH]
    model = QuickVits(tiny_config(speakers=sorted({sample["speaker_name"] for sample in speech})))
    batches = []
    for chosen in (samples, samples[1:]):
        dataset = model.get_data_loader(model.config, is_eval=True, samples=[dict(s) for s in chosen]).dataset
        items = [dataset[index] for index in range(len(chosen))]
        batches.append(model.format_batch_on_device(model.format_batch(dataset.collate_fn(items))))
    found, expected = batches
    assert found.keys() == expected.keys()
    order = [found["audio_unique_names"].index(name) for name in expected["audio_unique_names"]]
    assert len(order) == BATCH - 1
    for key, value in expected.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(found[key][order], value, rtol=0, atol=0, msg=key)
        elif isinstance(value, list):
            assert [found[key][place] for place in order] == value, key


def test_a_batch_of_nothing_else_is_a_step_left_out(start, speech, tmp_path, caplog):
    samples = spoilt(speech, tmp_path, ["nan"] * BATCH)
    bad = [sample["audio_unique_name"] for sample in samples[:BATCH]]
    trainer = start(samples=[*samples[BATCH:], *samples[:BATCH]], scl=SKIPPED, epochs=1)
    trainer.fit()
    assert trainer.total_steps_done == 3
    assert not_finite(trainer) == []
    (message,) = [m for m in warned(caplog) if "Step" in m]
    assert "the step was left out, since no recording of its batch can be used" in message
    assert all(name in message for name in bad)


def test_a_recording_that_vanishes_ends_no_run_with_a_weighted_sampler(start, speech, tmp_path, caplog):
    samples = spoilt(speech, tmp_path, ["sound"])
    trainer = start(
        samples=samples, scl=SKIPPED, use_weighted_sampler=True, weighted_sampler_attrs={"speaker_name": 1.0}
    )
    gone = Path(samples[0]["audio_file"])  # by whose size Coqui sorts
    trainer.callbacks.parse_callbacks_dict({"on_train_step_end": lambda trainer: gone.unlink(missing_ok=True)})
    trainer.fit()
    assert trainer.total_steps_done == STEPS
    assert not_finite(trainer) == []


def test_no_other_recording_takes_the_place_of_one_that_is_out_of_range(tiny_config, speech, tmp_path):
    """Coqui takes the next one, once more for each, until there is none and an IndexError ends the run."""
    samples = spoilt(speech, tmp_path, ["sound", "sound"])
    known = sorted({sample["speaker_name"] for sample in speech})
    model = QuickVits(tiny_config(speakers=known, min_audio_len=400))
    dataset = model.get_data_loader(model.config, is_eval=True, samples=[dict(s) for s in samples]).dataset
    spoilt(speech, tmp_path, ["sound", "short"])  # replaced during the run
    place = [sample["audio_unique_name"] for sample in dataset.samples].index(samples[1]["audio_unique_name"])
    for _ in range(2 * len(samples)):
        left_out = dataset[place]
        assert left_out.name == samples[1]["audio_unique_name"]
        assert "shorter than min_audio_len" in left_out.reason


def test_a_model_whose_evaluation_had_no_usable_recording_is_not_the_best(start, speech, tmp_path):
    """Coqui takes a loss that was not measured for 0, and ends a run whose target was not."""
    for number, fields in enumerate(({}, {"target_loss": "cross_utterance_ge2e"})):
        folder = tmp_path / str(number)
        folder.mkdir()
        trainer = start(scl=SKIPPED, run_eval=True, epochs=1, eval_batch_size=2, save_best_after=0, **fields)
        trainer.eval_samples = spoilt(speech[:2], folder, ["nan"] * 2)
        trainer.fit()
        assert trainer.best_loss["eval_loss"] == float("inf")
        assert not list(Path(trainer.output_path).glob("best_model*"))


def test_an_evaluation_leaves_bad_recordings_out(start, speech, tmp_path):
    samples = spoilt(speech, tmp_path, ["nan"] * 3)
    trainer = start(samples=speech, scl=SKIPPED, run_eval=True, epochs=1, eval_batch_size=2)
    trainer.eval_samples = [dict(sample) for sample in samples[:4]]  # a batch of two bad ones, and one with a sound one
    trainer.fit()
    values = trainer.keep_avg_eval.avg_values
    assert all(torch.tensor(list(values.values())).isfinite())
    assert "avg_cross_utterance_ge2e" in values


def test_an_error_of_this_package_is_raised():
    assert issubclass(BadStepError, RuntimeError)
