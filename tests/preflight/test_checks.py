"""Single checks on facts that are put together by hand: what each finds, and where it finds nothing."""

import dataclasses
import importlib.metadata
import io
from typing import Any

import pytest
import torch
from made_up_run import sound_facts as facts
from packaging.requirements import Requirement
from rich.console import Console
from tiny_vits import PLAIN
from torch import nn

from coqui_scl_plugin import SclVitsConfig
from coqui_scl_plugin.consistency.build import build_consistency
from coqui_scl_plugin.consistency.gradient_probe import GradientProbe
from coqui_scl_plugin.consistency.reach import ModuleReach
from coqui_scl_plugin.consistency.term import SpeakerConsistency
from coqui_scl_plugin.errors import ConfigError, PreflightError
from coqui_scl_plugin.preflight import checks, encoders, environment, generator, recordings, settings, speakers
from coqui_scl_plugin.preflight.report import Finding, NotMeasuredError, PreflightReport, result_of, warning
from coqui_scl_plugin.preflight.sentences import check_test_sentences

PARAMETER = nn.Parameter(torch.zeros(2))


def optimizer(*parameters: nn.Parameter, steps: int = 0) -> torch.optim.Optimizer:
    made = torch.optim.SGD(list(parameters), lr=0.1, momentum=0.9)
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    for _ in range(steps):
        made.step()
    return made


def with_loss(**section: Any) -> SpeakerConsistency:
    config = SclVitsConfig()
    config.from_dict({"scl": PLAIN | section})
    return build_consistency(config.scl)


def found(findings: list[Finding]) -> str:
    (finding,) = findings
    return f"{finding.found} {finding.change}"


# --- what is installed ------------------------------------------------------------------------------------------------


def test_what_is_installed_here_is_in_the_tested_range() -> None:
    assert environment.check_versions(facts()) == []
    assert environment.check_ffmpeg(facts()) == []


@pytest.mark.parametrize(
    ("installed", "says"),
    [
        ("0.28.0", None),
        ("0.28.3", None),
        ("0.27.5", "coqui-tts is 0.27.5, <0.29,>=0.28.0 was tested."),
        ("0.29.0", "coqui-tts is 0.29.0, <0.29,>=0.28.0 was tested."),
        ("0.28.1.dev1", None),
        ("0.29.0.dev1", "coqui-tts is 0.29.0.dev1"),
    ],
)
def test_a_version_outside_the_tested_range(monkeypatch: pytest.MonkeyPatch, installed: str, says: str | None) -> None:
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: installed if name == "coqui-tts" else real(name))
    findings = environment.check_versions(facts())
    if says is None:
        assert findings == []
    else:
        assert says in found(findings)
        assert "Install a version in that range" in found(findings)
        assert findings[0].is_error


def test_requirements_that_do_not_hold_here() -> None:
    lines = ["pluggy >= 1", "pluggy < 1", 'pluggy < 1; extra == "dev"', 'pluggy < 1; python_version < "3"', "nosuch>=2"]
    assert environment.outside(map(Requirement, lines)) == [
        f"pluggy is {importlib.metadata.version('pluggy')}, <1 was tested.",
        "nosuch is not installed, >=2 was tested.",
    ]


def test_a_local_build_of_torch_is_the_version_that_it_is_built_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "2.14.1+cu130")
    assert environment.outside([Requirement("torch >= 2.9, < 2.15")]) == []


# --- optimizers -------------------------------------------------------------------------------------------------------


def test_an_optimizer_with_nothing_that_trains() -> None:
    frozen = nn.Parameter(torch.zeros(2), requires_grad=False)
    run = facts(optimizers={"discriminator": optimizer(PARAMETER), "generator": optimizer(frozen)})
    assert "The whole generator is frozen" in found(settings.check_trains(run))
    run = facts(optimizers={"discriminator": optimizer(PARAMETER), "generator": optimizer(frozen, PARAMETER)})
    assert settings.check_trains(run) == []


@pytest.mark.parametrize(
    ("uses", "unfreezes_at", "fires"), [(True, [7, 9], True), (True, [], False), (False, [7, 9], False)]
)
def test_modules_that_unfreeze_where_the_trainer_needs_all_gradients(
    uses: bool, unfreezes_at: list[int], fires: bool
) -> None:
    findings = settings.check_unfreeze(facts(needs_all_gradients=uses, unfreezes_at=unfreezes_at))
    assert ("until step 9" in found(findings)) if fires else findings == []


# --- the data ---------------------------------------------------------------------------------------------------------


def sample(name: str, speaker: str = "a", file: str | None = None) -> dict[str, Any]:
    return {"audio_unique_name": name, "audio_file": file or f"{name}.wav", "speaker_name": speaker, "text": "a text"}


