"""Strategies for whatever a config may hold: any JSON, what JSON cannot hold, and sound data with one thing wrong."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

_LEVELS = 25
Place = tuple[str | int, ...]
"""The keys and indices that lead to a value."""


def nested(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


def cycle() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["again"] = value
    return value


NOWHERE_SOUND: dict[str, Callable[[], Any]] = {
    "integer of 400 digits": lambda: 10**400,
    "integer of 4,000 digits": lambda: -(10**4000),
    "infinity": lambda: float("inf"),
    "nan": lambda: float("nan"),
    "half a surrogate pair": lambda: "\ud800",
    "NUL": lambda: "a\0b",
    "long text": lambda: "x" * 1_000_000,
    "deep": lambda: nested(60),
    "cycle": cycle,
    "tuple": lambda: (1, 2),
    "bytes": lambda: b"bytes",
    "set": lambda: {1, 2},
    "number as a key": lambda: {3: 4},
    "half a surrogate pair as a key": lambda: {"\udfff": 4},
    "tuple as a key": lambda: {("a",): 4},
    "NUL in a key": lambda: {"a\0": 1},
    "long key": lambda: {"x" * 1_000_000: (1, 2)},
    "path": lambda: Path("a"),
    "complex number": lambda: 1j,
    "object": object,
    "object in a list": lambda: [object()],
    "class": lambda: Path,
}
"""Values that no key of a section may have, by what they are; made when needed, for some have no `repr`."""

nowhere_sound = st.sampled_from(sorted(NOWHERE_SOUND)).map(lambda name: NOWHERE_SOUND[name]())
text = st.text(st.characters(exclude_categories=()), max_size=20)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    text,
    st.sampled_from(["", "null", "???", "true", "1", "a.b", "0"]),
)
json_values = st.recursive(
    scalars,
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(text, inside, max_size=3),
    max_leaves=6,
)
"""What a JSON file may hold, also such as no config does."""
any_values = json_values | nowhere_sound


def places(value: Any, place: Place = ()) -> Iterator[Place]:
    """Yield the place of each value in nested dicts and lists, that of the whole first, deeper than a config may be."""
    yield place
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inside if len(place) < _LEVELS else ():  # a value may contain itself
        yield from places(item, (*place, key))


def replaced(data: Any, place: Place, value: Any) -> Any:
    """Return a copy of nested data with another value at a place."""
    if not place:
        return value
    changed = copy.deepcopy(data)
    container = changed
    for key in place[:-1]:
        container = container[key]
    container[place[-1]] = value
    return changed


@st.composite
def with_one_replaced(draw: st.DrawFn, data: Any, values: st.SearchStrategy[Any]) -> tuple[Any, Place]:
    """Return `data` with one of its values, which may be all of it, replaced by one of `values`, and its place."""
    place = draw(st.sampled_from(list(places(data))))
    return replaced(data, place, draw(values)), place


@st.composite
def mutated(draw: st.DrawFn, data: Any, values: st.SearchStrategy[Any]) -> Any:
    """Return `data` with up to three things wrong: values replaced, keys misspelt, added or removed."""
    for _ in range(draw(st.integers(1, 3))):
        if draw(st.booleans()):
            data, _ = draw(with_one_replaced(data, values))
            continue
        containers = [place for place in places(data) if isinstance(_at(data, place), dict)]
        if not containers:
            continue
        place = draw(st.sampled_from(containers))
        section = dict(_at(data, place))
        name = draw(st.sampled_from([*section, "new"]))
        value = section.pop(name, 1)
        kind = draw(st.sampled_from(["remove", "misspell", "add"]))
        if kind == "misspell":
            section[draw(text) if draw(st.booleans()) else f"{name}s"] = value
        elif kind == "add":
            section |= {name: value, draw(text): draw(values)}
        data = replaced(data, place, section)
    return data


def _at(data: Any, place: Place) -> Any:
    for key in place:
        data = data[key]
    return data
