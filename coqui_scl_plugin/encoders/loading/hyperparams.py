"""SpeechBrain's `hyperparams.yaml`, read without running what it says.

The file is HyperPyYAML, whose own loader makes any object and calls any function that a tag names. Here the file is
parsed and checked for such tags first, and a loader that knows only modules then builds the entries that are needed.
"""

import functools
import importlib
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from hyperpyyaml import resolve_references
from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode
from torch import nn

from coqui_scl_plugin.encoders.loading.files import UNREADABLE
from coqui_scl_plugin.errors import EncoderError

_YAML = "tag:yaml.org,2002:"
_YAML_TAGS = {_YAML + kind for kind in ("null", "bool", "int", "float", "str", "seq", "map")}
_INERT_TAGS = _YAML_TAGS | {"!ref", "!copy", "!tuple"}
_BUILDABLE_MODULES = {
    "speechbrain.lobes.features",
    "speechbrain.lobes.models.ECAPA_TDNN",
    "speechbrain.lobes.models.ResNet",
    "speechbrain.lobes.models.Xvector",
    "speechbrain.processing.features",
    "torch.nn",
}
_SKIPPED_CLASSES = {"speechbrain.dataio.encoder.CategoricalEncoder", "speechbrain.utils.parameter_transfer.Pretrainer"}


def read_hyperparams(path: Path, wanted: Collection[str]) -> dict[str, Any]:
    """Read the `wanted` keys of a `hyperparams.yaml` with references resolved; no other entry is built.

    Raises:
        EncoderError: the file is not such YAML, or any tag in it could run code; the message names the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        _check(YAML().compose(text), path)  # the parser of `resolve_references`, which would run !applyref
        loader = _loader()
        root = loader.compose(resolve_references(text).getvalue())
        _check(root, path)
        if not isinstance(root, MappingNode):
            raise EncoderError(f"{path} is not a SpeechBrain hyperparams.yaml: it holds no keys and values.")
        values = {key.value: value for key, value in root.value if key.value in wanted}
        return {key: loader.constructor.construct_object(value, deep=True) for key, value in values.items()}
    except EncoderError:
        raise
    except (YAMLError, AssertionError, *UNREADABLE) as error:  # SpeechBrain's constructors assert
        reason = f"{type(error).__name__}: {error}"
        msg = f"{path} is not a readable hyperparams.yaml of a SpeechBrain speaker encoder: {reason}"
        raise EncoderError(msg) from error


def _check(root: Node | None, path: Path) -> None:
    for node in _nodes(root):
        kind, _, name = str(node.tag).partition(":")
        if str(node.tag) in _INERT_TAGS or (kind in ("!new", "!name") and (name in _SKIPPED_CLASSES or _module(name))):
            continue
        msg = (
            f"{path}, line {node.start_mark.line + 1}: the tag {node.tag} is refused, since it could run code. "
            "Allowed are plain YAML, !ref, !copy, !tuple, and !new or !name with a class of SpeechBrain's features and "
            "speaker encoders or of torch.nn. Use a folder as SpeechBrain publishes it, or remove that entry."
        )
        raise EncoderError(msg)


def _nodes(root: Node | None) -> Iterator[Node]:
    """Yield every node once, keys included; an alias may lead back to a node that contains it."""
    waiting, seen = [root], set[int]()
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, CollectionNode):
            pairs = node.value if isinstance(node, MappingNode) else [node.value]
            waiting += [child for pair in pairs for child in pair]


def _module(name: str) -> type[nn.Module] | None:
    """Return the module class of this dotted name, or None if a configuration may not build it."""
    owner, _, attribute = name.rpartition(".")
    found = getattr(importlib.import_module(owner), attribute, None) if owner in _BUILDABLE_MODULES else None
    return found if isinstance(found, type) and issubclass(found, nn.Module) else None


def _loader() -> YAML:
    loader = YAML(typ="safe", pure=True)
    loader.Constructor = _Constructor
    return loader


class _Constructor(SafeConstructor):
    """A constructor of plain YAML and of the HyperPyYAML tags that remain once references are resolved."""

    def new(self, name: str, node: Node) -> nn.Module:
        arguments, named = self._arguments(node)
        return self._class(name)(*arguments, **named)

    def name(self, name: str, node: Node) -> Any:
        arguments, named = self._arguments(node)
        cls = self._class(name)
        return functools.partial(cls, *arguments, **named) if arguments or named else cls

    def text(self, node: ScalarNode) -> Any:
        # HyperPyYAML reads an unquoted (1, 2) as a tuple
        if node.tag == "!tuple" or (node.style is None and re.fullmatch(r"\(.*\)", node.value)):
            return tuple(YAML(typ="safe", pure=True).load(f"[{node.value[1:-1]}]"))
        return node.value

    def _class(self, name: str) -> type[nn.Module]:
        cls = _module(name)
        if cls is None:
            raise ValueError(f"{name} is not a module that may be built here")
        return cls

    def _arguments(self, node: Node) -> tuple[list[Any], dict[str, Any]]:
        if isinstance(node, MappingNode):
            return [], self.construct_mapping(node, deep=True)
        return ([] if isinstance(node, ScalarNode) else self.construct_sequence(node, deep=True)), {}


_Constructor.add_multi_constructor("!new:", _Constructor.new)
_Constructor.add_multi_constructor("!name:", _Constructor.name)
for _tag in ("!tuple", _YAML + "str"):
    _Constructor.add_constructor(_tag, _Constructor.text)