@pytest.mark.parametrize("section", [{"reference": {"source": "centroid"}}, {"reference": {"source": "segment"}}])
def test_a_data_loader_of_ones_own_lists_no_recordings(section: dict[str, Any]) -> None:
    findings = recordings.check_recordings(
        facts(consistency=with_loss(**section), train_samples=None, eval_samples=None)
    )
    assert ("no train_samples" in found(findings)) if section["reference"]["source"] == "centroid" else findings == []


def test_no_recordings_at_all() -> None:
    assert "no recording to train on" in found(recordings.check_recordings(facts()))


def test_one_recording_listed_twice_is_one_recording() -> None:
    assert recordings.shared_names([sample("a"), sample("a"), sample("b")]) == []
    assert "share the name 'a'" in recordings.shared_names([sample("a"), sample("a", file="other.wav")])[0]
    with pytest.raises(PreflightError, match="share the name 'a'"):
        recordings.check_names([sample("a"), sample("a", file="other.wav")])


def test_a_speaker_of_the_data_that_the_model_does_not_know() -> None:
    run = facts(speakers=["p225", "p226"], train_samples=[sample("x", "p225")], eval_samples=[sample("y", "VCTK_p226")])
    said = found(speakers.check_known_speakers(run))
    assert "1 of 2 speakers" in said
    assert "Nearest to 'VCTK_p226': 'p226'" in said
    assert speakers.check_known_speakers(dataclasses.replace(run, eval_samples=[sample("y", "p226")])) == []
    assert speakers.check_known_speakers(dataclasses.replace(run, speakers=None)) == []


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ((4, 4), ("has embeddings of 4 numbers", "Set it to 4")),
        ((2, 4), ("of the 2 embeddings", "1 has 4 numbers: 'r1'", "Compute the file")),
        ((3, 4), ("2 have 3 or 4 numbers", "Compute the file")),
    ],
)
def test_d_vectors_of_other_sizes(sizes: tuple[int, ...], words: tuple[str, ...]) -> None:
    d_vectors = {f"r{index}": {"name": "a", "embedding": [0.1] * size} for index, size in enumerate(sizes)}
    config = SclVitsConfig(run_eval=False)
    config.model_args.d_vector_dim = 2
    text = found(speakers.check_d_vectors(facts(config=config, d_vectors=d_vectors)))
    assert [word for word in ("d_vector_dim = 2", *words) if word not in text] == [], text


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("loss_1", ()),
        ("loss_disc_real_0", ()),
        (None, ()),
        ("loss_mels", ("target_loss = 'loss_mels'", "after an epoch", "Did you mean 'loss_mel'")),
        ("secs", ("target_loss = 'secs'", "loss_spk_encoder")),
    ],
)
def test_a_target_that_is_not_logged(target: str | None, words: tuple[str, ...]) -> None:
    findings = settings.check_target(facts(config=SclVitsConfig(target_loss=target)))
    assert [word for word in words if word not in found(findings)] == []
    assert bool(findings) is bool(words)


def test_an_evaluation_set_that_nobody_asks_for_may_be_empty() -> None:
    run = facts(config=SclVitsConfig(run_eval=True), train_samples=[sample("x")], eval_samples=[])
    assert "evaluation set is empty" in found(recordings.check_evaluation_set(run))
    assert recordings.check_evaluation_set(dataclasses.replace(run, has_eval_loader=True)) == []
    assert recordings.check_evaluation_set(dataclasses.replace(run, config=SclVitsConfig(run_eval=False))) == []


@pytest.mark.parametrize(
    ("epochs", "sentences", "fires"),
    [
        (5, [["text", "nobody"]], True),
        (5, [["text", "a"], ["text"], "text", ["text", None]], False),
        (2, [["text", "nobody"]], False),
    ],
)
def test_sentences_that_are_spoken_after_two_epochs(epochs: int, sentences: list[Any], fires: bool) -> None:
    config = SclVitsConfig(epochs=epochs, test_delay_epochs=2, test_sentences=sentences)
    findings = check_test_sentences(facts(config=config, speakers=["a"]))
    assert ("'nobody'" in found(findings)) if fires else findings == []


@pytest.mark.parametrize(
    ("weights", "status"),
    [({"a": 8, "b": 1}, "failed"), ({"a": 5, "b": 5}, "warning"), (dict.fromkeys("abcd", 3), None)],
)
def test_speakers_in_batches_of_four(weights: dict[str, int], status: str | None) -> None:
    samples = [sample(f"{speaker}{take}", speaker) for speaker, count in weights.items() for take in range(count)]
    config = SclVitsConfig(batch_size=4)
    for loss in ("angular_margin", "contrastive"):
        run = facts(config=config, consistency=with_loss(loss={"name": loss}), train_samples=samples)
        assert [finding.is_error for finding in speakers.check_speakers(run)] == {
            "failed": [True], "warning": [False], None: []
        }[status]  # fmt: skip
    joint = facts(
        config=SclVitsConfig(batch_size=1), processes=4, consistency=with_loss(loss={"name": "contrastive"}),
        train_samples=samples,
    )  # fmt: skip
    assert [finding.is_error for finding in speakers.check_speakers(joint)] == {
        "failed": [True], "warning": [False], None: []
    }[status]  # fmt: skip
    for section in ({}, {"loss": {"name": "angular_margin", "params": {"prototypes": "centroid"}}}):
        run = facts(config=config, consistency=with_loss(**section), train_samples=samples)
        assert speakers.check_speakers(run) == []


