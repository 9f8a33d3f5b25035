"""Which real speech an item is compared with: each source, and that no reference carries a gradient."""

import itertools
import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor
from toy_speech import RATE, ToyEncoder

from coqui_scl_plugin import build_loss
from coqui_scl_plugin.consistency.encoder_bank import EncoderBank
from coqui_scl_plugin.consistency.term import SpeakerConsistency
from coqui_scl_plugin.encoders.audio import ResampledAudio
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.errors import PreflightError
from coqui_scl_plugin.freeze import FrozenPolicy
from coqui_scl_plugin.references.embeddings import ReferenceEmbeddings
from coqui_scl_plugin.references.recordings import Recording
from coqui_scl_plugin.references.sources import ReferenceBatch, ReferenceSource, build_reference_source

SOURCES = ("segment", "utterance", "cross_utterance", "centroid")


def encoder(seed: int = 0) -> SegmentEncoder:
    return SegmentEncoder(ToyEncoder(seed)).eval()


def utterance(name: str) -> Tensor:
    """Of a length of its own."""
    number = int(name[1:])
    return torch.randn(1000 + 10 * number, generator=torch.Generator().manual_seed(number))


def real_speech(*names: str) -> ReferenceBatch:
    """A batch; the first letter of a name is the speaker."""
    segments = ResampledAudio(torch.stack([utterance(name)[:500] for name in names]), RATE)
    return ReferenceBatch(segments, [utterance(name) for name in names], list(names), [name[0] for name in names])


def recording(name: str, *, held_out: bool = False) -> Recording:
    return Recording(name, Path(f"{name}.wav"), name[0], held_out)


RECORDINGS = [
    *(recording(f"a{number}") for number in range(5)),
    *(recording(f"b{number}") for number in range(3)),
    recording("c1"),
    *(recording(f"{speaker}{number}", held_out=True) for speaker in "abc" for number in (8, 9)),
    recording("d8", held_out=True),  # there is nothing of d to train on
    recording("d9", held_out=True),
]
NAMES = [one.name for one in RECORDINGS]


def held(source: str, **embeddings: Tensor) -> ReferenceSource:
    """References over `RECORDINGS`; as embeddings, each has a direction of its own, so that a row tells which it is."""
    references = build_reference_source(source)
    references.hold(ReferenceEmbeddings(RECORDINGS, embeddings or {"e": torch.eye(len(RECORDINGS))}))
    return references


def drawn(references: ReferenceSource, *names: str, alias: str = "e", step: int = 0) -> list[str]:
    """The recordings that items of a batch are compared with."""
    rows = references.embed(alias, silent(), real_speech(*names), step)
    assert ((rows != 0).sum(dim=1) == 1).all()
    return [NAMES[row] for row in rows.argmax(dim=1).tolist()]


def silent() -> SegmentEncoder:
    """An encoder that must not be heard."""

    def heard() -> None:
        raise AssertionError("the encoder was run on real speech")

    return SegmentEncoder(ToyEncoder(before=heard)).eval()


# --- for all ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", SOURCES)
def test_references_carry_no_gradient(source):
    real = real_speech("a1", "b2", "a1")
    real.segments.waveform.requires_grad_()
    for row in real.utterances:
        row.requires_grad_()
    for references in (held(source), build_reference_source(source)):
        if references.needs_recordings and not references.embeddings.row:
            continue
        embedded = references.embed("e", encoder(), real)
        assert embedded.shape[0] == 3
        assert not embedded.requires_grad
        assert embedded.grad_fn is None


@pytest.mark.parametrize("source", SOURCES[1:])
def test_what_is_embedded_before_training_is_not_embedded_again(source):
    references = held(source)
    for step in range(3):
        assert references.embed("e", silent(), real_speech("a1", "b2", "c1"), step).shape == (3, len(RECORDINGS))


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("loss", ["cosine", "angular_margin", "contrastive"])
def test_what_inference_mode_embedded_serves_in_training(source, loss):
    references = held(source, e=torch.randn(len(RECORDINGS), 12, generator=torch.Generator().manual_seed(0)))
    late = [] if references.needs_recordings else ["a77"]  # of which nothing is known beforehand
    real = real_speech("a1", "b2", "a3", *late)
    with torch.inference_mode():
        references.embed("e", encoder(), real)
    reference = references.embed("e", encoder(), real)
    generated = torch.randn(len(reference), 12, generator=torch.Generator().manual_seed(1)).requires_grad_()
    build_loss(loss)(generated, reference, real.speaker_ids).backward()
    assert generated.grad.norm() > 0


