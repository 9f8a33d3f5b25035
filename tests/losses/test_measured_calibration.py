"""Floor and ceiling: the mean cosines of all pairs, found without looking at any pair."""

import itertools
import math

import numpy as np
import pytest
import torch

from coqui_scl_plugin.losses.calibration import UNCALIBRATED, Calibration, measure_calibration


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pair_by_pair(embeddings: torch.Tensor, speakers: list[str]) -> tuple[float, float]:
    """The definition: every pair of different recordings, in float64."""
    rows = [row / math.sqrt(sum(value**2 for value in row)) for row in embeddings.double().numpy()]
    across, within = [], []
    for one, other in itertools.combinations(range(len(rows)), 2):
        (within if speakers[one] == speakers[other] else across).append(float(rows[one] @ rows[other]))
    return sum(across) / len(across), sum(within) / len(within)


@pytest.mark.parametrize(
    "speakers",
    [
        ["a", "a", "b", "b"],
        ["b", "a", "c", "a", "b", "a"],
        ["a", "b", "c", "d", "a"],
        ["a"] * 9 + ["b"],
        [f"s{index % 7}" for index in range(40)],
    ],
    ids=lambda speakers: f"{len(speakers)} of {len(set(speakers))}",
)
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_the_mean_over_all_pairs(speakers, seed):
    generator = torch.Generator().manual_seed(seed)
    # of different lengths, and with a voice in common, so that no mean is near 0
    embeddings = (random(len(speakers), 16, seed=seed) + 0.7) * torch.rand(len(speakers), 1, generator=generator)
    floor, ceiling = measure_calibration(embeddings, speakers)
    expected_floor, expected_ceiling = pair_by_pair(embeddings, speakers)
    assert floor == pytest.approx(expected_floor, abs=1e-6)
    assert ceiling == pytest.approx(expected_ceiling, abs=1e-6)


def test_recordings_that_sound_like_their_speaker_lie_above_the_floor():
    voices = random(5, 32)
    embeddings = torch.cat([voices + 0.3 * random(5, 32, seed=seed) for seed in range(1, 5)])
    floor, ceiling = measure_calibration(embeddings, list("abcde") * 4)
    assert ceiling > 0.85
    assert abs(floor) < 0.3


def test_neither_order_nor_length_nor_the_names_matter():
    embeddings, speakers = random(12, 8) + 0.5, list("abcabcabcaab")
    levels = measure_calibration(embeddings, speakers)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1)).tolist()
    shuffled = measure_calibration(embeddings[order], [speakers[row] for row in order])
    scaled = measure_calibration(1e-3 * embeddings, speakers)
    renamed = measure_calibration(embeddings, [{"a": "z", "b": "A", "c": ""}[speaker] for speaker in speakers])
    for other in (shuffled, scaled, renamed):
        assert other == pytest.approx(levels, abs=1e-6)


@pytest.mark.parametrize(
    "speakers", [[], ["a"], ["a", "a"], ["a", "a", "a"], ["a", "b"], ["a", "b", "c"]], ids=lambda names: "".join(names)
)
def test_none_where_a_mean_has_no_pair(speakers):
    assert measure_calibration(random(len(speakers), 8), speakers) is None


def test_three_recordings_are_enough():
    x = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, -1.0]])
    assert measure_calibration(x, ["a", "a", "b"]) == pytest.approx((0.0, 0.6), abs=1e-7)
    x[2] = torch.tensor([-1.0, 0.0, 0.0])
    assert measure_calibration(x, ["a", "a", "b"]) == pytest.approx((-0.8, 0.6), abs=1e-7)


def test_equal_embeddings_are_at_1_whoever_speaks():
    levels = measure_calibration(torch.ones(6, 8) * 3.0, list("aabbcc"))
    assert levels == pytest.approx((1.0, 1.0), abs=1e-12)


def test_levels_that_hardly_differ_are_told_apart():
    # in float32 the difference of two sums of thousands of ones would drown in rounding
    speakers = [f"s{index % 50}" for index in range(1000)]
    voices = 1e-3 * random(50, 16)
    embeddings = torch.ones(1000, 16) + voices[[index % 50 for index in range(1000)]]
    levels = measure_calibration(embeddings, speakers)
    assert levels == pytest.approx(pair_by_pair(embeddings, speakers), abs=1e-9)
    assert 1e-8 < levels.ceiling - levels.floor < 1e-5


def test_many_recordings_need_no_matrix_of_all_pairs():
    count, speakers = 100_000, 300  # all cosines at once would take 40 GB
    names = [f"s{index % speakers}" for index in range(count)]
    embeddings = random(count, 24) + random(speakers, 24, seed=1).repeat(count // speakers + 1, 1)[:count] + 0.2
    levels = measure_calibration(embeddings, names)

    unit = embeddings.double().numpy()
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    generator = np.random.default_rng(0)
    left, right = generator.integers(0, count, (2, 500_000))
    keep = left != right
    cosines = np.einsum("nd,nd->n", unit[left[keep]], unit[right[keep]])
    same = (left[keep] - right[keep]) % speakers == 0
    for level, drawn in ((levels.floor, cosines[~same]), (levels.ceiling, cosines[same])):
        assert abs(level - drawn.mean()) < 5 * drawn.std() / math.sqrt(len(drawn))


def test_rescaling_sends_the_floor_to_0_and_the_ceiling_to_1():
    levels = Calibration(-0.2, 0.6)
    cosines = torch.tensor([-0.2, 0.6, 0.2, -1.0, 1.0])
    torch.testing.assert_close(levels.rescale(cosines), torch.tensor([0.0, 1.0, 0.5, -1.0, 1.5]))
    assert torch.equal(UNCALIBRATED.rescale(cosines), cosines)
