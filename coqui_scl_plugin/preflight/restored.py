"""Checks of the checkpoint that a run starts from: which of its weights arrive, and at whom."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coqui_scl_plugin.preflight.facts import Restored, RunFacts
from coqui_scl_plugin.preflight.report import Finding, some, warning
from coqui_scl_plugin.utils.shown import typed

SPEAKERS, LANGUAGES, CHARACTERS = "emb_g.weight", "emb_l.weight", "text_encoder.emb.weight"
TABLES = {SPEAKERS: "speaker", LANGUAGES: "language", CHARACTERS: "character"}
"""The tables of a VITS, by name, and what a row of each stands for."""
_WIDTHS = {
    SPEAKERS: "model_args.speaker_embedding_channels",
    LANGUAGES: "model_args.embedded_language_dim",
    CHARACTERS: "model_args.hidden_channels",
}
_SWITCHES = {SPEAKERS: "model_args.use_speaker_embedding", LANGUAGES: "model_args.use_language_embedding"}
"""Keys that give the model a table; it always has characters."""
_DISCRIMINATOR = "disc"
_MOSTLY = 0.5
"""Share of a module's weights."""
_ARCHITECTURE = (
    "out_channels", "hidden_channels", "hidden_channels_ffn_text_encoder", "num_heads_text_encoder",
    "num_layers_text_encoder", "kernel_size_text_encoder", "kernel_size_posterior_encoder",
    "num_layers_posterior_encoder", "kernel_size_flow", "num_layers_flow", "resblock_type_decoder",
    "resblock_kernel_sizes_decoder", "resblock_dilation_sizes_decoder", "upsample_rates_decoder",
    "upsample_initial_channel_decoder", "upsample_kernel_sizes_decoder", "periods_multi_period_discriminator",
    "use_spectral_norm_disriminator", "use_sdp", "condition_dp_on_speaker", "use_speaker_embedding",
    "speaker_embedding_channels", "use_d_vector_file", "d_vector_dim", "use_language_embedding",
    "embedded_language_dim",
)  # fmt: skip
"""Keys of `model_args` on which the sizes of weights depend."""
_TEXT = ("use_phonemes", "text_cleaner", "add_blank", "enable_eos_bos_chars", "characters.pad", "characters.blank")
_AUDIO = ("audio.sample_rate", "audio.hop_length", "audio.win_length", "audio.fft_size")
_MAX_SHOWN = 60
_LISTED_ROWS = 3


def _short(value: object) -> str:
    """Return the text of a value from a file, cut if it is long."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _some(names: Sequence[str]) -> str:
    return some(map(_short, names))


def _at(config: Any, path: str) -> Any:
    """Return the value at a path of keys; None where there is none."""
    for key in path.split("."):
        config = config.get(key) if isinstance(config, Mapping) else getattr(config, key, None)
    return config


# --- weights ----------------------------------------------------------------------------------------------------------


def check_discriminator(facts: RunFacts) -> list[Finding]:
    """The restored checkpoint contains a discriminator."""
    restored = facts.restored
    wanted = [name for name in facts.model_sizes if _module_of(name) == _DISCRIMINATOR]
    if restored is None or not wanted or _has_discriminator(restored):
        return []
    return [
        Finding(
            f"{restored.path} has no discriminator weights ({_DISCRIMINATOR}.*): a discriminator with random "
            "weights misleads a trained generator, whose voice falls apart before it recovers.",
            "Start from a full training checkpoint, not one for inference.",
        )
    ]


def _has_discriminator(restored: Restored) -> bool:
    return any(_module_of(name) == _DISCRIMINATOR for name in restored.sizes)


def _module_of(name: str) -> str:
    """Return the outermost module of a tensor; a table stands for itself."""
    return name.removesuffix(".weight") if name in TABLES else name.partition(".")[0]


def _starts_anew(name: str, facts: RunFacts) -> bool:
    """Tell whether the config asks for random numbers in place of the checkpoint's."""
    args = facts.config.model_args
    resets = {"duration_predictor": args.reinit_DP, "text_encoder": args.reinit_text_encoder}
    layers = getattr(facts.config, "reinit_layers", None) or ()
    return bool(resets.get(name.partition(".")[0])) or any(layer in name for layer in layers)


def _is_table_of(name: str, facts: RunFacts, restored: Restored) -> bool:
    """Tell whether a tensor is a table of which the check `tables` judges each row."""
    old, new = restored.sizes.get(name), facts.model_sizes.get(name)
    if name not in TABLES or (old is None and name == CHARACTERS):
        return False
    return old is None or new is None or (len(old) == len(new) == 2 and (old[1] == new[1] or restored.matches_rows))


