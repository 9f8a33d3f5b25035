"""Checks of a section beyond types and ranges: registered names, their parameters, and keys that must agree."""

from collections.abc import Mapping
from typing import Any

from coqui_scl_plugin.config.members import Term, terms_of
from coqui_scl_plugin.config.schema import (
    ENSEMBLE,
    SECTION,
    AugmentConfig,
    EncoderConfig,
    SclConfig,
)
from coqui_scl_plugin.config.strict import check_object
from coqui_scl_plugin.errors import ConfigError, HoldoutError
from coqui_scl_plugin.plugins import parameters, registry
from coqui_scl_plugin.plugins.optional import compares_features, offers_features, takes_calibration
from coqui_scl_plugin.utils.shown import key_path, shown
from coqui_scl_plugin.utils.suggest import did_you_mean

_MAX_ALIAS = 64


def _check_encoders(config: SclConfig) -> None:
    if config.enabled and not config.encoders:
        raise ConfigError(
            'scl.encoders = []: name at least one encoder, e.g. [{"name": "ge2e"}], or set scl.enabled to false.'
        )
    known = registry.installed()
    seen: dict[str, str] = {}
    for role in ("encoders", "holdout"):
        for index, encoder in enumerate(getattr(config, role)):
            path = f"{SECTION}.{role}.{index}"
            parameters.check_params(
                known.get("encoders", encoder.name, f"{path}.name"), encoder.params, f"{path}.params"
            )
            _check_policy(encoder, path, held_out=role == "holdout")
            _check_calibration(encoder, path)
            if len(encoder.label) > _MAX_ALIAS or not encoder.label.replace("_", "").replace("-", "").isalnum():
                msg = f"use letters, digits, '_' and '-' only, and at most {_MAX_ALIAS} characters."
                raise ConfigError(f"{path}.alias = {shown(encoder.alias)}: {msg}")
            if encoder.label in seen:
                raise ConfigError(
                    f"{path}.alias = {shown(encoder.label)}: taken by {seen[encoder.label]}; give each encoder its own."
                )
            seen[encoder.label] = path
    for index, held_out in enumerate(config.holdout):
        for encoder in config.encoders:
            if (held_out.name, held_out.params) == (encoder.name, encoder.params):
                msg = (
                    f"{SECTION}.holdout.{index} is the training encoder {shown(encoder.label)} again: a held-out "
                    "encoder must take no part in training. Choose another one."
                )
                raise HoldoutError(msg)


def _check_policy(encoder: EncoderConfig, path: str, *, held_out: bool) -> None:
    policy: Any = registry.installed().get("freeze_policies", encoder.policy, f"{path}.policy")
    if missing := [name for name in ("trainable", "apply") if not hasattr(policy, name)]:
        msg = f"{path}.policy = {encoder.policy!r}: {policy.__name__} lacks the attribute {', '.join(missing)}."
        raise ConfigError(msg)
    if held_out and policy.trainable:
        msg = f"{path}.policy = {encoder.policy!r}: a held-out encoder takes no part in training. Use 'frozen'."
        raise ConfigError(msg)
    if encoder.dtype != "float32" and (held_out or policy.trainable):
        why = "a held-out encoder only scores" if held_out else f"the policy {encoder.policy!r} lets it train"
        raise ConfigError(f"{path}.dtype = {encoder.dtype!r}: {why}, which is done in float32. Remove the key.")


def _check_calibration(encoder: EncoderConfig, path: str) -> None:
    if (encoder.floor is None) != (encoder.ceiling is None):
        raise ConfigError(f"{path}: floor and ceiling belong together; set both, or neither to have them measured.")
    if encoder.floor is not None and encoder.ceiling is not None and encoder.floor >= encoder.ceiling:
        raise ConfigError(f"{path}.floor = {encoder.floor}: must be less than the ceiling, {encoder.ceiling}.")


def check_loss(name: str, params: Mapping[str, Any], path: str) -> None:
    """Check a loss and its parameters, including those of an ensemble's member.

    Raises:
        ConfigError: a key cannot be used; names its path, which begins with `path` unless that is empty.
    """
    prefix = f"{path}." if path else ""
    cls = registry.installed().get("losses", name, f"{prefix}name")
    parameters.check_params(cls, params, f"{prefix}params")
    if name == ENSEMBLE:
        _check_members(params, f"{prefix}params")


