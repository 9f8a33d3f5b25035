"""Checks of the keys of Coqui's half of the config: known ones, and those that exist twice."""

import functools
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from coqui_scl_plugin.preflight.config_types import as_mapping, fields_by_name, section_class
from coqui_scl_plugin.preflight.facts import ConfigFacts
from coqui_scl_plugin.preflight.report import Finding, warning
from coqui_scl_plugin.utils.shown import typed
from coqui_scl_plugin.utils.suggest import nearest

_ARGS = "model_args"
_MAX_FINDINGS = 12
_CLOSE: Mapping[str, Any] = {"limit": 2, "cutoff": 0.75}
_SUCCESSORS: Mapping[str, Mapping[str, str]] = {
    "": {
        "batch_size_eval": "eval_batch_size",
        "checkpoint": "save_checkpoints",
        "consistency_loss_alpha": "speaker_encoder_loss_alpha",
        "data_path": "datasets.0.path",
        "external_speaker_embedding_file": "model_args.d_vector_file",
        "fp16": "mixed_precision",
        "keep_after": "save_best_after",
        "keep_all_best": "save_all_best",
        "max_seq_len": "max_text_len",
        "min_seq_len": "min_text_len",
        "num_val_loader_workers": "num_eval_loader_workers",
        "seed": "training_seed",
        "stats_path": "audio.stats_path",
        "tb_model_param_stats": "model_param_stats",
        "tb_plot_step": "plot_step",
        "test_senteces_file": "test_sentences_file",
        "use_external_speaker_embedding_file": "model_args.use_d_vector_file",
        "use_phonemizer": "use_phonemes",
    },
    f"{_ARGS}.": {
        "TTS_part_sample_rate": "encoder_sample_rate",
        "dilatation_flow": "dilation_rate_flow",
        "dilatation_posterior_encoder": "dilation_rate_posterior_encoder",
        "freeze_flow_encoder": "freeze_flow_decoder",
        "use_spectral_norm_discriminator": "use_spectral_norm_disriminator",
    },
    "audio.": {
        "filter_length": "fft_size",
        "n_fft": "fft_size",
        "n_mel_channels": "num_mels",
        "n_mels": "num_mels",
        "num_freq": "fft_size",
        "sampling_rate": "sample_rate",
    },
    "datasets.": {"name": "formatter", "root_path": "path", "meta_file": "meta_file_train"},
}
"""Keys of former versions of Coqui, or of its documentation, that have become another one."""
_WITHOUT_SUCCESSOR: Mapping[str, Mapping[str, str]] = {
    "": {
        "distributed": "several processes are started by python -m trainer.distribute",
        "num_gpus": "CUDA_VISIBLE_DEVICES says which GPUs are used",
        "apex_amp_level": "set mixed_precision",
        "gradual_training": "no VITS reads it",
    },
    f"{_ARGS}.": {},
    "audio.": {},
    "datasets.": {},
}
_WRITTEN_BY_COQUI = {
    "num_speakers", "num_chars", "num_languages", "github_branch", "restore_path", "f0_cache_path", "energy_cache_path",
    "language_ids_file", "use_language_embedding", "config_path",
}  # fmt: skip
"""Keys that Coqui has written into configs, and that nobody needs to remove."""
_SWITCHES = ("use_speaker_embedding", "use_d_vector_file", "use_language_embedding")
"""What the check `conditioning` speaks of."""
_WITHOUT_EFFECT = {
    "lr": "lr_gen and lr_disc apply",
    "lr_scheduler": "lr_scheduler_gen and lr_scheduler_disc apply",
    "use_speaker_weighted_sampler": 'use_weighted_sampler with weighted_sampler_attrs = {"speaker_name": 1.0} applies',
    "use_language_weighted_sampler": 'use_weighted_sampler with weighted_sampler_attrs = {"language": 1.0} applies',
    "use_length_weighted_sampler": "Coqui's VITS has no sampler by length",
}
"""Keys that the trainer and other models have, and that VITS replaces."""


def check_keys(facts: ConfigFacts) -> list[Finding]:
    """Each key of Coqui's half of the config is one that Coqui knows."""
    if facts.written is None:
        return []
    unknown = [*_unknown_keys(facts.written, facts.config)]
    findings = [make() for make in unknown[:_MAX_FINDINGS]]  # of many keys, advice would take minutes
    findings += _without_effect(facts.written, facts.config)
    if (more := len(unknown[_MAX_FINDINGS:]) + len(findings[_MAX_FINDINGS:])) > 0:
        rest = warning(f"{more} more keys of the config are unknown or have no effect.", "Correct or remove them.")
        return [*findings[:_MAX_FINDINGS], rest]
    return findings