@pytest.mark.parametrize("source", SOURCES[2:])
def test_a_speaker_of_whom_nothing_was_embedded_is_named(source):
    with pytest.raises(PreflightError, match=r"speaker 'x' .* none of the 17 recordings"):
        held(source).embed("e", encoder(), real_speech("a1", "x1"))


def test_speakers_of_a_batch_are_numbered():
    ids = real_speech("c1", "a2", "c3", "b4").speaker_ids.tolist()
    assert ids[0] == ids[2]
    assert len({ids[0], ids[1], ids[3]}) == 3


# --- segment ----------------------------------------------------------------------------------------------------------


def test_a_segments_reference_is_the_segment_embedded_at_every_step():
    one, references, real = encoder(), held("segment"), real_speech("a1", "b2")
    with torch.no_grad():
        expected = encoder()(real.segments.waveform)
    for _ in range(3):
        torch.testing.assert_close(references.embed("e", one, real), expected)
    assert one.encoder.heard == [(2, 500)] * 3


def test_a_segment_is_heard_at_the_encoders_rate():
    one = encoder()
    segments = torch.randn(2, 1000, generator=torch.Generator().manual_seed(0))
    real = ReferenceBatch(ResampledAudio(segments, 2 * RATE), list(segments), ["a1", "b1"], ["a", "b"])
    build_reference_source("segment").embed("e", one, real)
    assert one.encoder.heard == [(2, 500)]


# --- utterance --------------------------------------------------------------------------------------------------------


def whole(*names: str, seed: int = 0) -> Tensor:
    with torch.no_grad():
        return torch.cat([encoder(seed)(utterance(name)[None]) for name in names])


def test_an_utterances_reference_is_itself():
    names = ["b2", "a0", "b2", "c1", "a8", "d9"]
    assert drawn(held("utterance"), *names) == names


def test_an_utterance_that_was_not_embedded_is_when_it_comes_up_once_and_whole():
    one, references = encoder(), build_reference_source("utterance")
    for names in (("a1", "b2"), ("b2", "a1"), ("b2", "a3"), ("a1", "a1")):
        torch.testing.assert_close(references.embed("e", one, real_speech(*names)), whole(*names))
    assert [shape[-1] for shape in one.encoder.heard] == [1010, 1020, 1030]


def test_of_a_mixed_batch_only_the_unknown_are_embedded():
    one, references = encoder(), held("utterance", e=torch.eye(12)[[0] * len(RECORDINGS)])
    rows = references.embed("e", one, real_speech("a1", "a77", "b2"))
    assert one.encoder.heard == [(1, 1770)]
    torch.testing.assert_close(rows, torch.cat([torch.eye(12)[[0]], whole("a77"), torch.eye(12)[[0]]]))


@pytest.mark.parametrize("names", [("a1", "b2", "a3"), ("a3", "a1", "b2"), ("b2", "b2", "a1")])
def test_the_order_of_the_batch_is_kept(names):
    references = build_reference_source("utterance")
    references.embed("e", encoder(), real_speech("b2", "a3", "a1"))
    torch.testing.assert_close(references.embed("e", encoder(), real_speech(*names)), whole(*names))


def test_encoders_are_told_apart():
    references, real = build_reference_source("utterance"), real_speech("a1")
    for _ in range(2):
        torch.testing.assert_close(references.embed("one", encoder(1), real), whole("a1", seed=1))
        torch.testing.assert_close(references.embed("other", encoder(2), real), whole("a1", seed=2))


# --- cross_utterance --------------------------------------------------------------------------------------------------


def draws(steps: range, *names: str, references: ReferenceSource | None = None, alias: str = "e") -> list[list[str]]:
    references = references or held("cross_utterance")
    return [drawn(references, *names, alias=alias, step=step) for step in steps]


