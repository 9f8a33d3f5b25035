import math
import sys
from subprocess import run

import numpy as np
import pytest
import torch
from pytorch_metric_learning import losses as library
from tiny_vits import PLAIN

from coqui_scl_plugin import SclVitsConfig, build_loss
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.losses import metric_learning
from coqui_scl_plugin.losses.metric_learning import usable

SPEAKERS = torch.tensor([5, 2, 5, 2, 8, 5])
USABLE = (
    "AngularLoss", "CircleLoss", "ContrastiveLoss", "GeneralizedLiftedStructureLoss", "IntraPairVarianceLoss",
    "LiftedStructureLoss", "MarginLoss", "MultiSimilarityLoss", "NCALoss", "NTXentLoss",
    "SignalToNoiseRatioContrastiveLoss", "SupConLoss", "TripletMarginLoss",
)  # fmt: skip
WEIGHTS = (
    "ArcFaceLoss", "CosFaceLoss", "LargeMarginSoftmaxLoss", "ManifoldLoss", "NormalizedSoftmaxLoss", "P2SGradLoss",
    "ProxyAnchorLoss", "ProxyNCALoss", "SoftTripleLoss", "SphereFaceLoss", "SubCenterArcFaceLoss",
)  # fmt: skip
WRAPPERS = ("CrossBatchMemory", "MultipleLosses", "SelfSupervisedLoss")
NO_REFERENCES = (
    "FastAPLoss", "HistogramLoss", "InstanceLoss", "NPairsLoss", "PNPLoss", "RankedListLoss", "SmoothAPLoss",
    "VICRegLoss",
)  # fmt: skip
NON_FINITE = ("TupletMarginLoss",)
UNLISTED = "does not list it among the losses that take reference embeddings.*use the loss angular_margin"

every_usable = pytest.mark.parametrize("name", USABLE)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def metric(name: str, **params: object) -> torch.nn.Module:
    return build_loss("metric_learning", {"loss": name, "params": params})


def slow_supcon(similarity: np.ndarray, same: np.ndarray, temperature: float = 0.1) -> float:
    """Khosla et al., NeurIPS 2020, eq. 2, with the references as contrast set: all of them in the denominator."""
    scaled = np.exp(similarity / temperature)
    rows = [-np.mean(np.log(scaled[i][same[i]] / scaled[i].sum())) for i in range(len(same))]
    return float(np.mean(rows))


def slow_ntxent(similarity: np.ndarray, same: np.ndarray, temperature: float = 0.07) -> float:
    """For each pair of a speaker: -log of its share among itself and the other speakers."""
    scaled = np.exp(similarity / temperature)
    pairs = [(i, p) for i, p in np.ndindex(*same.shape) if same[i, p]]
    return float(np.mean([-np.log(scaled[i, p] / (scaled[i, p] + scaled[i][~same[i]].sum())) for i, p in pairs]))


def slow_triplet(similarity: np.ndarray, same: np.ndarray, margin: float = 0.05) -> float:
    """Hinge of the Euclidean distances of all triplets; mean over those that are not 0."""
    distance = np.sqrt(2 - 2 * similarity)
    count = range(len(same))
    hinges = [
        max(0.0, distance[a, p] - distance[a, n] + margin)
        for a in count for p in count for n in count if same[a, p] and not same[a, n]
    ]  # fmt: skip
    return float(np.mean([hinge for hinge in hinges if hinge > 0]))


def slow_contrastive(similarity: np.ndarray, same: np.ndarray, neg_margin: float = 1.0) -> float:
    distance = np.sqrt(2 - 2 * similarity)
    apart = np.maximum(0, neg_margin - distance[~same])
    return float(distance[same].mean() + (apart[apart > 0].mean() if (apart > 0).any() else 0))


