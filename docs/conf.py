"""Configuration of the documentation: `make docs`."""

import importlib.metadata
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import config_reference

project = "coqui-scl-plugin"
version = release = importlib.metadata.version(project)
extensions = ["myst_parser"]
exclude_patterns = ["_build", "encoder_table.md", "freeze_methods_table.md", "ablation/**", "speed/**", "generated/**"]
html_theme = "furo"
html_title = project
html_show_copyright = False
myst_heading_anchors = 3
nitpicky = True

config_reference.write(Path(__file__).parent / "generated" / "config_keys.md")
