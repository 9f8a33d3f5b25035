"""Check the `params` of a config against the constructor that they are passed to, and build the object.

The names, defaults and annotations of the constructor are the only declaration of its parameters.
`Annotated[float, pydantic.Field(ge=0)]` adds a range.
"""

import inspect
from collections.abc import Mapping
from typing import Annotated, Any

import pydantic

from coqui_scl_plugin.errors import ConfigError, SclError
from coqui_scl_plugin.utils.suggest import did_you_mean

_ANY_TYPE = pydantic.ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False)


def check_value(value: Any, annotation: Any, path: str, **constraints: Any) -> None:
    """Raise a ConfigError that names `path` unless `value` is of the annotated type and within the constraints.

    Nothing is converted, but an integer is accepted as a float. Constraints are those of `pydantic.Field`, such as
    `ge`, `gt`, `le` and `lt`.
    """
    base = annotation
    if constraints:
        annotation = Annotated[annotation, pydantic.Field(**constraints)]
    config = None if isinstance(base, type) and issubclass(base, pydantic.BaseModel) else _ANY_TYPE
    adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(annotation, config=config)
    try:
        adapter.validate_python(value, strict=True)
    except pydantic.ValidationError as error:
        detail = error.errors()[0]
        where = "".join(f".{part}" for part in detail["loc"] if isinstance(part, int | str) and part in _keys(value))
        raise ConfigError(f"{path}{where} = {value!r}: {detail['msg']}.") from error


def _keys(value: Any) -> Any:
    return value if isinstance(value, Mapping) else range(len(value)) if isinstance(value, list) else ()


def _signature(cls: type) -> inspect.Signature:
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
    signature = _signature(cls)
    known = {name: p for name, p in signature.parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    for name, value in params.items():
        if name in known:
            annotation = known[name].annotation
            if annotation is not inspect.Parameter.empty and not isinstance(annotation, str):
                check_value(value, annotation, f"{path}.{name}")
        elif not takes_any:
            raise ConfigError(f"{path}.{name}: {cls.__name__} has no such parameter. {did_you_mean(name, known)}")
    missing = [name for name, p in known.items() if p.default is p.empty and name not in params]
    if missing:
        raise ConfigError(
            f"{path}: {cls.__name__} needs {', '.join(missing)}, got {sorted(params) or 'no parameters'}."
        )


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
        raise ConfigError(f"{path}: {cls.__name__} refuses {dict(params)}: {error}") from error
