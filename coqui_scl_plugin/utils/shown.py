"""Values as messages show them: on one line, and never long."""

from typing import Any

_MAX_CHARACTERS = 80


def shown(value: Any, limit: int = _MAX_CHARACTERS) -> str:
    """Return a value as JSON and YAML spell it, cut to `limit` characters.

    >>> shown(None), shown(True), shown("a"), shown("a" * 9, limit=6)
    ('null', 'true', "'a'", "'aaaa…")
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of more digits than Python prints, or nested without end
        return f"a {type(value).__name__} that is too long to show"
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