def _check_members(params: Mapping[str, Any], path: str) -> None:
    """Check the losses of an ensemble, of `member` and of `members`, and whether they can be calibrated."""
    terms = [term for member, key in _members(params) for term in terms_of(member, f"{path}.{key}")]
    classes = [_check_term(term) for term in terms]
    for term, cls in zip(terms, classes, strict=True):
        if params.get("calibrate", True) and not (takes_calibration(cls) or compares_features(cls)):
            raise ConfigError(f"{path}.calibrate = true: {term.name!r} cannot rescale its cosines; set it to false.")
    given = params.get("member") is not None  # or else encoders that `members` does not name have a cosine
    if given and params.get("calibrate", False) and all(map(compares_features, classes)):
        raise ConfigError(f"{path}.calibrate = true: no member compares cosines to rescale; set it to false.")


def _members(params: Mapping[str, Any]) -> list[tuple[Any, str]]:
    """Return the members that the parameters of an ensemble give, with their keys."""
    given = [(params["member"], "member")] if params.get("member") is not None else []
    given += [(member, key_path("members", alias)) for alias, member in (params.get("members") or {}).items()]
    return [(member, key) for member, key in given if isinstance(member, Mapping | list)]


def _check_term(term: Term) -> type:
    cls = registry.installed().get("losses", term.name, term.name_path)
    if term.name == ENSEMBLE:
        raise ConfigError(f"{term.name_path} = {term.name!r}: an ensemble cannot be a member of an ensemble.")
    parameters.check_params(cls, term.params, term.params_path)
    return cls


def _check_loss_fits(config: SclConfig) -> None:
    name = config.loss.name
    if name == ENSEMBLE and "encoders" in config.loss.params:
        raise ConfigError(
            "scl.loss.params.encoders: remove the key; a run takes encoders and weights from scl.encoders."
        )
    aliases = [encoder.label for encoder in config.encoders]
    for alias in config.loss.params.get("members") or {} if name == ENSEMBLE else ():
        if alias not in aliases:
            msg = f"{key_path(f'{SECTION}.loss.params.members', alias)}: no training encoder has this alias."
            raise ConfigError(f"{msg} {did_you_mean(alias, aliases)}")
    if len(config.encoders) > 1 and name != ENSEMBLE:
        member = f'{{"name": "ensemble", "params": {{"member": {{"name": "{name}"}}}}}}'
        msg = (
            f"scl.loss.name = {name!r} compares with a single encoder, but scl.encoders has {len(config.encoders)}: "
            f"use {member}, or keep one encoder."
        )
        raise ConfigError(msg)


def _check_weight(config: SclConfig) -> None:
    if config.gradient_share is not None and config.weight != SclConfig.weight:
        raise ConfigError(
            f"scl.gradient_share = {config.gradient_share:g} and scl.weight = {config.weight:g}: both set the strength "
            "of the loss; remove one of them."
        )


def _check_augment(augment: AugmentConfig) -> None:
    path = f"{SECTION}.augment"
    if augment.noise_snr_db is not None:
        low, high = augment.noise_snr_db
        if not 0 <= low <= high <= 60:
            msg = f"{path}.noise_snr_db = {augment.noise_snr_db}: must be [low, high] with 0 <= low <= high <= 60."
            raise ConfigError(msg)
    if 0 < augment.speed < 0.01:
        raise ConfigError(f"{path}.speed = {augment.speed}: must be 0 or at least 0.01; speeds are whole percents.")


def _check_features(config: SclConfig) -> None:
    """Check that the encoders of losses that compare feature maps have some."""
    known, params = registry.installed(), config.loss.params
    own = dict(params.get("members") or {}) if config.loss.name == ENSEMBLE else {}
    common = params.get("member") if config.loss.name == ENSEMBLE else config.loss.to_dict()
    for index, encoder in enumerate(config.encoders):
        member, path = common, f"{SECTION}.loss"
        if config.loss.name == ENSEMBLE:
            path += f".params.members.{encoder.label}" if encoder.label in own else ".params.member"
            member = own.get(encoder.label, common)
        for term in terms_of(member, path) if member is not None else []:
            if not compares_features(known.get("losses", term.name, term.name_path)):
                continue
            if not offers_features(known.get("encoders", encoder.name, f"{SECTION}.encoders.{index}.name")):
                able = sorted(name for name, entry in known.encoders.items() if offers_features(entry.cls))
                msg = (
                    f"{term.name_path} = {term.name!r} compares feature maps, and the encoder {encoder.name!r} "
                    f"({SECTION}.encoders.{index}) has none. Encoders with feature maps: {', '.join(able) or 'none'}."
                )
                raise ConfigError(msg)


def check_config(config: Any) -> None:
    """Check a config object, however it was made: structure, ranges, registered names and their parameters.

    Raises:
        ConfigError: a key cannot be used; names its path, the value, and what is allowed.
    """
    check_object(SclConfig, config, SECTION)
    _check_encoders(config)
    check_loss(config.loss.name, config.loss.params, f"{SECTION}.loss")
    _check_loss_fits(config)
    _check_weight(config)
    _check_augment(config.augment)
    _check_features(config)
