"""The card of an exported model: a README in Markdown, with what was measured and what was not."""

from collections.abc import Mapping
from typing import Any

import jinja2

from coqui_scl_plugin.utils.shown import printable

_UNKNOWN = "–"
_SPECIAL = str.maketrans({character: f"\\{character}" for character in "\\`*_[]<>|#"})


def model_card(facts: Mapping[str, Any]) -> str:
    """Return the card as Markdown.

    Args:
        facts: Plain values that the template `model_card.md.j2` names; numbers that were not measured are None.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("coqui_scl_plugin.evaluation", "."), autoescape=False,  # noqa: S701  # not HTML
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters.update(fixed=_fixed, interval=_interval, plain=_plain)
    return environment.get_template("model_card.md.j2").render(**facts)


def to_fill_in(card: str) -> str:
    """Return the last section of a card, which people complete."""
    return card.rpartition("## To fill in")[2].strip()


def _plain(text: object) -> str:
    r"""Return a name as it reads in Markdown, on one line.

    >>> _plain("a_b|c"), _plain("<b>")
    ('a\\_b\\|c', '\\<b\\>')
    """
    return printable(text).translate(_SPECIAL)


def _fixed(value: float | None, digits: int = 3) -> str:
    return _UNKNOWN if value is None else f"{value:.{digits}f}"


def _interval(value: Mapping[str, float | None] | None) -> str:
    if value is None:
        return _UNKNOWN
    bounds = "" if value["low"] is None else f" ({_fixed(value['low'])} to {_fixed(value['high'])})"
    return _fixed(value["mean"]) + bounds