def slow_multi_similarity(similarity: np.ndarray, same: np.ndarray, alpha=2.0, beta=50.0, base=0.5) -> float:
    """Wang et al., CVPR 2019, eq. 15."""
    rows = [
        math.log(1 + np.exp(-alpha * (s[m] - base)).sum()) / alpha
        + math.log(1 + np.exp(beta * (s[~m] - base)).sum()) / beta
        for s, m in zip(similarity, same, strict=True)
    ]
    return float(np.mean(rows))


def similarities(generated: torch.Tensor, reference: torch.Tensor) -> np.ndarray:
    left, right = (t.detach().double().numpy() for t in (generated, reference))
    return left @ right.T / np.outer(np.linalg.norm(left, axis=1), np.linalg.norm(right, axis=1))


SLOW = {
    "SupConLoss": slow_supcon,
    "NTXentLoss": slow_ntxent,
    "TripletMarginLoss": slow_triplet,
    "ContrastiveLoss": slow_contrastive,
    "MultiSimilarityLoss": slow_multi_similarity,
}


@pytest.mark.parametrize("name", SLOW)
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_a_formula_of_its_own_in_float64(name, seed):
    generated, reference = random(6, 16, seed=seed), random(6, 16, seed=seed + 50)
    same = SPEAKERS.numpy()[:, None] == SPEAKERS.numpy()
    expected = SLOW[name](similarities(generated, reference), same)
    assert metric(name)(generated, reference, SPEAKERS).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("SupConLoss", {"temperature": 0.5}),
        ("NTXentLoss", {"temperature": 1}),
        ("TripletMarginLoss", {"margin": 0.5}),
        ("ContrastiveLoss", {"neg_margin": 1.8}),
        ("MultiSimilarityLoss", {"alpha": 5.0, "beta": 10, "base": 0.1}),
    ],
)
def test_params_arrive(name, params):
    generated, reference = random(6, 16), random(6, 16, seed=1)
    same = SPEAKERS.numpy()[:, None] == SPEAKERS.numpy()
    expected = SLOW[name](similarities(generated, reference), same, **params)
    loss = metric(name, **params)(generated, reference, SPEAKERS)
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    assert loss.item() != pytest.approx(metric(name)(generated, reference, SPEAKERS).item(), rel=1e-2)


@every_usable
def test_value_and_gradient_are_those_of_the_library(name):
    reference = random(6, 16, seed=1)
    ours, theirs = (random(6, 16).requires_grad_() for _ in range(2))
    loss = metric(name)(ours, reference, SPEAKERS)
    direct = getattr(library, name)()(
        embeddings=theirs, labels=SPEAKERS, ref_emb=reference, ref_labels=SPEAKERS.clone()
    )
    loss.backward()
    direct.backward()
    assert torch.equal(loss, direct)
    assert torch.equal(ours.grad, theirs.grad)
    assert ours.grad.norm() > 1e-3


@every_usable
def test_an_items_own_reference_is_one_of_its_positives(name):
    # all speakers different: an item's own reference is the only positive there is
    reference = random(6, 16, seed=1)
    generated = random(6, 16).requires_grad_()
    loss_function = metric(name)
    loss = loss_function(generated, reference)
    loss.backward()
    assert loss.item() > 0
    assert generated.grad.norm() > 1e-3
    towards = generated.detach() - 0.05 * generated.grad / generated.grad.norm()
    assert loss_function(towards, reference).item() < loss.item()


@every_usable
def test_gradient_is_the_slope_that_small_steps_measure(name):
    reference = random(6, 16, seed=1)
    generated = random(6, 16).requires_grad_()
    metric(name)(generated, reference, SPEAKERS).backward()
    way = generated.grad.double() / generated.grad.norm()
    direct = getattr(library, name)()

    def exact(step: float) -> float:
        # the library keeps the dtype that it is given; ours makes it float32
        moved = generated.detach().double() + step * way
        return direct(moved, SPEAKERS, ref_emb=reference.double(), ref_labels=SPEAKERS.clone()).item()

    slope = (exact(1e-6) - exact(-1e-6)) / 2e-6
    if name == "CircleLoss":  # its weights count as constants (Sun et al., CVPR 2020, section 3.2)
        assert slope > 0
    else:
        assert generated.grad.norm().item() == pytest.approx(slope, rel=1e-3)


