"""References in a run through Coqui's trainer: embedded before, so that a step hears generated speech alone."""

import functools
import hashlib
import itertools
import json
import logging
from pathlib import Path
from typing import NamedTuple

import pytest
import soundfile
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from TTS.config import load_config

from coqui_scl_plugin import SclVits, build_encoder
from coqui_scl_plugin.encoders.dvector import DVectorEncoder
from coqui_scl_plugin.encoders.ge2e import GE2EEncoder
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.encoders.windowed import WindowedEncoder
from coqui_scl_plugin.errors import ConfigError, PreflightError
from coqui_scl_plugin.references.fill import plan_batches
from coqui_scl_plugin.references.recordings import Recording

pytestmark = pytest.mark.usefixtures("one_thread")

BOTH = [{"name": "ge2e"}, {"name": "dvector"}]
ENSEMBLE = {"encoders": BOTH, "loss": {"name": "ensemble"}}
CENTROID_PROTOTYPES = {"name": "angular_margin", "params": {"prototypes": "centroid"}}


class EncoderCall(NamedTuple):
    """A forward call of an encoder."""

    alias: str
    waveform: torch.Tensor
    with_gradient: bool


class Step(NamedTuple):
    """A training or evaluation step."""

    batch: dict
    heard: list[EncoderCall]
    generated: list[torch.Tensor]
    logged: dict[str, float]
    gradient: list[torch.Tensor]


class Watched(SclVits):
    """Notes what each encoder hears, before the first step and in each; draws no plots, which take seconds."""

    def __init__(self, config):
        super().__init__(config)
        self.heard_before: list[EncoderCall] = []
        self.steps: list[Step] = []
        self.parts.build_consistency()
        for alias, prepared in self.speaker_encoder_loss.encoders.segment_encoders.items():
            prepared.encoder.register_forward_hook(functools.partial(self.note, alias))

    def note(self, alias, encoder, arguments, output):
        heard = self.steps[-1].heard if self.steps else self.heard_before
        heard.append(EncoderCall(alias, arguments[0].detach().clone(), output.requires_grad))

    def train_step(self, batch, criterion, optimizer_idx=None):
        if optimizer_idx == 0:
            self.steps.append(Step(batch, [], [], {}, []))
        outputs, losses = super().train_step(batch, criterion, optimizer_idx)
        if optimizer_idx == 1:
            step, generated = self.steps[-1], outputs["model_outputs"]
            step.generated.append(generated.detach().squeeze(1).clone())
            step.logged.update({key: float(torch.as_tensor(value).detach()) for key, value in losses.items()})
            if self.training:
                step.gradient.extend(torch.autograd.grad(losses["loss_spk_encoder"], generated, retain_graph=True))
        return outputs, losses

    def train_log(self, *args, **kwargs):
        pass

    def eval_log(self, *args, **kwargs):
        pass

    @property
    def real_rows_before(self) -> dict[str, int]:
        """How many recordings each encoder heard before the first step."""
        rows = dict.fromkeys(self.speaker_encoder_loss.encoders, 0)
        for heard in self.heard_before:
            if not heard.with_gradient:
                rows[heard.alias] += len(heard.waveform)
        return rows


def is_generated(heard: EncoderCall, step: Step) -> bool:
    """Whether it is what was generated in this step, repeated up to the length that the encoder needs."""
    (generated,) = step.generated
    length = generated.shape[1]
    return heard.waveform.shape[0] == len(generated) and torch.equal(heard.waveform[:, :length], generated)


