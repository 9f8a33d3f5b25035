"""Options of a command as one object: a dataclass declares them once, and typer reads its fields."""

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any


def _parameter(field: "dataclasses.Field[Any]", annotation: Any) -> inspect.Parameter:
    default = inspect.Parameter.empty
    if field.default is not dataclasses.MISSING:
        default = field.default
    elif field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def takes_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command with a dataclass as its parameter `options` one parameter per field instead, for typer to read.

    Other parameters, such as the context, stay. A field without a default is a required option.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Options:
    ...     name: typing.Annotated[str, "help"]
    ...     steps: int = 1
    >>> @takes_options
    ... def train(ctx: str, options: Options) -> None:
    ...     print(ctx, options)
    >>> list(inspect.signature(train).parameters)
    ['ctx', 'name', 'steps']
    >>> train(ctx="now", name="a", steps=2)
    now Options(name='a', steps=2)
    """
    parameters = dict(inspect.signature(command).parameters)
    options_class = parameters["options"].annotation
    hints = typing.get_type_hints(options_class, include_extras=True)
    names = {field.name: _parameter(field, hints[field.name]) for field in dataclasses.fields(options_class)}
    expanded: list[inspect.Parameter] = []
    for name, parameter in parameters.items():
        kept = parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        expanded += names.values() if name == "options" else [kept]

    @functools.wraps(command)
    def with_fields(**arguments: Any) -> None:
        options = options_class(**{name: arguments.pop(name) for name in names})
        command(**arguments, options=options)

    with_fields.__signature__ = inspect.Signature(expanded)  # type: ignore[attr-defined]
    with_fields.__annotations__ = {parameter.name: parameter.annotation for parameter in expanded}
    return with_fields
