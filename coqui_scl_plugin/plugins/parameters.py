"""Check the `params` of a config against the constructor that they are passed to, and build the object.

The names, defaults and annotations of the constructor are the only declaration of its parameters.
`Annotated[float, pydantic.Field(ge=0)]` adds a range.
"""

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import pydantic

from coqui_scl_plugin.errors import ConfigError, SclError
from coqui_scl_plugin.utils.shown import key_path, shortened, shown
from coqui_scl_plugin.utils.suggest import did_you_mean

_ANY_TYPE = pydantic.ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False)


def check_value(value: Any, annotation: Any, path: str, **constraints: Any) -> None:
    """Raise a ConfigError that names `path` unless `value` is of the annotated type and within the constraints.

    Nothing is converted, but an integer is accepted as a float. Constraints are those of `pydantic.Field`, such as
    `ge`, `gt`, `le` and `lt`.
    """
    try:
        adapter = _kept_adapter(annotation, tuple(sorted(constraints.items())))
    except TypeError:  # an annotation that cannot be hashed, such as one with a default that is a list
        adapter = _adapter(annotation, constraints)
    try:
        adapter.validate_python(value, strict=True)
    except pydantic.ValidationError as error:
        raise ConfigError(_refusal(error, value, path)) from error


def _adapter(annotation: Any, constraints: Mapping[str, Any]) -> "pydantic.TypeAdapter[Any]":
    own_config = isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel)
    if constraints:
        annotation = Annotated[annotation, pydantic.Field(**constraints)]
    return pydantic.TypeAdapter(annotation, config=None if own_config else _ANY_TYPE)


@functools.cache
def _kept_adapter(annotation: Any, constraints: tuple[tuple[str, Any], ...]) -> "pydantic.TypeAdapter[Any]":
    return _adapter(annotation, dict(constraints))


def _refusal(error: pydantic.ValidationError, value: Any, path: str) -> str:
    """Return the message about the first place in `value` that is at fault, with all that is allowed there."""
    details = error.errors(include_url=False, include_context=False, include_input=False)
    first = details[0]["loc"]
    if first[-1:] == ("[key]",):
        place, _ = _locate(value, path, first[:-2])
        return f"{key_path(place, first[-2])}: the key {shown(first[-2])} must be text."
    place, found = _locate(value, path, first)
    first_message, *others = dict.fromkeys(d["msg"] for d in details if _locate(value, path, d["loc"])[0] == place)
    allowed = " or ".join([first_message, *(message.removeprefix("Input should be ") for message in others)])
    return f"{place} = {shown(found)}: {allowed}."


def _locate(value: Any, path: str, location: Sequence[int | str]) -> tuple[str, Any]:
    """Follow pydantic's location, which also names the branches of unions, as far as `value` has such keys."""
    for part in location:
        inside = value if isinstance(value, Mapping) else range(len(value)) if isinstance(value, list) else ()
        if part in inside:
            value, path = value[part], key_path(path, part)
    return path, value


def signature_of(cls: type) -> inspect.Signature:
    """Return the signature of a constructor, with its annotations evaluated where they can be."""
    owner = next(base for base in cls.__mro__ if "__init__" in vars(base))
    if owner.__module__ == "torch.nn.modules.module":
        return (
            inspect.Signature()
        )  # without a constructor of its own; nn.Module's accepts any argument only to refuse it
    try:
        return inspect.signature(cls, eval_str=True)
    except NameError:  # an annotation that cannot be evaluated stays a string, and is not checked
        return inspect.signature(cls)


def check_params(cls: type, params: Mapping[str, Any], path: str) -> None:
    """Check the keyword arguments `params` against the signature of `cls`; `path` is their config key.

    Raises:
        ConfigError: a name is unknown or missing, or a value is of the wrong type or out of range.
    """
    signature = signature_of(cls)
    known = {name: p for name, p in signature.parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    for name, value in params.items():
        if name in known:
            annotation = known[name].annotation
            if annotation is not inspect.Parameter.empty and not isinstance(annotation, str):
                check_value(value, annotation, key_path(path, name))
        elif not takes_any:
            place = key_path(path, name)
            raise ConfigError(f"{place}: {cls.__name__} has no such parameter. {did_you_mean(name, known)}")
    missing = [name for name, p in known.items() if p.default is p.empty and name not in params]
    if missing:
        got = shown(sorted(params, key=str)) if params else "no parameters"
        raise ConfigError(f"{path}: {cls.__name__} needs {', '.join(missing)}, got {got}.")


def build(cls: type, params: Mapping[str, Any], path: str) -> Any:
    """Check `params`, then construct the object; for errors see `check_params` and `construct`."""
    check_params(cls, params, path)
    return construct(cls, params, path)


def construct(cls: type, params: Mapping[str, Any], path: str) -> Any:
    """Call `cls` with checked `params`; `path` is their config key, which errors of the constructor name.

    Raises:
        ConfigError: the constructor raises a ValueError or TypeError.
        SclError: the constructor raises it, such as an EncoderError about missing weights.
    """
    try:
        return cls(**params)
    except SclError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path}: {cls.__name__} refuses {shown(dict(params))}: {shortened(str(error))}") from error