@dataclass
class _Module:
    """A module of the model, and the elements of it that are not restored."""

    name: str
    elements: int = 0
    lost: int = 0
    first: str = ""
    """Name of its first tensor that is not restored."""

    @property
    def share(self) -> float:
        return self.lost / max(1, self.elements)

    @property
    def is_mostly_lost(self) -> bool:
        return self.share > _MOSTLY and f"{self.name}.weight" not in TABLES

    def described(self, facts: RunFacts, restored: Restored) -> str:
        new, old = facts.model_sizes[self.first], restored.sizes.get(self.first)
        there = "not in the checkpoint" if old is None else f"{list(old)} in the checkpoint, {list(new)} in the model"
        return f"{self.name} {self.share:.1%} ({self.first}: {there})"


def _modules(facts: RunFacts, restored: Restored) -> list[_Module]:
    modules: dict[str, _Module] = {}
    for name, size in facts.model_sizes.items():
        if _starts_anew(name, facts) or _is_table_of(name, facts, restored):
            continue
        module = modules.setdefault(_module_of(name), _Module(_module_of(name)))
        module.elements += math.prod(size)
        old = restored.sizes.get(name)
        if old is None or tuple(old) != tuple(size):
            module.lost += math.prod(size)
            module.first = module.first or name
    if not _has_discriminator(restored):
        modules.pop(_DISCRIMINATOR, None)  # of which the check `discriminator` speaks
    return list(modules.values())


def check_restored_weights(facts: RunFacts) -> list[Finding]:
    """The weights of every module are in the restored checkpoint; Coqui silently skips those that do not fit."""
    restored = facts.restored
    if restored is None:
        return []
    findings = []
    if restored.damaged is not None:
        found = f"{restored.path} is damaged: the checksum of its part {_short(restored.damaged)!r} is wrong."
        instead = f", or take {restored.instead}, the newest sound one beside it" if restored.instead else ""
        findings.append(Finding(found, f"Copy or download it again{instead}."))
    modules = _modules(facts, restored)
    lost = [module for module in modules if module.lost]
    if not lost:
        return findings
    generator = [module for module in modules if module.name != _DISCRIMINATOR]
    share = 1.0 - sum(module.lost for module in generator) / max(1, sum(module.elements for module in generator))
    found = (
        f"Of the generator's weights, {share:.1%} are in {restored.path} with the same name and size. Not restored, so "
        f"that they start from random numbers: {'; '.join(module.described(facts, restored) for module in lost)}."
    )
    change = (
        f"Set model_args to the architecture of the checkpoint{_differing(facts, restored)}, or omit --restore_path."
    )
    is_error = any(module.is_mostly_lost for module in lost)
    return [*findings, Finding(found, change, is_error=is_error)]


def _differing(facts: RunFacts, restored: Restored) -> str:
    """List the keys of `model_args` in which the checkpoint's config differs, in brackets."""
    before, now = restored.config.get("model_args"), facts.config.model_args
    if not isinstance(before, Mapping):
        return ""
    keys = [key for key in _ARCHITECTURE if key in before and before[key] != _at(now, key)]
    values = [f"{key} = {typed(before[key])}, here {typed(_at(now, key))}" for key in keys]
    return f" ({'; '.join(values)})" if values else ""


# --- tables -----------------------------------------------------------------------------------------------------------


def check_tables(facts: RunFacts) -> list[Finding]:
    """Each row of the restored tables goes to the speaker, language or character that it was trained for."""
    restored = facts.restored
    if restored is None:
        return [_without_checkpoint()] if facts.config.scl.restore.match_rows else []
    tables = [name for name in TABLES if _is_table_of(name, facts, restored) and not _starts_anew(name, facts)]
    return [finding for table in tables for finding in _table_findings(table, facts, restored)]


def _without_checkpoint() -> Finding:
    return warning(
        "scl.restore.match_rows = true has no effect: the run starts from no checkpoint.",
        "Name one with --restore_path, or set the key to false.",
    )


def _table_findings(table: str, facts: RunFacts, restored: Restored) -> list[Finding]:
    kind, path = TABLES[table], restored.path
    old, new = restored.sizes.get(table), facts.model_sizes.get(table)
    before, now = restored.rows.get(table), facts.rows.get(table)
    if old is None and new is None:
        return []
    if old is None:
        found = f"{path} has no table of {kind}s ({table}): the model's starts from random numbers."
        return [warning(found, f"If that is not intended, set {_SWITCHES[table]} to false.")]
    if new is None:
        who = f" ({_some(before)})" if before is not None else ""
        found = f"{path} has a table of {old[0]} {kind}s{who}, and the model has none: it is left out."
        return [warning(found, f"If that is not intended, set {_SWITCHES[table]} to true.")]
    if restored.matches_rows and old[1] != new[1]:
        found = f"scl.restore.match_rows = true, but the {kind} table of {path} is {old[1]} wide, the model's {new[1]}."
        return [Finding(found, f"Set {_WIDTHS[table]} to {old[1]}, or scl.restore.match_rows to false.")]
    if restored.matches_rows:
        return _matched(kind, path, before, now)
    if old[0] != new[0]:
        return [_resized(kind, path, (old[0], new[0]), before, now)]
    if before is None or now is None or list(before) == list(now):
        return []
    return [_shifted(kind, path, before, now)]


