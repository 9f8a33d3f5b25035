"""The import finder that makes Coqui find this package's model and config, without a change to Coqui.

For `"model": NAME`, Coqui imports `TTS.tts.models.NAME` and `TTS.tts.configs.NAME_config`. For `scl_vits`, the finder
provides modules with this package's classes.
"""

import importlib
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.abc import Loader as _Base
else:
    _Base = object

_CLASSES = {
    "TTS.tts.models.scl_vits": ("coqui_scl_plugin.coqui.vits", "SclVits"),
    "TTS.tts.configs.scl_vits_config": ("coqui_scl_plugin.coqui.vits_config", "SclVitsConfig"),
}


class _SclVitsFinder(_Base):
    """A finder and a loader by what it has: their base classes bring imports that would slow each start of Python."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """Leave the making of a module to Python."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in _CLASSES:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, origin=_CLASSES[fullname][0])

    def exec_module(self, module: ModuleType) -> None:
        source, name = _CLASSES[module.__name__]
        setattr(module, name, getattr(importlib.import_module(source), name))


def install() -> None:
    """Make `"model": "scl_vits"` resolve in Coqui, unless it already does."""
    if not any(isinstance(finder, _SclVitsFinder) for finder in sys.meta_path):
        sys.meta_path.append(_SclVitsFinder())