@every_usable
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("items", [2, 6, 32])
def test_all_is_finite_float32_at_equal_and_opposite_vectors(name, autocast, sign, items):
    loss_function = metric(name)
    speakers = torch.arange(items) % max(2, items // 2)
    for noise in (0.0, 0.0, 1e-7, 1e-4):
        shared = torch.eye(64)[speakers] if noise == 0 else random(items, 64)[speakers]
        generated = (sign * shared * (1 + noise * random(items, 64, seed=2))).bfloat16()
        generated = (generated if autocast else generated.float()).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            loss = loss_function(generated, shared, speakers)
        (gradient,) = torch.autograd.grad(loss, generated)
        assert loss.shape == ()
        assert loss.dtype == torch.float32
        assert loss.item() >= 0
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()


@every_usable
@pytest.mark.parametrize("items", [1, 4])
def test_a_batch_with_one_speaker_counts_0(name, items):
    generated = random(items, 16).requires_grad_()
    loss = metric(name)(generated, random(items, 16, seed=1), torch.full((items,), 3))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(generated.grad, torch.zeros(items, 16))


@every_usable
def test_a_speaker_with_one_item_beside_another_with_many_is_fine(name, caplog):
    generated = random(5, 16).requires_grad_()
    loss = metric(name)(generated, random(5, 16, seed=1), torch.tensor([1, 1, 1, 1, 0]))
    loss.backward()
    assert loss.item() > 0
    assert torch.isfinite(generated.grad).all()
    assert caplog.records == []


@every_usable
def test_nothing_is_remembered_and_nothing_is_kept_in_the_checkpoint(name):
    loss_function = metric(name)
    generated, reference = random(6, 16), random(6, 16, seed=1)
    first = loss_function(generated, reference, SPEAKERS)
    loss_function(reference, generated, SPEAKERS)
    assert torch.equal(loss_function(generated, reference, SPEAKERS), first)
    assert loss_function.state_dict() == {}
    assert list(loss_function.parameters()) == []


def test_exactly_these_losses_can_be_used():
    assert usable() == tuple(sorted(USABLE))
    assert sorted(library.CrossBatchMemory.supported_losses()) == sorted(USABLE + NON_FINITE)
    others = {name for name in vars(library) if name.endswith(("Loss", "Losses", "Memory"))}
    assert others == {*USABLE, *NON_FINITE, *WEIGHTS, *WRAPPERS, *NO_REFERENCES} | {
        "DynamicSoftMarginLoss", "GenericPairLoss", "ThresholdConsistentMarginLoss"
    }  # fmt: skip


@pytest.mark.parametrize("name", USABLE + NON_FINITE)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_listed_losses_that_are_left_out_are_those_with_a_gradient_that_is_not_finite(name, sign):
    bad = 0
    for seed in range(20):
        reference = torch.nn.functional.normalize(random(6, 192, seed=seed))
        generated = (sign * reference).requires_grad_()
        loss = getattr(library, name)()(generated, SPEAKERS, ref_emb=reference, ref_labels=SPEAKERS.clone())
        (gradient,) = torch.autograd.grad(loss, generated)
        bad += not gradient.isfinite().all()
    assert bad == (20 if name in NON_FINITE else 0)


def test_a_gradient_that_is_not_finite_is_found_by_trying_the_loss(monkeypatch):
    monkeypatch.setattr(metric_learning, "_NON_FINITE_LOSSES", set())
    with pytest.raises(ConfigError, match=r"'TupletMarginLoss' with .*not finite where embeddings equal or oppose"):
        metric("TupletMarginLoss")


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (WEIGHTS, UNLISTED),
        (WRAPPERS, UNLISTED),
        (NO_REFERENCES, UNLISTED),
        (("DynamicSoftMarginLoss",), UNLISTED),  # remembers earlier batches
        (("ThresholdConsistentMarginLoss",), UNLISTED),  # ignores the references
        (NON_FINITE, "its gradient is not finite where an embedding equals or opposes"),
        (("GenericPairLoss", "BaseMetricLossFunction"), UNLISTED),
    ],
)
def test_what_cannot_be_used_says_why_and_what_can(names, reason):
    for name in names:
        with pytest.raises(ConfigError, match=rf"params\.loss = '{name}'.*{reason}.*Usable: AngularLoss, .*SupConLoss"):
            metric(name)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("ArcFaceLoss", {"num_classes": 10, "embedding_size": 16}),
        ("P2SGradLoss", {"num_classes": 10, "descriptors_dim": 16}),
        ("MarginLoss", {"learn_beta": True}),
    ],
)
def test_weights_are_refused_with_all_parameters_too(name, params):
    with pytest.raises(ConfigError, match=rf"{UNLISTED}|'{name}' with .*learns weights of its own.*angular_margin"):
        metric(name, **params)


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("SupConLos", {}, r"params\.loss = 'SupConLos'.*Did you mean 'SupConLoss'\?"),
        ("EmbeddingRegularizerMixin", {}, r"params\.loss = 'EmbeddingRegularizerMixin': .*no loss of this name"),
        ("__name__", {}, r"params\.loss = '__name__'"),
        ("SupConLoss", {"temprature": 0.1}, r"params\.params\.temprature: .*Did you mean 'temperature'\?"),
        ("SupConLoss", {"temperature": "0.1"}, r"params\.params\.temperature = '0\.1'.*number"),
        ("SupConLoss", {"temperature": True}, r"params\.params\.temperature = True"),
        ("SupConLoss", {"temperature": math.nan}, r"params\.params\.temperature = nan"),
        ("SupConLoss", {"temperature": 0.0}, r"'SupConLoss' with params\.params = {'temperature': 0\.0}.*not fall"),
        ("SupConLoss", {"temperature": -0.1}, r"params\.loss = 'SupConLoss' .*{'temperature': -0\.1}.*does not fall"),
        ("SupConLoss", {"mat_based_loss": True}, r"params\.params\.mat_based_loss: .*Known: temperature\."),
        ("SupConLoss", {"distance": "LpDistance"}, r"params\.params\.distance: .*a config can hold"),
        ("SignalToNoiseRatioContrastiveLoss", {"margin": 1}, r"params\.params\.margin: .*neg_margin, pos_margin"),
        ("TripletMarginLoss", {"swap": 1}, r"params\.params\.swap = 1: .*boolean"),
        ("TripletMarginLoss", {"triplets_per_anchor": "some"}, r"'TripletMarginLoss' with .*'some'} .*TypeError"),
        ("MarginLoss", {"num_classes": -1}, r"'MarginLoss' with .*{'num_classes': -1}.*RuntimeError"),
        ("MarginLoss", {"num_classes": 3}, r"'MarginLoss' with .*{'num_classes': 3}.*IndexError"),
        ("TripletMarginLoss", {"margin": -9}, r"'TripletMarginLoss' with .*{'margin': -9}.*does not fall"),
    ],
)
def test_wrong_parameters_are_named(name, params, message):
    with pytest.raises(ConfigError, match=message):
        metric(name, **params)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "needs loss"),
        ({"loss": 3}, r"params\.loss = 3"),
        ({"loss": "SupConLoss", "params": 3}, r"params\.params = 3"),
        ({"loss": "SupConLoss", "temperature": 3}, r"params\.temperature: .*no such parameter"),
    ],
)
def test_the_adapters_own_parameters_are_checked(params, message):
    with pytest.raises(ConfigError, match=message):
        build_loss("metric_learning", params)


