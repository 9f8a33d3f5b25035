"""Read a config file, whatever is in the place that its name stands for.

A file of a few hundred bytes can hang a program or take gigabytes: pipes, devices, servers that do not answer, aliases
of YAML that stand for lists of aliases. What no config needs is refused, in one line.
"""

import json
import re
import stat
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.utils.plain import MAX_VALUES, check_plain
from coqui_scl_plugin.utils.shown import MAX_SHOWN, named, shortened

MAX_BYTES = 2_000_000
MAX_SECONDS = 2.5
"""Time for a server or a file system to answer."""
_MAX_ALIASES = 1000
_MAX_DIGITS = 4300
_COMMENT = re.compile(r'("(?:[^"\\]++|\\.)*+"?)|//[^\n]*', re.DOTALL)
"""A text, or a comment as Coqui allows it in JSON: from // to the end of the line."""


def read_config_file(path: str) -> dict[str, Any]:
    """Read a config file or URL as a mapping: JSON, with comments as Coqui allows, or YAML.

    Raises:
        ConfigError: it cannot be read, is too large, or is not a config; a single line says why.
    """
    name = f"The config {named(path, MAX_SHOWN)}"
    try:
        content = _read_in_time(path)
        text = _decode(content)
        data = _parse_yaml(text) if path.lower().endswith((".yml", ".yaml")) else _parse_json(text)
    except _UnusableError as error:
        raise ConfigError(f"{name} {error}.") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{name} must hold an object of keys and values, but holds {type(data).__name__}.")
    check_plain(data, "", strict=False)
    return data


class _UnusableError(Exception):
    """Why a file is no config, as the end of a sentence."""


# --- bytes ------------------------------------------------------------------------------------------------------------


def _read_in_time(path: str) -> bytes:
    """Read a file or URL in a thread of its own, which is left behind if it does not come to an end."""
    results: list[bytes | Exception] = []

    def work() -> None:
        try:
            results.append(_read_url(path) if "://" in path else _read_file(Path(path)))
        except Exception as error:  # noqa: BLE001  # a file system that fsspec finds may raise anything
            results.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(MAX_SECONDS)
    if not results:
        raise _UnusableError(f"cannot be read: no answer within {MAX_SECONDS:g} seconds")
    (result,) = results
    if isinstance(result, _UnusableError):
        raise result
    if isinstance(result, Exception):
        raise _UnusableError(f"cannot be read: {shortened(_reason(result))}") from result
    return result


def _reason(error: Exception) -> str:
    """Return what went wrong at first, without the name of the file, which the message has already."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}"


def _read_file(path: Path) -> bytes:
    try:
        found = path.stat()
    except FileNotFoundError:
        raise _UnusableError("cannot be read: there is no such file") from None
    if stat.S_ISDIR(found.st_mode):
        raise _UnusableError("is a folder: name a file in it")
    if not stat.S_ISREG(found.st_mode):
        raise _UnusableError("is a pipe, a device or a socket: name a file")
    with path.open("rb") as file:
        return _read_some(file, found.st_size)


def _read_url(url: str) -> bytes:
    import fsspec  # takes a while

    with fsspec.open(url, "rb") as file:
        return _read_some(file)


def _read_some(file: BinaryIO, size: int = 0) -> bytes:
    """Read a file of a size that it may not tell: files of /proc have a size of 0, and some have no end."""
    content = file.read(MAX_BYTES + 1) if size <= MAX_BYTES else b""
    if max(size, len(content)) > MAX_BYTES:
        raise _UnusableError(f"is larger than {MAX_BYTES / 1e6:g} MB, as no config is: name another file")
    return content


def _decode(content: bytes) -> str:
    if content.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise _UnusableError("begins with a byte-order mark: save it as UTF-8 without one")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _UnusableError(
            f"is not valid JSON or YAML: it is not UTF-8 ({error.reason} at byte {error.start})"
        ) from error


# --- JSON -------------------------------------------------------------------------------------------------------------


def _parse_json(text: str) -> Any:
    if not text.strip():
        raise _UnusableError("is not valid JSON: it is empty")
    without_comments = _COMMENT.sub(lambda found: found.group(1) or "", text)
    try:
        return json.loads(without_comments, object_pairs_hook=_unique, parse_int=_integer)
    except json.JSONDecodeError as error:
        raise _UnusableError(f"is not valid JSON: {error}") from error
    except RecursionError as error:
        raise _UnusableError("is nested too deeply: no config has that many levels") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _refuse_repeated(key for key, _ in pairs)
    return dict(pairs)


def _refuse_repeated(keys: Iterable[str], where: str = "") -> None:
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            raise _UnusableError(f"has the key {named(key)} twice in one section{where}: remove one of them")
        seen.add(key)


def _integer(digits: str) -> int:
    _refuse_many_digits(digits)
    return int(digits)


def _refuse_many_digits(digits: str, where: str = "") -> None:
    if len(digits) > _MAX_DIGITS:
        raise _UnusableError(f"has a number of {len(digits):,} digits{where}, which is more than can be read")


# --- YAML -------------------------------------------------------------------------------------------------------------


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # libyaml if it is there
    """YAML's values that JSON has too; a date is text."""

    yaml_implicit_resolvers = {  # noqa: RUF012  # as PyYAML declares it
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_yaml_int(self, node: "yaml.ScalarNode") -> int:
        _refuse_many_digits(node.value, _place(node.start_mark))
        number: int = super().construct_yaml_int(node)
        return number


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def _parse_yaml(text: str) -> Any:
    try:
        _refuse_many_values(text)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                raise _UnusableError("is not valid YAML: it is empty")
            _refuse_repeated_in(node)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = shortened(", ".join(filter(None, [error.context, error.problem])))
        raise _UnusableError(f"is not valid YAML: {what}{_place(mark)}") from error
    except yaml.YAMLError as error:
        raise _UnusableError(f"is not valid YAML: {shortened(str(error))}") from error
    except RecursionError as error:
        raise _UnusableError("is nested too deeply: no config has that many levels") from error
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:  # PyYAML checks no scalars
        raise _UnusableError(f"is not valid YAML: a value cannot be read ({shortened(str(error))})") from error


def _place(mark: "yaml.Mark | None") -> str:
    return f" (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else ""


def _refuse_many_values(text: str) -> None:
    """Refuse a file with too many values or aliases, of which each may stand for many others, before it is built."""
    aliases = 0
    for count, event in enumerate(yaml.parse(text, Loader=_Loader)):
        aliases += isinstance(event, yaml.AliasEvent)
        if count > 2 * MAX_VALUES:
            raise _UnusableError(f"holds more than {MAX_VALUES:,} values, which no config does")
        if aliases > _MAX_ALIASES:
            raise _UnusableError(f"has more than {_MAX_ALIASES:,} aliases: write out what they stand for")


def _refuse_repeated_in(node: yaml.Node) -> None:
    seen, waiting = {id(node)}, [node]
    while waiting:
        current = waiting.pop()
        inside = current.value if isinstance(current, yaml.SequenceNode) else []
        if isinstance(current, yaml.MappingNode):
            inside = [part for pair in current.value for part in pair]
            keys = [key.value for key, _ in current.value if isinstance(key, yaml.ScalarNode)]
            _refuse_repeated((key for key in keys if key != "<<"), _place(current.start_mark))
        for part in inside:
            if id(part) not in seen:
                seen.add(id(part))
                waiting.append(part)