def _matched(kind: str, path: str, before: Sequence[str] | None, now: Sequence[str] | None) -> list[Finding]:
    """Judge a table whose rows are carried by name."""
    if before is None or now is None:
        whose = path if before is None else "the model"
        found = (
            f"scl.restore.match_rows = true, but the {kind}s of {whose} are unknown: neither its config nor a file "
            "beside it names one for each row of the table."
        )
        change = (
            "Put the config.json of the checkpoint, or such a file (docs/restoring.md), beside it, or set the key to "
            "false."
        )
        return [Finding(found, change)]
    if set(before) & set(now):
        return []
    found = (
        f"None of the {kind}s of {path} ({_some(before)}) is known here ({_some(now)}): all rows start at their mean."
    )
    return [warning(found, "Check how they are spelled: names are compared letter by letter.")]


def _resized(
    kind: str, path: str, sizes: tuple[int, int], before: Sequence[str] | None, now: Sequence[str] | None
) -> Finding:
    found = (
        f"The {kind} table of {path} has {sizes[0]} rows, the model's has {sizes[1]}: it does not fit, and the whole "
        "table starts from random numbers."
    )
    if before is None or now is None:
        whose = "the checkpoint" if before is None else "the model"
        return warning(
            f"{found} Which {kind}s the rows of {whose} stand for is unknown.",
            "To keep rows, put the config.json of the checkpoint or a file of names beside it (docs/restoring.md), and "
            "set scl.restore.match_rows to true.",
        )
    known = set(before) & set(now)
    found += f" No row survives, though {len(known)} of {len(set(now))} {kind}s are known to the checkpoint"
    added, gone = set(now) - known, set(before) - known
    changes = [f"new: {_some(sorted(added))}"] if added else []
    changes += [f"no longer there: {_some(sorted(gone))}"] if gone else []
    return warning(
        f"{found} ({'; '.join(changes)})." if changes else f"{found}.",
        "Set scl.restore.match_rows to true: it keeps the rows of the known, and starts new ones at their mean.",
    )


def _shifted(kind: str, path: str, before: Sequence[str], now: Sequence[str]) -> Finding:
    moved = [(old, new) for old, new in zip(before, now, strict=True) if old != new]
    rows = [f"the row of {_short(old)!r} to {_short(new)!r}" for old, new in moved[:_LISTED_ROWS]]
    more = f", and {len(moved) - _LISTED_ROWS} more" if len(moved) > _LISTED_ROWS else ""
    added = set(now) - set(before)
    new = f" The checkpoint does not know {_some(sorted(added))}." if added else ""
    found = (
        f"The {kind} table of {path} has as many rows as the model's, but {len(moved)} of {len(now)} would go to other "
        f"{kind}s, since Coqui restores them by position: {', '.join(rows)}{more}.{new}"
    )
    change = (
        "Set scl.restore.match_rows to true: it carries each row by its name. If only the names have changed, "
        "--skip tables."
    )
    if not set(now) & set(before):  # no row would be carried
        change = (
            f"Spell the {kind}s as the checkpoint does. If only the names have changed, --skip tables; if these are "
            "others, scl.restore.match_rows = true starts them at the mean of the checkpoint's rows."
        )
    return Finding(found, change)


# --- the config of the checkpoint -------------------------------------------------------------------------------------


def check_restored_config(facts: RunFacts) -> list[Finding]:
    """Text and audio are read as they were when the restored checkpoint was trained."""
    if facts.restored is None:
        return []
    texts, audio = _changed(facts, facts.restored, _TEXT), _changed(facts, facts.restored, _AUDIO)
    path, findings = facts.restored.path, []
    if texts:
        found = f"{path} was trained on text that was read differently: {texts}."
        findings.append(warning(found, "Set the keys as they were: the text encoder would hear another language."))
    if audio:
        found = f"{path} was trained on audio that was read differently: {audio}."
        findings.append(warning(found, "Set the keys as they were, unless the voice is to be learned again."))
    return findings


def _changed(facts: RunFacts, restored: Restored, paths: Sequence[str]) -> str:
    values = [(path, _at(restored.config, path), _at(facts.config, path)) for path in paths]
    differing = [(path, old, new) for path, old, new in values if None not in (old, new) and old != new]
    return ", ".join(f"{path} = {typed(old)} (here {typed(new)})" for path, old, new in differing)


def check_optimizer_state(facts: RunFacts) -> list[Finding]:
    """A continued run has the state of its optimizers; Coqui silently drops a state that does not fit."""
    if facts.restored is None or not facts.restored.continues_optimizers:
        return []
    lost = [name for name, optimizer in facts.optimizers.items() if not optimizer.state]
    if not lost:
        return []
    return [
        Finding(
            f"The run continues without the state of the optimizer of the {' and the '.join(lost)}: the state in the "
            "checkpoint does not fit, for example because scl.freeze.modules or a freeze flag has changed since.",
            "Continue with the config of the run, or start a new run with --restore_path.",
        )
    ]
