"""Configuration of the documentation: `make docs`."""

import importlib.metadata

project = "coqui-scl-plugin"
version = release = importlib.metadata.version(project)
extensions = ["myst_parser"]
exclude_patterns = ["_build", "encoder_table.md", "freeze_methods_table.md", "ablation/**", "speed/**"]
html_theme = "furo"
html_title = project
html_show_copyright = False
myst_heading_anchors = 3
nitpicky = True
