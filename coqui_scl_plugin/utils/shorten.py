"""Values that a message quotes, which may be of any length and hold anything."""

_MAX_CHARACTERS = 200
_HEAD, _TAIL = 120, 40


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
    """Return the text for a message: on one line, and in at most 200 characters.

    >>> shorten("pairs.csv")
    'pairs.csv'
    >>> shorten("x" * 200_000)[-66:]
    'xxxxx... (200000 characters) ...xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'
    """
    original = str(text)
    if len(original) <= _MAX_CHARACTERS and len(shown := printable(original)) <= _MAX_CHARACTERS:
        return shown
    head, tail = printable(original[:_HEAD])[:_HEAD], printable(original[-_TAIL:])[-_TAIL:]
    return f"{head}... ({len(original)} characters) ...{tail}"