def test_it_is_another_recording_of_the_same_speaker_and_in_time_each_of_them():
    names = ("a0", "b1", "a3")
    by_item = [set(items) for items in zip(*draws(range(100), *names), strict=True)]
    assert by_item == [{"a1", "a2", "a3", "a4"}, {"b0", "b2"}, {"a0", "a1", "a2", "a4"}]


def test_each_is_drawn_about_as_often_and_without_a_pattern():
    found = [item for (item,) in draws(range(1000), "a0")]
    for name in ("a1", "a2", "a3", "a4"):
        assert abs(found.count(name) - 250) < 4 * (1000 * 0.25 * 0.75) ** 0.5
    repeats = sum(one == next_one for one, next_one in itertools.pairwise(found))
    assert abs(repeats - 250) < 4 * (1000 * 0.25 * 0.75) ** 0.5


def test_the_same_step_draws_the_same_whenever_it_comes():
    assert draws(range(50), "a0", "b1") == draws(range(50), "a0", "b1")
    # a run that is restored at step 30 goes on alike
    assert draws(range(30, 50), "a0", "b1") == draws(range(50), "a0", "b1")[30:]
    references = held("cross_utterance")
    assert drawn(references, "a0", step=7) == drawn(references, "a0", step=7)


def test_what_an_item_is_compared_with_does_not_depend_on_its_neighbours():
    alone = [item for (item,) in draws(range(30), "a0")]
    assert alone == [items[2] for items in draws(range(30), "b1", "a3", "a0", "c1")]
    assert alone != [item for (item,) in draws(range(30), "a1")]


def test_items_are_drawn_for_independently():
    found = draws(range(200), "b0", "b1")
    # the first or the second of the two others
    alike = sum(("b1", "b2").index(one) == ("b0", "b2").index(other) for one, other in found)
    assert abs(alike - 100) < 4 * (200 * 0.25) ** 0.5


def test_it_leaves_the_random_state_alone():
    state = torch.random.get_rng_state()
    draws(range(3), "a0")
    assert torch.equal(torch.random.get_rng_state(), state)


def test_each_encoder_is_given_the_same_recordings():
    eye = torch.eye(len(RECORDINGS))
    references = held("cross_utterance", one=eye, two=3 * eye)
    found = [draws(range(40), "a0", "b1", references=references, alias=alias) for alias in ("one", "two")]
    assert found[0] == found[1]


def test_held_out_speech_never_stands_for_speech_to_train_on():
    seen = {item for items in draws(range(200), "a0", "a1", "b0", "c1", "a8", "b9") for item in items}
    assert seen == {"a0", "a1", "a2", "a3", "a4", "b0", "b1", "b2", "c1"}


def test_a_held_out_item_is_compared_with_speech_to_train_on():
    found = draws(range(200), "a8", "b9", "c8")
    by_item = [set(items) for items in zip(*found, strict=True)]
    assert by_item == [{"a0", "a1", "a2", "a3", "a4"}, {"b0", "b1", "b2"}, {"c1"}]


def test_a_speaker_without_speech_to_train_on_is_compared_with_the_rest():
    assert {item for (item,) in draws(range(30), "d8")} == {"d9"}


def test_one_recording_is_compared_with_itself():
    assert {item for (item,) in draws(range(30), "c1")} == {"c1"}


def test_a_recording_that_is_not_in_the_data_set_is_compared_with_its_speakers():
    assert {item for (item,) in draws(range(100), "b77")} == {"b0", "b1", "b2"}


def consistency(source: str) -> SpeakerConsistency:
    loss = build_loss("ensemble", {"calibrate": False, "encoders": {"toy": 1.0}})
    bank = EncoderBank({"toy": encoder()}, {"toy": FrozenPolicy()})
    return SpeakerConsistency(loss, bank, build_reference_source(source))


def test_the_step_of_the_term_draws_the_references():
    trained = consistency("cross_utterance")
    trained.hold(ReferenceEmbeddings(RECORDINGS, {"toy": torch.eye(len(RECORDINGS))}))
    found = []
    for step in range(30):
        real = real_speech("a0")
        reference = trained.hear_real("toy", real, step).embedding
        found.append([NAMES[int(reference.argmax())]])
    assert found == draws(range(30), "a0")
    assert len({item for (item,) in found}) > 1


