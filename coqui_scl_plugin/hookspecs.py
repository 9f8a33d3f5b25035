"""The public address of the hook specifications, which stand in `plugins/hookspecs.py`."""

from coqui_scl_plugin.plugins.hookspecs import (
    GROUP,
    hookimpl,
    hookspec,
    scl_encoders,
    scl_freeze_policies,
    scl_losses,
)

__all__ = ["GROUP", "hookimpl", "hookspec", "scl_encoders", "scl_freeze_policies", "scl_losses"]
