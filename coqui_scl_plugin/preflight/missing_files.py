"""Why recordings that a data set names do not exist."""

# ruff: noqa: PTH110, PTH113, PTH114, PTH118  # Path raises for names that are too long, os.path does not

import itertools
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

_EXAMPLE = ", such as "
_EXAMINED = 20
"""Recordings that do not exist of which the reason is looked for."""
_ENDINGS = (".wav", ".flac", ".mp3", ".ogg", ".m4a")


def why_missing(path: Path) -> str:
    r"""Return why a recording that does not exist has the wrong name, as far as its folder shows; else nothing.

    >>> why_missing(Path("data/a\\b.wav"))
    'their names hold backslashes, which separate folders on Windows alone'
    """
    name, text = path.name, str(path)
    if os.path.islink(path):
        return "there are symbolic links of these names, to files that do not exist"
    if "\\" in text:
        return "their names hold backslashes, which separate folders on Windows alone"
    if "~" in path.parts:
        return "their names begin with ~, which Coqui does not expand"
    stripped = [part.strip() for part in path.parts]
    if stripped != list(path.parts) and os.path.exists(os.path.join(*stripped)):
        return "their names have spaces around them, those of the files do not"
    if name.endswith(".wav") and Path(name[:-4]).suffix.lower() in _ENDINGS:
        return "the formatter appends '.wav' to names that have an ending"
    return _same_but_for(path) or _elsewhere(path)


def _same_but_for(path: Path) -> str:
    """Compare a path, folder by folder, with the names that there are."""
    folder, reasons = Path(path.anchor), set()
    for part in path.parts[1 if path.anchor else 0 :]:
        if os.path.exists(folder / part):
            folder /= part
            continue
        for reason, form in _FORMS.items():
            if found := next((name for name in _names_in(folder) if form(name) == form(part)), None):
                folder /= found
                reasons.add(reason)
                break
        else:
            return ""
    return next(iter(sorted(reasons)), "")


_FORMS: Mapping[str, Callable[[str], str]] = {
    "the files are there in another Unicode normal form (NFC or NFD)": lambda name: unicodedata.normalize("NFC", name),
    "the files are there in upper or lower case, unlike their names": lambda name: unicodedata.normalize(
        "NFC", name
    ).casefold(),
}
_USUAL_FOLDERS = ("wavs", "wav", "audio", "clips")


def _elsewhere(path: Path) -> str:
    stem = path.stem.casefold()
    if others := [name for name in _names_in(path.parent) if Path(name).stem.casefold() == stem]:
        lack = "the names lack the ending of the files" if not path.suffix else "there are files with another ending"
        return f"{lack}, such as {others[0][:100]!r}"
    for folder in (*(path.parent / name for name in _USUAL_FOLDERS), path.parent.parent):
        if os.path.isfile(folder / path.name):
            return f"there are such files in {folder}"
    return ""


def _names_in(folder: Path) -> Sequence[str]:
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208  # names alone
    except OSError:
        return ()


def reasons_of(missing: Iterable[Path]) -> str:
    """Return why recordings do not exist, as the end of a sentence, after a look at the first of them."""
    reasons = list(filter(None, map(why_missing, itertools.islice(missing, _EXAMINED))))
    kinds = Counter(reason.partition(_EXAMPLE)[0] for reason in reasons)
    first = {kind: next(reason for reason in reasons if reason.startswith(kind)) for kind, _ in kinds.most_common(2)}
    return "".join(f"; {reason}" for reason in first.values())
