import pytest
import torch
from torch import nn

from coqui_scl_plugin import build_loss
from coqui_scl_plugin.references import RealSpeech, SegmentReferences, UtteranceReferences


class CountingEncoder(nn.Module):
    """Mean and largest value of each row, through a weight; counts its calls and keeps their lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 2.0]))
        self.lengths: list[int] = []

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        self.lengths.append(waveform.shape[-1])
        return self.weight * torch.stack([waveform.mean(-1), waveform.amax(-1)], dim=-1)


def utterance(name: str) -> torch.Tensor:
    """Of a length of its own."""
    number = int(name[1:])
    return torch.linspace(0.0, float(number), 10 + number)


def real_speech(*names: str) -> RealSpeech:
    segments = torch.stack([utterance(name)[:5] for name in names])
    return RealSpeech(segments, [utterance(name) for name in names], list(names), [name[0] for name in names])


def expected(names: tuple[str, ...]) -> torch.Tensor:
    """The embeddings of whole utterances: mean number / 2 and twice the largest."""
    return torch.tensor([[int(name[1:]) / 2, 2.0 * int(name[1:])] for name in names])


@pytest.mark.parametrize("references", [SegmentReferences, UtteranceReferences])
def test_references_carry_no_gradient(references):
    encoder, real = CountingEncoder(), real_speech("a1", "b2")
    real.segments.requires_grad_()
    for row in real.utterances:
        row.requires_grad_()
    embedded = references().embed("e", encoder, real)
    assert not embedded.requires_grad
    assert embedded.grad_fn is None


def test_a_segments_reference_is_the_embedded_segment():
    encoder, real = CountingEncoder(), real_speech("a1", "b2")
    embedded = SegmentReferences().embed("e", encoder, real)
    segments = real.segments
    torch.testing.assert_close(embedded, torch.stack([segments.mean(1), 2 * segments.amax(1)], dim=1))


def test_segments_are_embedded_at_every_step():
    encoder, references = CountingEncoder(), SegmentReferences()
    for _ in range(3):
        references.embed("e", encoder, real_speech("a1", "b2"))
    assert encoder.lengths == [5, 5, 5]


def test_an_utterance_is_embedded_once_and_whole():
    encoder, references = CountingEncoder(), UtteranceReferences()
    for names in (("a1", "b2"), ("b2", "a1"), ("b2", "a3"), ("a1", "a1")):
        torch.testing.assert_close(references.embed("e", encoder, real_speech(*names)), expected(names))
    assert encoder.lengths == [11, 12, 13]


@pytest.mark.parametrize("names", [("a1", "b2", "a3"), ("a3", "a1", "b2"), ("b2", "b2", "a1")])
def test_the_order_of_the_batch_is_kept(names):
    references = UtteranceReferences()
    references.embed("e", CountingEncoder(), real_speech("b2", "a3", "a1"))
    embedded = references.embed("e", CountingEncoder(), real_speech(*names))
    torch.testing.assert_close(embedded, expected(names))


def test_encoders_are_told_apart():
    one, other, references = CountingEncoder(), CountingEncoder(), UtteranceReferences()
    with torch.no_grad():
        other.weight.mul_(3)
    torch.testing.assert_close(references.embed("one", one, real_speech("a1")), expected(("a1",)))
    torch.testing.assert_close(references.embed("other", other, real_speech("a1")), 3 * expected(("a1",)))
    torch.testing.assert_close(references.embed("one", one, real_speech("a1")), expected(("a1",)))


@pytest.mark.parametrize("loss", ["cosine", "angular_margin", "contrastive"])
def test_what_inference_mode_embedded_serves_in_training(loss):
    encoder, references = CountingEncoder(), UtteranceReferences()
    with torch.inference_mode():
        references.embed("e", encoder, real_speech("a1", "b2"))
    reference = references.embed("e", encoder, real_speech("a1", "b2"))
    assert encoder.lengths == [11, 12]
    assert not reference.is_inference()
    generated = torch.tensor([[1.0, -1.0], [0.5, 1.0]], requires_grad=True)
    build_loss(loss)(generated, reference, torch.tensor([0, 1])).backward()
    assert generated.grad.norm() > 0


def test_speakers_of_a_batch_are_numbered():
    ids = real_speech("c1", "a2", "c3", "b4").speaker_ids.tolist()
    assert ids[0] == ids[2]
    assert len({ids[0], ids[1], ids[3]}) == 3