def assert_only_generated_speech_is_heard(model: Watched, steps: int, aliases: list[str]) -> None:
    assert len(model.steps) == steps
    for step in model.steps:
        assert [heard.alias for heard in step.heard] == aliases
        for heard in step.heard:
            assert is_generated(heard, step)
            assert heard.with_gradient is model.training


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An absolute path, so that runs of several tests embed each recording once."""
    return str(tmp_path_factory.mktemp("cache") / "references.safetensors")


@pytest.fixture(scope="module")
def alone():
    """The embedding of a recording by a fresh encoder, on its own; cut as it is in a batch."""
    encoders = {name: SegmentEncoder(build_encoder(name), 1.0).eval() for name in ("ge2e", "dvector")}

    @functools.cache
    def embed(name: str, file: str) -> torch.Tensor:
        samples, rate = soundfile.read(file, dtype="float32")
        assert rate == encoders[name].sample_rate
        (batch,) = plan_batches([Recording("r", Path(file), "s")])
        samples = samples[: int(batch.seconds * rate)]
        with torch.no_grad():
            return encoders[name](torch.from_numpy(samples)[None])[0]

    return embed


@pytest.fixture
def _each_alone(monkeypatch):
    """Recordings share no pass, so that the hooks of an encoder hear each."""
    monkeypatch.delattr(WindowedEncoder, "embed_each")


def runs_left(config) -> list[Path]:
    return [path for path in Path(config.output_path).glob("*") if path.is_dir()]


def caches(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


def section_of(trainer) -> dict:
    return json.loads((trainer.output_path / "config.json").read_text())["scl"]


# --- a step hears generated speech alone, and compares it with the right recordings -----------------------------------


def other_recordings(source: str, sample: dict, samples: list[dict]) -> list[dict]:
    """What makes up the reference of an item, where each speaker has two recordings to train on."""
    own = [s for s in samples if s["speaker_name"] == sample["speaker_name"]]
    assert len(own) == 2
    return {
        "utterance": [sample],
        "cross_utterance": [s for s in own if s["audio_unique_name"] != sample["audio_unique_name"]],
        "centroid": own,
    }[source]


@pytest.mark.parametrize("source", ["utterance", "cross_utterance", "centroid"])
def test_a_step_runs_no_encoder_on_real_speech(source, tiny_config, make_trainer, shared_cache, samples, alone):
    section = {"weight": 1.0, "reference": {"source": source, "cache": shared_cache}}
    model = Watched(tiny_config(section))
    trainer = make_trainer(model, count=8)
    trainer.fit()
    assert_only_generated_speech_is_heard(model, 2, ["ge2e"])

    by_name, train = {s["audio_unique_name"]: s for s in samples}, samples[:8]
    encoder = SegmentEncoder(build_encoder("ge2e"), 1.0).eval()
    for step in model.steps:
        with torch.no_grad():
            generated = encoder(step.generated[0])
        cosines = []
        for row, name in zip(generated, step.batch["audio_unique_names"], strict=True):
            made_of = other_recordings(source, by_name[name], train)
            reference = sum(alone("ge2e", s["audio_file"]) for s in made_of)
            cosines.append(torch.cosine_similarity(row, reference, dim=0).item())
        assert step.logged["reference_cosine_ge2e"] == pytest.approx(sum(cosines) / 4, abs=1e-4)
        assert step.logged["loss_spk_encoder"] == pytest.approx(1 - sum(cosines) / 4, abs=1e-4)
        assert step.gradient[0].norm() > 0


def test_the_slice_of_real_speech_is_heard_in_every_step(tiny_config, make_trainer):
    """The source `segment`, which shows that the tests beside this one can fail."""
    model = Watched(tiny_config({"reference": {"source": "segment"}}))
    trainer = make_trainer(model, count=4)
    trainer.fit()
    (step,) = model.steps
    assert [heard.alias for heard in step.heard] == ["ge2e", "ge2e"]
    assert sorted(is_generated(heard, step) for heard in step.heard) == [False, True]
    assert sorted(heard.with_gradient for heard in step.heard) == [False, True]
    assert caches(Path(trainer.output_path).parent) == []


def test_prototypes_of_all_speakers_teach_batches_of_one(tiny_config, make_trainer, shared_cache, samples, alone):
    section = {
        "weight": 1.0,
        "loss": CENTROID_PROTOTYPES,
        "reference": {"cache": shared_cache},
        "freeze": {"check_every": 1},
    }
    model = Watched(tiny_config(section, batch_size=1))
    trainer = make_trainer(model, count=8)
    trainer.train_samples = trainer.train_samples[:2]  # all speakers were embedded, two recordings are trained on
    trainer.fit()
    assert_only_generated_speech_is_heard(model, 2, ["ge2e"])
    encoder, speakers = SegmentEncoder(build_encoder("ge2e"), 1.0).eval(), sorted({s["speaker_name"] for s in samples})
    assert len(speakers) == 4
    for step in model.steps:
        with torch.no_grad():
            (generated,) = encoder(step.generated[0]).double()
        own = speakers.index(step.batch["speaker_names"][0])
        logits = []
        for index, speaker in enumerate(speakers):
            centroid = sum(alone("ge2e", s["audio_file"]) for s in samples[:8] if s["speaker_name"] == speaker).double()
            angle = torch.arccos(torch.cosine_similarity(generated, centroid, dim=0))
            logits.append(30.0 * torch.cos(angle + 0.2 * (index == own)))
        expected = (torch.stack(logits).logsumexp(0) - logits[own]).item()
        assert expected > 0
        assert step.logged["loss_spk_encoder"] == pytest.approx(expected, rel=1e-3)
        assert step.gradient[0].norm() > 0


def test_held_out_encoders_hear_whole_recordings_at_evaluation_alone(tiny_config, make_trainer, shared_cache):
    section = {"holdout": [{"name": "dvector"}], "reference": {"cache": shared_cache}}
    model = Watched(tiny_config(section, run_eval=True))
    trainer = make_trainer(model, count=4)
    trainer.fit()
    training, evaluation = model.steps
    assert [heard.alias for heard in training.heard] == ["ge2e"]
    assert is_generated(training.heard[0], training)
    assert not any("dvector" in key for key in training.logged)

    of_loss, *of_whole_recordings = evaluation.heard
    assert of_loss.alias == "ge2e"
    assert is_generated(of_loss, evaluation)
    # then each recording of the evaluation set: its copy and, once in a run, itself, by both encoders
    assert [heard.alias for heard in of_whole_recordings] == ["ge2e", "ge2e", "dvector", "dvector"] * 4
    assert not any(heard.with_gradient for heard in evaluation.heard)
    assert trainer.keep_avg_eval.avg_values.keys() >= {"avg_cross_utterance_ge2e", "avg_cross_utterance_dvector"}


def test_an_ensemble_is_logged_raw_and_calibrated(tiny_config, make_trainer, shared_cache):
    section = {**ENSEMBLE, "weight": 2.0, "reference": {"cache": shared_cache}}
    model = Watched(tiny_config(section))
    trainer = make_trainer(model, count=8)
    trainer.fit()
    assert_only_generated_speech_is_heard(model, 2, ["ge2e", "dvector"])

    events = EventAccumulator(str(trainer.output_path), size_guidance={"scalars": 0}).Reload()
    logged = {
        tag.rpartition("/")[2]: [event.value for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
        if tag.startswith(("TrainIterStats", "SpeakerReferences"))
    }
    levels = {spec["name"]: (spec["floor"], spec["ceiling"]) for spec in section_of(trainer)["encoders"]}
    members = {}
    for alias, (floor, ceiling) in levels.items():
        assert logged[f"floor_{alias}"] == pytest.approx([floor])
        assert logged[f"ceiling_{alias}"] == pytest.approx([ceiling])
        raw, calibrated = logged[f"reference_cosine_{alias}"], logged[f"calibrated_reference_cosine_{alias}"]
        assert len(raw) == len(calibrated) == 2
        assert calibrated == pytest.approx([(cosine - floor) / (ceiling - floor) for cosine in raw], abs=1e-4)
        members[alias] = [1 - value for value in calibrated]
        assert logged[f"loss_spk_encoder_{alias}"] == pytest.approx(members[alias], abs=1e-4)
    total = [2.0 * sum(values) / 2 for values in zip(*members.values(), strict=True)]
    assert logged["loss_spk_encoder"] == pytest.approx(total, abs=1e-3)
    console = (trainer.output_path / "trainer_0_log.txt").read_text()
    assert console.count("calibrated_reference_cosine_dvector: ") >= 2


# --- what is embedded before ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_each_alone")
def test_a_second_run_embeds_nothing(tiny_config, make_trainer, capfd):
    config = tiny_config()
    cache = Path(config.output_path) / "speaker_references.safetensors"
    first = Watched(config)
    make_trainer(first, count=8)
    assert first.real_rows_before == {"ge2e": 12}  # eight to train on, four held out
    assert "References by ge2e" in capfd.readouterr().err
    written = cache.read_bytes()
    second = Watched(tiny_config())
    make_trainer(second, count=8)
    assert second.real_rows_before == {"ge2e": 0}
    assert "References by" not in capfd.readouterr().err
    assert cache.read_bytes() == written
    # one more recording is embedded alone, and another encoder hears them all
    third = Watched(tiny_config({**ENSEMBLE}))
    make_trainer(third, count=9)
    assert third.real_rows_before == {"ge2e": 1, "dvector": 13}


@pytest.mark.usefixtures("_each_alone")
def test_without_a_cache_nothing_is_kept(tiny_config, make_trainer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        model = Watched(tiny_config({"reference": {"cache": None}}))
        make_trainer(model, count=4)
        assert model.real_rows_before == {"ge2e": 8}
    assert caches(tmp_path) == []


@pytest.mark.usefixtures("_each_alone")
def test_a_cache_may_lie_anywhere(tiny_config, make_trainer, tmp_path):
    target = tmp_path / "elsewhere" / "mine.safetensors"
    config = tiny_config({"reference": {"cache": str(target)}})
    make_trainer(Watched(config), count=4)
    assert caches(tmp_path) == [target]
    again = Watched(tiny_config({"reference": {"cache": str(target)}}, output_path=str(tmp_path / "other_runs")))
    make_trainer(again, count=4)
    assert again.real_rows_before == {"ge2e": 0}
    assert caches(tmp_path) == [target]


@pytest.mark.usefixtures("_each_alone")
def test_an_interrupted_start_leaves_what_was_embedded_and_no_run(tiny_config, make_trainer):
    config = tiny_config()
    model, calls, done = Watched(config), itertools.count(), []

    def interrupt(module, arguments):
        if next(calls) == 5:
            done.append(model.real_rows_before["ge2e"])
            raise KeyboardInterrupt

    handle = model.speaker_encoder_loss.encoders["ge2e"].encoder.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        make_trainer(model, count=8)
    handle.remove()
    assert runs_left(config) == []
    assert 5 <= done[0] < 12
    again = Watched(tiny_config())
    make_trainer(again, count=8)
    assert again.real_rows_before == {"ge2e": 12 - done[0]}


def test_a_cache_that_is_none_stops_the_run_and_is_left_alone(tiny_config, make_trainer):
    config = tiny_config()
    cache = Path(config.output_path) / "speaker_references.safetensors"
    cache.parent.mkdir()
    cache.write_text("notes of mine")
    with pytest.raises(ConfigError, match=r"^scl\.reference\.cache"):
        make_trainer(SclVits(config), count=4)
    assert cache.read_text() == "notes of mine"
    assert runs_left(config) == []


def test_speakers_with_one_recording_are_counted_at_the_start(tiny_config, make_trainer, shared_cache, caplog):
    section = {"reference": {"source": "cross_utterance", "cache": shared_cache}}
    with caplog.at_level(logging.WARNING, logger="coqui_scl_plugin"):
        make_trainer(Watched(tiny_config(section)), count=6)
    (message,) = [r.getMessage() for r in caplog.records if r.name.startswith("coqui_scl_plugin")]
    assert "2 of 4 speakers" in message


# --- what is measured, and kept in the run's config -------------------------------------------------------------------


def test_the_runs_config_holds_what_was_measured(tiny_config, make_trainer, samples, alone, shared_cache):
    section = {**ENSEMBLE, "encoders": BOTH[:1], "holdout": BOTH[1:], "reference": {"cache": shared_cache}}
    trainer = make_trainer(Watched(tiny_config(section)), count=8)
    recorded = section_of(trainer)
    for spec in (*recorded["encoders"], *recorded["holdout"]):
        name = spec["name"]
        assert spec["params"] == {"sha256": sha256_of_weights(name)}
        cosines: dict[bool, list[float]] = {True: [], False: []}
        for one, other in itertools.combinations(samples[:8], 2):  # those to train on alone
            left, right = (alone(name, sample["audio_file"]) for sample in (one, other))
            cosines[one["speaker_name"] == other["speaker_name"]].append((left @ right).item())
        assert spec["floor"] == pytest.approx(sum(cosines[False]) / len(cosines[False]), abs=1e-4)
        assert spec["ceiling"] == pytest.approx(sum(cosines[True]) / len(cosines[True]), abs=1e-4)
        assert spec["floor"] < spec["ceiling"]
    # the rest of the file is as the trainer wrote it
    whole = json.loads((trainer.output_path / "config.json").read_text())
    assert whole["model"] == "scl_vits"
    assert whole["batch_size"] == 4
    assert whole["model_args"]["hidden_channels"] == 32
    assert load_config(trainer.output_path / "config.json").scl.to_dict() == recorded


def sha256_of_weights(name: str) -> str:
    weights = {"ge2e": GE2EEncoder, "dvector": DVectorEncoder}[name].packaged_weights
    return hashlib.sha256(weights.load().path.read_bytes()).hexdigest()


def test_a_run_from_that_config_measures_nothing_anew(tiny_config, make_trainer, batch_of, shared_cache):
    section = {**ENSEMBLE, "weight": 1.0, "encoders": BOTH[:1], "reference": {"cache": shared_cache}}
    first = make_trainer(Watched(tiny_config(section)), count=8)
    path = first.output_path / "config.json"
    data = json.loads(path.read_text())
    measured = data["scl"]["encoders"][0]
    data["scl"]["encoders"][0] = measured | {"floor": 0.25, "ceiling": 0.5}
    path.write_text(json.dumps(data))

    model = Watched(load_config(path))
    trainer = make_trainer(model, count=8)
    by_hand = {key: value for key, value in measured["measured"].items() if key not in ("floor", "ceiling")}
    assert section_of(trainer)["encoders"] == [measured | {"floor": 0.25, "ceiling": 0.5, "measured": by_hand}]
    batch, criteria = batch_of(model), model.get_criterion()
    model.train_step(batch, criteria[0], 0)
    _, losses = model.train_step(batch, criteria[1], 1)
    raw = losses["reference_cosine_ge2e"].item()
    assert losses["calibrated_reference_cosine_ge2e"].item() == pytest.approx((raw - 0.25) / 0.25, abs=1e-5)
    assert losses["loss_spk_encoder"].item() == pytest.approx(1 - (raw - 0.25) / 0.25, abs=1e-5)


def test_with_given_levels_and_segments_nothing_is_embedded(tiny_config, make_trainer, tmp_path):
    encoder = {"name": "ge2e", "floor": 0.25, "ceiling": 0.5}
    section = {**ENSEMBLE, "encoders": [encoder], "reference": {"source": "segment"}}
    model = Watched(tiny_config(section))
    make_trainer(model, count=8)
    assert model.real_rows_before == {"ge2e": 2}  # the slices of the batch that the gradient is checked with
    assert caches(tmp_path) == []


# --- data that is too small for what the config asks ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("speakers", "count", "says"),
    [({"slt"}, 4, "1 speaker(s) with 4 recording(s)"), (None, 4, "4 speaker(s) with 4 recording(s)")],
    ids=["one speaker", "one recording each"],
)
def test_too_few_speakers_to_calibrate_stop_the_run(tiny_config, make_trainer, shared_cache, speakers, count, says):
    config = tiny_config({**ENSEMBLE, "encoders": BOTH[:1], "reference": {"cache": shared_cache}})
    with pytest.raises(PreflightError, match="calibrate") as caught:
        make_trainer(SclVits(config), count=count, speakers=speakers)
    assert says in str(caught.value)
    assert "scl.loss.params.calibrate to false" in str(caught.value)
    assert runs_left(config) == []


def test_speakers_that_an_encoder_cannot_tell_apart_stop_the_run(tiny_config, make_trainer, shared_cache, samples):
    section = {**ENSEMBLE, "encoders": BOTH[:1], "reference": {"cache": shared_cache}}
    # each recording under the name of another speaker, so that those of one name are least alike
    names = sorted({s["speaker_name"] for s in samples})
    confused = [dict(s, speaker_name=names[index // 4]) for index, s in enumerate(samples[:8])]
    config = tiny_config(section)
    with pytest.raises(PreflightError, match=r"'ge2e' scores recordings of one speaker no higher"):
        make_trainer(SclVits(config), train_samples=confused)
    assert runs_left(config) == []


@pytest.fixture
def own_loader(samples):
    """A data loader that the user brings."""
    return lambda model: model.get_data_loader(model.config, is_eval=True, samples=[dict(s) for s in samples[:4]])


def test_with_a_loader_of_the_users_own_utterances_are_embedded_as_they_come(
    tiny_config, make_trainer, own_loader, tmp_path, alone
):
    model = Watched(tiny_config({"weight": 1.0}, epochs=2))
    trainer = make_trainer(model, train_samples=None, eval_samples=None, train_loader=own_loader(model))
    assert model.real_rows_before == {"ge2e": 4}
    trainer.fit()
    assert_only_generated_speech_is_heard(model, 2, ["ge2e"])
    assert caches(tmp_path) == []


def test_levels_that_are_given_need_no_recordings(tiny_config, make_trainer, own_loader):
    section = {**ENSEMBLE, "encoders": [{"name": "ge2e", "floor": 0.25, "ceiling": 0.5}]}
    model = Watched(tiny_config(section))
    trainer = make_trainer(model, train_samples=None, eval_samples=None, train_loader=own_loader(model))
    (spec,) = section_of(trainer)["encoders"]
    assert (spec["floor"], spec["ceiling"]) == (0.25, 0.5)


@pytest.mark.parametrize(
    "section",
    [
        {"reference": {"source": "cross_utterance"}},
        {"reference": {"source": "centroid"}},
        {"loss": CENTROID_PROTOTYPES},
        {"loss": {"name": "ensemble"}},
        {"loss": {"name": "ensemble", "params": {"member": CENTROID_PROTOTYPES, "calibrate": False}}},
    ],
    ids=["cross_utterance", "centroid", "prototypes", "calibrate", "prototypes of members"],
)
def test_what_needs_all_recordings_needs_to_be_told_them(tiny_config, make_trainer, own_loader, section):
    config = tiny_config(section)
    model = SclVits(config)
    with pytest.raises(PreflightError, match="train_samples"):
        make_trainer(model, train_samples=None, eval_samples=None, train_loader=own_loader(model))
    assert runs_left(config) == []
