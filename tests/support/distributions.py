"""Installed distributions of third parties."""

from pathlib import Path

from coqui_scl_plugin.plugins.hookspecs import GROUP


def install(site: Path, name: str, code: str, *, version: str = "1.0", entry_point: str = "plugin") -> None:
    """Put a distribution into the folder `site`, as pip would, whose entry point is a module with this code."""
    module = name.replace("-", "_")
    info = site / f"{module}-{version}.dist-info"
    info.mkdir(parents=True)
    (site / f"{module}.py").write_text(code)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{entry_point} = {module}\n")
