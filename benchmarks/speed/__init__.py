"""What the loss costs on the paths that a user runs, each figure a ratio of two things timed by turns in one run.

`python -m benchmarks.speed -h`. The figures are in `benchmarks/results.json`, and the page made from it is
`docs/speed.md`.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "tests" / "support"))