def test_speakers_with_one_recording_are_counted_and_named(caplog):
    speech = ReferenceEmbeddings(RECORDINGS, {"toy": torch.eye(len(RECORDINGS))})
    with caplog.at_level(logging.WARNING, logger="coqui_scl_plugin"):
        consistency("cross_utterance").hold(speech)
    (message,) = [record.getMessage() for record in caplog.records]
    assert "1 of 4 speakers" in message
    assert "(c)" in message


def test_nothing_is_said_where_it_does_not_matter(caplog):
    every = ReferenceEmbeddings(RECORDINGS, {"toy": torch.eye(len(RECORDINGS))})
    pairs = ReferenceEmbeddings(RECORDINGS[:7], {"toy": torch.eye(7)})  # of a speaker there are two
    with caplog.at_level(logging.WARNING, logger="coqui_scl_plugin"):
        for source in ("segment", "utterance", "centroid"):
            consistency(source).hold(every)
        consistency("cross_utterance").hold(pairs)
    assert caplog.records == []


# --- centroid ---------------------------------------------------------------------------------------------------------


def random_unit(seed: int = 0) -> Tensor:
    rows = torch.randn(len(RECORDINGS), 12, generator=torch.Generator().manual_seed(seed)) + 0.5
    return rows / rows.norm(dim=1, keepdim=True)


def mean_direction(embeddings: Tensor, names: list[str]) -> Tensor:
    total = sum(embeddings[NAMES.index(name)].double() for name in names)
    return (total / total.norm()).float()


OWN = {
    "a": ["a0", "a1", "a2", "a3", "a4"],
    "b": ["b0", "b1", "b2"],
    "c": ["c1"],
    "d": ["d8", "d9"],
}
"""What a speaker's centroid is made of: speech to train on, where there is some."""


def test_a_centroid_is_the_mean_direction_of_a_speakers_recordings():
    embeddings = {"one": random_unit(1), "two": random_unit(2)}
    references = held("centroid", **embeddings)
    for alias, rows in embeddings.items():
        found = references.embed(alias, silent(), real_speech("b1", "a0", "b77", "c1", "d8", "a9"))
        expected = torch.stack([mean_direction(rows, OWN[speaker]) for speaker in "babcda"])
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
        torch.testing.assert_close(found.norm(dim=1), torch.ones(6))


def test_the_data_sets_centroids_are_in_the_order_of_its_speakers():
    rows = random_unit(3)
    speech = ReferenceEmbeddings(RECORDINGS[::-1], {"e": rows.flip(0)})
    assert speech.speakers == ["a", "b", "c", "d"]
    expected = torch.stack([mean_direction(rows, OWN[speaker]) for speaker in "abcd"])
    torch.testing.assert_close(speech.centroids("e"), expected, atol=1e-6, rtol=0)
    batch = ["c", "a", "d", "a"]
    torch.testing.assert_close(
        speech.centroids("e")[speech.speaker_ids(batch)], torch.stack([mean_direction(rows, OWN[s]) for s in batch])
    )


def test_floor_and_ceiling_are_of_the_speech_to_train_on():
    rows = random_unit(4)
    train = [name for names in ("a", "b", "c") for name in OWN[names]]
    cosines: dict[bool, list[float]] = {True: [], False: []}
    for one, other in itertools.combinations(train, 2):
        cosine = rows[NAMES.index(one)].double() @ rows[NAMES.index(other)].double()
        cosines[one[0] == other[0]].append(cosine.item())
    floor, ceiling = ReferenceEmbeddings(RECORDINGS, {"e": rows}).calibration("e")
    assert floor == pytest.approx(sum(cosines[False]) / len(cosines[False]), abs=1e-6)
    assert ceiling == pytest.approx(sum(cosines[True]) / len(cosines[True]), abs=1e-6)


def test_without_speech_to_train_on_there_are_no_levels():
    only = [recording(name, held_out=True) for name in ("a1", "a2", "b1")]
    assert ReferenceEmbeddings(only, {"e": torch.eye(3)}).calibration("e") is None