def _unknown_keys(written: Mapping[Any, Any], config: Any) -> Iterator[Callable[[], Finding]]:
    sections = {"": written, **{f"{name}.": written.get(name) for name in (_ARGS, "audio", "characters")}}
    known = {path: _known(config, path) for path in (*sections, "datasets.")}
    datasets = written.get("datasets")
    for path, section in sections.items():
        yield from _unknown_in(path, path, section, known)
    for index, dataset in enumerate(datasets if isinstance(datasets, list) else ()):
        yield from _unknown_in("datasets.", f"datasets.{index}.", dataset, known)


def _known(config: Any, path: str) -> list[str]:
    """Return the keys of a section."""
    if not path:
        return list(fields_by_name(config))
    hint = fields_by_name(config)[path.rstrip(".")].type
    return list(fields_by_name(section_class(typing.get_args(hint)[0] if path == "datasets." else hint)))


def _unknown_in(kind: str, path: str, section: Any, known: Mapping[str, list[str]]) -> Iterator[Callable[[], Finding]]:
    """Find the unknown keys of one section; `kind` is its place in the tables, `path` its place in the config."""
    for name in section if isinstance(section, Mapping) else ():
        if not isinstance(name, str):
            found = f"{path}{typed(name)}: keys are strings; Coqui ignores it."
            yield functools.partial(warning, found, "Correct or remove it.")
        elif name not in known[kind] and name not in _WRITTEN_BY_COQUI and not name.startswith(("_", "//", "#")):
            if kind == "" and name in known[f"{_ARGS}."] and _same_in_args(section, name):
                continue
            yield functools.partial(_unknown, kind, path, name, known)


def _unknown(kind: str, path: str, name: str, known: Mapping[str, list[str]]) -> Finding:
    found = f"{path}{typed(name)[1:-1]}: Coqui has no such key and ignores it."
    return warning(found, _advice(kind, path, name, known))


def _same_in_args(written: Mapping[Any, Any], name: str) -> bool:
    args = written.get(_ARGS)
    return isinstance(args, Mapping) and name in args and bool(args[name] == written[name])


def _advice(kind: str, path: str, name: str, known: Mapping[str, list[str]]) -> str:
    successor = _SUCCESSORS.get(kind, {}).get(name)
    if successor:
        return f"It is now {path}{successor}."
    if why := _WITHOUT_SUCCESSOR.get(kind, {}).get(name):
        return f"Remove it: {why}."
    for other, names in known.items():
        if name in names and other != kind:
            return f"It belongs to {other.rstrip('.') or 'the top level'}: write {other}{name}."
    near = nearest(name, known[kind], **_CLOSE)
    elsewhere = [
        f"{other}{hit}" for other, names in known.items() for hit in nearest(name, names, **_CLOSE) if other != kind
    ]
    if hits := near or elsewhere[:1]:
        return f"Did you mean {' or '.join(map(repr, hits))}?"
    return "Correct or remove it."


def _without_effect(written: Mapping[Any, Any], config: Any) -> Iterator[Finding]:
    for name, instead in _WITHOUT_EFFECT.items():
        value = getattr(config, name, None)
        if name in written and value and value != fields_by_name(config)[name].default:
            yield warning(f"{name} = {typed(value)} has no effect in VITS: {instead}.", "Remove it.")


# --- keys that exist twice --------------------------------------------------------------------------------------------


def check_twin_keys(facts: ConfigFacts) -> list[Finding]:
    """Keys that exist both at the top level and in model_args agree."""
    config, args = facts.config, facts.config.model_args
    written = facts.written if facts.written is not None else as_mapping(config)
    findings = []
    for name in fields_by_name(config).keys() & fields_by_name(args).keys() - set(_SWITCHES):
        top, own = getattr(config, name), getattr(args, name)
        is_default = not top or top == fields_by_name(config)[name].default
        is_told_elsewhere = name == "d_vector_file" and not own  # by the check `files`, where it matters
        if name in written and not is_default and top != own and not is_told_elsewhere:
            found = (
                f"{name} = {typed(top)} at the top level has no effect: Coqui's VITS reads model_args.{name}, which is "
                f"{typed(own)}."
            )
            findings.append(warning(found, f"Set model_args.{name}, and remove the other or make them equal."))
    return sorted(findings, key=lambda finding: finding.found)
