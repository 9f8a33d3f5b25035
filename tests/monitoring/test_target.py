"""`target_loss` as a similarity, by its present and former names."""

from types import SimpleNamespace

import pytest

from coqui_scl_plugin.monitoring.target import alias_of, distance_of, is_calibrated, take_target, target_similarity


@pytest.mark.parametrize("distance", ["", "distance_"])
@pytest.mark.parametrize(
    ("name", "similarity"),
    [
        ("cross_utterance_my_encoder", "cross_utterance_my_encoder"),
        ("calibrated_cross_utterance_my_encoder", "calibrated_cross_utterance_my_encoder"),
        ("secs_my_encoder", "cross_utterance_my_encoder"),
        ("secs_calibrated_my_encoder", "calibrated_cross_utterance_my_encoder"),
    ],
)
def test_new_and_former_names_are_one_similarity(distance, name, similarity):
    config = SimpleNamespace(target_loss=f"{distance}{name}")
    assert target_similarity(config) == similarity
    assert alias_of(similarity) == "my_encoder"
    assert is_calibrated(similarity) is ("calibrated" in name)
    for _ in range(2):  # what a run records is read again when it is continued
        assert take_target(config) == config.target_loss == f"distance_{similarity}"


@pytest.mark.parametrize("target", [None, "", "loss_1", "distance_1", "reference_cosine_ge2e", "loss_spk_encoder"])
def test_other_targets_are_left_alone(target):
    config = SimpleNamespace(target_loss=target)
    assert target_similarity(config) is take_target(config) is None
    assert config.target_loss == target


def test_the_distance_is_one_minus_the_similarity_and_one_before_it_is_measured():
    assert distance_of({"cross_utterance_a": 0.75}, "distance_cross_utterance_a") == 0.25
    assert distance_of({"calibrated_cross_utterance_a": 0.75}, "distance_cross_utterance_a") == 1.0
    assert distance_of({}, "distance_cross_utterance_a", unknown=2.0) == 2.0