# --- the encoders -----------------------------------------------------------------------------------------------------


def test_an_encoder_that_an_optimizer_holds() -> None:
    consistency = with_loss()
    held = next(consistency.encoders["ge2e"].parameters())
    run = facts(
        consistency=consistency,
        frozen_encoders=consistency.encoders.frozen_encoders,
        optimizers={"generator": optimizer(PARAMETER, held)},
    )
    said = found(encoders.check_optimizers(run))
    assert "holds 1 parameters of the frozen speaker encoder 'ge2e'" in said
    assert encoders.check_optimizers(dataclasses.replace(run, optimizers={"generator": optimizer(PARAMETER)})) == []


def test_an_encoder_that_asks_for_a_gradient() -> None:
    consistency = with_loss()
    run = facts(consistency=consistency, frozen_encoders=consistency.encoders.frozen_encoders)
    next(consistency.encoders["ge2e"].parameters()).requires_grad_()
    assert "require a gradient" in found(encoders.check_optimizers(run))


def test_an_encoder_that_is_put_back_may_be_held() -> None:
    consistency = with_loss(encoders=[{"name": "ge2e", "policy": "restore"}])
    run = facts(
        consistency=consistency,
        frozen_encoders=consistency.encoders.frozen_encoders,
        optimizers={"generator": optimizer(*consistency.encoders["ge2e"].parameters())},
    )
    assert encoders.check_optimizers(run) == []


def test_the_encoder_of_coquis_speaker_manager_is_watched_too() -> None:
    stock = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    run = facts(frozen_encoders={"stock": stock.requires_grad_(False)}, train_mode=stock.train)
    said = [f.found for f in encoders.check_eval_mode(run)]
    assert ["'stock'" in text and "train mode" in text for text in said] == [True]
    assert encoders.check_eval_mode(dataclasses.replace(run, train_mode=stock.eval)) == []


def test_references_that_the_data_does_not_suffice_for() -> None:
    def refuse() -> None:
        raise PreflightError("calibrate measures on two recordings")

    assert "calibrate measures" in found(encoders.check_references(facts(prepare_references=refuse)))
    assert encoders.check_references(facts()) == []


def test_a_file_that_the_config_names_wrongly_stays_an_error_of_the_config() -> None:
    def refuse() -> None:
        raise ConfigError("no reference cache")

    with pytest.raises(ConfigError, match="no reference cache"):
        encoders.check_references(facts(prepare_references=refuse))


# --- the generator ----------------------------------------------------------------------------------------------------


def reach(module: str, *, norm: float | None = 0.0, speaks: bool = True, until: int | None = None) -> ModuleReach:
    trainable = 0 if norm is None else 8
    return ModuleReach(module, 8, trainable, 8 if norm else 0, norm, speaks, module != "flow", until)


def test_what_the_gradient_reaches_and_speaks() -> None:
    posterior = reach("posterior_encoder", norm=0.5, speaks=False)
    cases = {
        "": [posterior, reach("flow"), reach("emb_g", norm=1e-9)],
        "'posterior_encoder' alone": [posterior, reach("flow"), reach("waveform_decoder", norm=None)],
        "Let 'waveform_decoder' train": [posterior, reach("flow", norm=None), reach("waveform_decoder", norm=None)],
        "Look for a detach": [posterior, reach("flow"), reach("waveform_decoder")],
        "no module that trains": [reach("posterior_encoder", norm=None, speaks=False), reach("flow")],
        "Let 'emb_g' train": [posterior, reach("flow", norm=None, until=9), reach("emb_g", norm=None)],
    }
    for says, rows in cases.items():
        findings = generator.check_reach(facts(consistency=with_loss(), measure_reach=lambda rows=rows: rows))
        assert (says in found(findings) and findings[0].is_error) if says else findings == []


