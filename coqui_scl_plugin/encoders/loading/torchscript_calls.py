"""List the functions that a TorchScript file would call, without running any of it.

TorchScript is a program, and part of it runs while it is loaded. Its language reaches the disk through a few functions;
a file that names one of them, or functions of other libraries, is refused. This keeps out calls that no speaker encoder
needs, but does not make a stranger's file safe: set `sha256`, and load only files that you trust.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import torch

from coqui_scl_plugin.errors import EncoderError

_REFUSED_NAMES = {"save", "from_file", "rpc_async", "rpc_remote", "rpc_sync"}
_ALLOWED_LIBRARIES = {"aten", "prim", "torchaudio"}
_NATIVE_CLASSES = "torch.classes"  # C++ classes, whose objects may do anything when they are restored


def checked_calls(path: Path) -> set[str]:
    """Collect the last parts of all names in the code of the TorchScript file at `path`, such as `conv1d`.

    Raises:
        EncoderError: the code names something that touches files or other processes, or cannot be parsed.
        RuntimeError: the file is not a PyTorch archive.
    """
    archive = torch._C.PyTorchFileReader(str(path))  # as torch.jit.load uses it, so both find the same records
    names: set[str] = set()
    for record in archive.get_all_records():
        kind = record.lower()  # that reader ignores case
        if kind.endswith("model.json"):
            raise _refusal(path, record, "the format of PyTorch 1.0")
        if kind.endswith(".pkl") and _NATIVE_CLASSES.encode() in archive.get_record(record):
            raise _refusal(path, record, _NATIVE_CLASSES)
        if kind.endswith(".py"):
            for parts in _dotted_names(archive.get_record(record), f"{path}, {record}"):
                if refused := _refused(parts):
                    raise _refusal(path, record, refused)
                names.add(parts[-1])
    return names


def _refusal(path: Path, record: str, name: str) -> EncoderError:
    msg = (
        f"{path} holds a program that uses {name} (in its {record}), which no speaker encoder needs: it could write "
        f"files or run other code. It was not loaded. Allowed are the functions of ops."
        f"{', ops.'.join(sorted(_ALLOWED_LIBRARIES))} and of torch, other than {', '.join(sorted(_REFUSED_NAMES))}."
    )
    return EncoderError(msg)


def _refused(parts: list[str]) -> str | None:
    """Return the refused part of a dotted name such as `["torch", "save"]`, or None if it is allowed."""
    dotted = ".".join(parts)
    elsewhere = parts[0] == "ops" and (len(parts) == 1 or parts[1] not in _ALLOWED_LIBRARIES)
    native = _NATIVE_CLASSES in dotted or dotted.endswith(".torch")  # which the code could give another name first
    return dotted if elsewhere or native or not _REFUSED_NAMES.isdisjoint(parts) else None


def _dotted_names(code: bytes, where: str) -> Iterator[list[str]]:
    """Yield every whole dotted name in the code, which is valid Python; `getattr(a, "b")` counts as `a.b`."""
    try:
        tree = ast.parse(code.decode())
        inner = {id(_owner(node)) for node in ast.walk(tree)}
        for node in ast.walk(tree):
            if id(node) not in inner and (parts := _parts(node)):
                yield parts
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        msg = f"{where}: this code cannot be parsed, so it was not loaded: {type(error).__name__}: {error}"
        raise EncoderError(msg) from error


def _attribute(node: ast.AST) -> str | None:
    """Return the `b` of `a.b` and of `getattr(a, "b")`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr":
        if len(node.args) != 2 or not isinstance(node.args[1], ast.Constant):
            raise ValueError(f"a getattr in line {node.lineno} does not name its attribute")
        return str(node.args[1].value)
    return None


def _owner(node: ast.AST) -> ast.AST | None:
    """Return the `a` of `a.b` and of `getattr(a, "b")`."""
    if isinstance(node, ast.Attribute):
        return node.value
    return node.args[0] if isinstance(node, ast.Call) and _attribute(node) is not None else None


def _parts(node: ast.AST | None) -> list[str]:
    if isinstance(node, ast.Name):
        return [node.id]
    if node is None or (attribute := _attribute(node)) is None:
        return []
    return [*_parts(_owner(node)), attribute]