def test_an_argument_that_is_missing_is_named(monkeypatch):
    class NeedsMargin(library.TripletMarginLoss):
        def __init__(self, margin):
            super().__init__(margin=margin)

    class NeedsWork(library.TripletMarginLoss):
        def __init__(self):
            raise KeyError("a data set")

    monkeypatch.setattr(library, "NeedsMargin", NeedsMargin, raising=False)
    monkeypatch.setattr(library, "NeedsWork", NeedsWork, raising=False)
    monkeypatch.setattr(library.CrossBatchMemory, "supported_losses", lambda: ["NeedsMargin", "NeedsWork"])
    with pytest.raises(ConfigError, match=r"'NeedsMargin' with params\.params = {} .*missing .* argument: 'margin'"):
        metric("NeedsMargin")
    with pytest.raises(ConfigError, match=r"'NeedsWork' with params\.params = {} .*KeyError: 'a data set'"):
        metric("NeedsWork")
    metric("NeedsMargin", margin=0.1)


def test_triplets_may_be_drawn_at_random(monkeypatch):
    loss = metric("TripletMarginLoss", triplets_per_anchor=2)
    generated, reference = random(6, 16), random(6, 16, seed=1)
    assert len({loss(generated, reference, SPEAKERS).item() for _ in range(10)}) > 1


