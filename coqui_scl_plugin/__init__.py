"""Speaker consistency losses and an explicit freeze policy for Coqui TTS's VITS trainer.

Importing this package makes `"model": "scl_vits"` resolve in Coqui's own functions. It does not import torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from coqui_scl_plugin.coqui import import_hook

if TYPE_CHECKING:
    from coqui_scl_plugin.api import available, build_encoder, build_loss
    from coqui_scl_plugin.config import SclConfig
    from coqui_scl_plugin.coqui.vits import SclVits
    from coqui_scl_plugin.coqui.vits_config import SclVitsConfig
    from coqui_scl_plugin.plugins.hookspecs import hookimpl

__all__ = ["SclConfig", "SclVits", "SclVitsConfig", "available", "build_encoder", "build_loss", "hookimpl"]
__version__ = "0.1.0"

_PUBLIC_MODULES = {
    "SclConfig": "config",
    "SclVits": "coqui.vits",
    "SclVitsConfig": "coqui.vits_config",
    "available": "api",
    "build_encoder": "api",
    "build_loss": "api",
    "hookimpl": "plugins.hookspecs",
}

import_hook.install()


def __getattr__(name: str) -> Any:
    """Import a public name on first access, so that `import coqui_scl_plugin` stays fast."""
    if name not in _PUBLIC_MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PUBLIC_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