@pytest.mark.parametrize(("step", "start_step", "warns"), [(0, 0, True), (0, 49, True), (0, 50, False), (60, 0, False)])
def test_what_speaks_but_trains_only_later(step: int, start_step: int, warns: bool) -> None:
    config = SclVitsConfig()
    config.from_dict({"scl": PLAIN | {"start_step": start_step}})
    rows = [reach("posterior_encoder", norm=0.5, speaks=False), reach("waveform_decoder", norm=None, until=50)]
    run = facts(config=config, consistency=with_loss(), step=step, measure_reach=lambda: rows)
    findings = generator.check_reach(run)
    assert [finding.is_error for finding in findings] == ([False] if warns else [])
    assert not warns or "Until step 50" in findings[0].found


def test_a_reach_that_cannot_be_measured() -> None:
    run = facts(consistency=with_loss())
    with pytest.raises(NotMeasuredError, match="No gradient arrives"):
        generator.check_reach(run)
    assert generator.check_reach(facts()) == []  # without the loss
    assert generator.measured_reach(run, PreflightReport()) == []


def test_reach_in_words() -> None:
    part = ModuleReach("flow", 8, 4, 1, 0.25, True, True, None)
    assert (part.gradient, part.trains) == ("2.5e-01 (in 25%)", "in part (4)")
    assert (reach("flow").gradient, reach("flow").trains) == ("none", "yes")
    assert (reach("flow", norm=None).gradient, reach("flow", norm=None, until=9).trains) == ("-", "frozen until step 9")


# --- the report -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("findings", "skip", "status"),
    [
        ([], False, "passed"),
        ([], True, "passed"),
        ([warning("w", "")], False, "warning"),
        ([warning("w", "")], True, "warning"),
        ([warning("w", ""), Finding("f", "")], False, "failed"),
        ([Finding("f", "")], True, "skipped"),
    ],
)
def test_what_findings_come_to(findings: list[Finding], skip: bool, status: str) -> None:
    result = result_of("gradient", "It reaches.", findings, skip=skip)
    assert (result.status, result.findings) == (status, findings)


def test_all_failures_are_raised_with_their_ids() -> None:
    results = [result_of(id_, "", [Finding(f"{id_} is wrong.", "Mend it.")], skip=id_ == "weight") for id_ in
               ("trains", "weight", "gradient")]  # fmt: skip
    with pytest.raises(PreflightError) as caught:
        PreflightReport(results).raise_failures()
    assert str(caught.value) == (
        "2 checks failed.\ntrains is wrong. Mend it. (check 'trains')\ngradient is wrong. Mend it. (check 'gradient')\n"
        "To train anyway: coqui-scl train --skip trains --skip gradient, or scl.preflight.skip."
    )
    PreflightReport(results[1:2]).raise_failures()


def test_brackets_in_a_finding_are_shown() -> None:
    report = PreflightReport([result_of("gradient", "", [Finding("shape [b, t] of [/data]/x.wav", "")], skip=False)])
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(report.table())
    assert "shape [b, t] of [/data]/x.wav" in console.export_text()


def test_every_check_says_what_it_looks_at_and_needs_earlier_ones() -> None:
    order = [check.id for stage in checks.STAGES for check in checks.CHECKS if check.stage == stage]
    assert order == list(checks.IDS)
    assert len(set(order)) == len(order)
    for check in checks.CHECKS:
        assert check.checks.endswith((".", "is."))
        assert {order.index(needed) < order.index(check.id) for needed in check.needs} <= {True}


def test_a_check_whose_needs_were_skipped_is_run() -> None:
    earlier = PreflightReport([result_of(id_, "", [Finding("f", "")], skip=True) for id_ in ("recordings", "speakers")])
    calls: list[str] = []
    run = facts(prepare_references=lambda: calls.append("prepared"))
    report = checks.run_checks("speech", run, (), earlier)
    assert calls == ["prepared"]
    assert [result.status for result in report.results] == ["skipped", "skipped", *["passed"] * 5]


# --- sums of losses ---------------------------------------------------------------------------------------------------


def test_a_loss_of_a_sum_whose_gradient_does_not_arrive_is_named() -> None:
    probes = {"ge2e": [GradientProbe("the generated waveform", loss="FeatureLoss")]}
    checked = facts(
        consistency=with_loss(),
        generate=lambda: (torch.zeros(1, 9, requires_grad=True), None),
        probe_gradients=lambda: probes,
    )
    assert "'ge2e' and its loss FeatureLoss" in found(encoders.check_gradient(checked))


@pytest.mark.parametrize(("member", "is_found"), [({"cosine": 1, "contrastive": 1}, True), ({"cosine": 1}, False)])
def test_a_sum_needs_the_speakers_of_the_loss_that_needs_most(member: dict[str, int], is_found: bool) -> None:
    consistency = with_loss(loss={"name": "ensemble", "params": {"member": member}})
    samples = [{"speaker_name": "a"}] * 3
    findings = speakers.check_speakers(facts(consistency=consistency, train_samples=samples))
    assert ["ContrastiveLoss needs at least 2" in finding.found for finding in findings] == [True] * is_found