def test_building_one_leaves_the_random_state_as_it_was():
    before = torch.get_rng_state()
    for name in USABLE:
        metric(name)
    metric("TripletMarginLoss", triplets_per_anchor=2)  # draws triplets at random
    assert torch.equal(torch.get_rng_state(), before)


def test_can_be_built_in_inference_mode():
    with torch.inference_mode():
        loss = metric("SupConLoss")
        assert loss(random(6, 16), random(6, 16, seed=1), SPEAKERS).item() > 0


def test_without_the_library_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning.losses", None)
    with pytest.raises(ConfigError, match=r'pip install "coqui-scl-plugin\[metric-learning\]"'):
        metric("SupConLoss")


def test_the_library_is_imported_when_it_is_needed_only():
    code = (
        "import sys, coqui_scl_plugin.losses.metric_learning, coqui_scl_plugin as p; p.build_loss('cosine');"
        "assert 'pytorch_metric_learning' not in sys.modules"
    )
    run([sys.executable, "-c", code], check=True)


def test_serves_as_a_section_of_the_config():
    params = {"loss": "NTXentLoss", "params": {"temperature": 0.2}}
    config = SclVitsConfig()
    config.from_dict({"model": "scl_vits", "scl": PLAIN | {"loss": {"name": "metric_learning", "params": params}}})
    loss = build_loss(config.scl.loss.name, config.scl.loss.params)
    assert loss.metric.temperature == 0.2
    with pytest.raises(ConfigError, match=r"scl\.loss\.params\.los: .*'loss'"):
        SclVitsConfig().from_dict({"scl": {"loss": {"name": "metric_learning", "params": {"los": "NTXentLoss"}}}})


def test_a_member_of_an_ensemble():
    member = {"name": "metric_learning", "params": {"loss": "SupConLoss"}}
    encoders = {"one": 1.0, "other": 3.0}
    ensemble = build_loss("ensemble", {"member": member, "calibrate": False, "encoders": encoders})
    generator = torch.Generator().manual_seed(0)
    generated = {alias: torch.randn(4, 8, generator=generator).requires_grad_() for alias in ("one", "other")}
    reference = {alias: torch.randn(4, 8, generator=generator) for alias in generated}
    speakers = torch.tensor([0, 1, 0, 2])
    loss = ensemble(generated, reference, speakers)
    alone = {alias: build_loss(**member)(generated[alias], reference[alias], speakers) for alias in generated}
    torch.testing.assert_close(loss, 0.25 * alone["one"] + 0.75 * alone["other"])
    loss.backward()
    assert all(tensor.grad.norm() > 1e-4 for tensor in generated.values())
    with pytest.raises(ConfigError, match="calibrate = true: 'metric_learning' cannot rescale"):
        build_loss("ensemble", {"member": member})
