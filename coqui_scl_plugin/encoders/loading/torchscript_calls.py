"""What a TorchScript file would call, found without running any of it.

TorchScript is a program, and part of it runs at loading. Its language reaches the disk through a few functions; a file
that names one of them, or functions of other libraries, is refused. This keeps out what has no business in a speaker
encoder, but does not make a stranger's file safe: give `sha256`, and load what you trust.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import torch

from coqui_scl_plugin.errors import EncoderError

_REFUSED = {"save", "from_file", "rpc_async", "rpc_remote", "rpc_sync"}
_LIBRARIES = {"aten", "prim", "torchaudio"}
_NATIVE_OBJECTS = "torch.classes"  # objects of C++ classes, which may do anything when they are restored


def checked_calls(path: Path) -> set[str]:
    """The last parts of all names in the code of the TorchScript file at `path`, such as `conv1d`.

    Raises:
        EncoderError: the code names something that touches files or other processes, or cannot be understood.
        RuntimeError: the file is no archive of PyTorch's.
    """
    archive = torch._C.PyTorchFileReader(str(path))  # the reader of torch.jit.load: it finds what that will find
    names: set[str] = set()
    for record in archive.get_all_records():
        kind = record.lower()  # which that reader does not tell apart
        if kind.endswith("model.json"):
            raise _refusal(path, record, "the format of PyTorch 1.0")
        if kind.endswith(".pkl") and _NATIVE_OBJECTS.encode() in archive.get_record(record):
            raise _refusal(path, record, _NATIVE_OBJECTS)
        if kind.endswith(".py"):
            for parts in _dotted_names(archive.get_record(record), f"{path}, {record}"):
                if refused := _refused(parts):
                    raise _refusal(path, record, refused)
                names.add(parts[-1])
    return names


def _refusal(path: Path, record: str, name: str) -> EncoderError:
    msg = (
        f"{path} holds a program that uses {name} (in its {record}), which no speaker encoder needs: it could write "
        f"files or run other code. It was not loaded. Allowed are the functions of torch other than "
        f"{', '.join(sorted(_REFUSED))}, and of ops.{', ops.'.join(sorted(_LIBRARIES))}."
    )
    return EncoderError(msg)


def _refused(parts: list[str]) -> str | None:
    """What is wrong with a dotted name: `["torch", "save"]` for `torch.save`."""
    dotted = ".".join(parts)
    elsewhere = parts[0] == "ops" and (len(parts) == 1 or parts[1] not in _LIBRARIES)
    native = _NATIVE_OBJECTS in dotted or dotted.endswith(".torch")  # the latter under another name first
    return dotted if elsewhere or native or not _REFUSED.isdisjoint(parts) else None


def _dotted_names(code: bytes, where: str) -> Iterator[list[str]]:
    """Every whole dotted name in the code, which is valid Python; `getattr(a, "b")` counts as `a.b`."""
    try:
        tree = ast.parse(code.decode())
        inner = {id(_owner(node)) for node in ast.walk(tree)}
        for node in ast.walk(tree):
            if id(node) not in inner and (parts := _parts(node)):
                yield parts
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        msg = f"{where}: this code cannot be understood, so it was not loaded: {type(error).__name__}: {error}"
        raise EncoderError(msg) from error


def _attribute(node: ast.AST) -> str | None:
    """The `b` of `a.b`, and of `getattr(a, "b")`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr":
        if len(node.args) != 2 or not isinstance(node.args[1], ast.Constant):
            raise ValueError(f"a getattr in line {node.lineno} does not say of what")
        return str(node.args[1].value)
    return None


def _owner(node: ast.AST) -> ast.AST | None:
    """The `a` of `a.b`, and of `getattr(a, "b")`."""
    if isinstance(node, ast.Attribute):
        return node.value
    return node.args[0] if isinstance(node, ast.Call) and _attribute(node) is not None else None


def _parts(node: ast.AST | None) -> list[str]:
    if isinstance(node, ast.Name):
        return [node.id]
    if node is None or (attribute := _attribute(node)) is None:
        return []
    return [*_parts(_owner(node)), attribute]
