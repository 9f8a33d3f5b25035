"""How messages show what a user wrote: short, on one line, and whatever it is."""

import reprlib
from typing import Any

MAX_SHOWN = 200
"""Characters of a value that a message repeats at most."""
_MAX_NAME = 80
_MAX_EXCERPT = 100
_HEAD, _TAIL = 120, 40
_MAX_LEVELS = 8
_MAX_BITS = 600  # Python writes out no integer of more than 4,300 digits


class _Short(reprlib.Repr):
    """Limits the work too: a few hundred bytes of YAML may stand for gigabytes of values."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = _MAX_LEVELS
        for limit in ("dict", "list", "tuple", "set", "frozenset", "deque", "array", "string", "long", "other"):
            setattr(self, f"max{limit}", MAX_SHOWN)
        self._left = MAX_SHOWN

    def repr1(self, x: Any, level: int) -> str:
        self._left -= 1
        return super().repr1(x, level) if self._left >= 0 else "..."

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if x.bit_length() <= _MAX_BITS else f"<an integer of {x.bit_length()} bits>"


def shown(value: Any) -> str:
    r"""Return a value as Python writes it, of which at most 200 characters are kept.

    >>> shown("cosine"), shown([1, "é\n"]), len(shown("x" * 1_000_000))
    ("'cosine'", "[1, 'é\\n']", 200)
    >>> shown(10**5000)
    '<an integer of 16610 bits>'
    """
    return shortened(_Short().repr(value))


def shortened(text: str, limit: int = MAX_SHOWN) -> str:
    r"""Return a text on one line, of which at most `limit` characters are kept.

    >>> shortened("a\n  b"), shortened("abcdef", 4)
    ('a b', 'abc…')
    """
    if len(text) > 10 * limit:
        text = text[: 10 * limit]
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def named(name: Any, limit: int = _MAX_NAME) -> str:
    r"""Return a name, such as a key or a file's, as it stands where it is short and can be printed, or else `shown`.

    >>> named("weight"), named(5), named("a\0"), len(named("x" * 1000))
    ('weight', '5', "'a\\x00'", 80)
    """
    if isinstance(name, str) and name and name.isprintable():
        return name if len(name) <= limit else f"{name[: limit - 1]}…"
    return shortened(shown(name), limit)


def excerpt(value: str, *, quoted: bool = True, limit: int = _MAX_EXCERPT) -> str:
    """Return a name or a text, quoted as Python does, without the middle of those over `limit` characters.

    >>> excerpt("a"), len(excerpt("a" * 999))
    ("'a'", 100)
    """
    text = repr(value) if quoted else value
    half = limit // 2
    return text if len(text) <= limit else f"{text[: half - 2]} … {text[1 - half :]}"


def printable(text: object) -> str:
    r"""Return the text with characters that cannot be shown, among them line ends and lone surrogates, as escapes.

    >>> print(printable("a\nb\udce9"))
    a\nb\udce9
    """
    letters = str(text)
    if letters.isprintable():
        return letters
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in letters)


def shorten(text: object) -> str:
    """Return a text, such as a file's name, as `printable` shows it, without the middle of those over 200 characters.

    >>> shorten("pairs.csv"), shorten("x" * 999)[120:143]
    ('pairs.csv', '... (999 characters) ..')
    """
    original = str(text)
    if len(original) <= MAX_SHOWN and len(whole := printable(original)) <= MAX_SHOWN:
        return whole
    head, tail = printable(original[:_HEAD])[:_HEAD], printable(original[-_TAIL:])[-_TAIL:]
    return f"{head}... ({len(original)} characters) ...{tail}"


def key_path(path: str, key: Any) -> str:
    """Return the path of a key within the section or list at `path`, which is empty for the outermost.

    >>> key_path("scl.encoders", 0), key_path("", "model")
    ('scl.encoders.0', 'model')
    """
    return f"{path}.{named(key)}" if path else named(key)


def typed(value: Any, limit: int = _MAX_NAME) -> str:
    """Return a value as users type it in JSON or YAML, of which at most `limit` characters are kept.

    >>> typed(None), typed(True), typed("a"), typed("a" * 9, limit=6)
    ('null', 'true', "'a'", "'aaaa…")
    """
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else shortened(shown(value), limit)
