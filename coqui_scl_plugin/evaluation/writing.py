"""Files of an evaluation: `results.json`, `trials.csv` and `report.html`."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coqui_scl_plugin.evaluation import report
from coqui_scl_plugin.evaluation.results import as_text, evaluations_of
from coqui_scl_plugin.utils.atomic import replacing


def write_results(folder: Path, results: Mapping[str, Any]) -> None:
    """Write all three files, each whole or not at all, creating the folder if needed."""
    with replacing(folder / "results.json") as temporary:
        temporary.write_text(as_text(results), encoding="utf-8")
    with replacing(folder / "trials.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        for number, (label, evaluation) in enumerate(evaluations_of(results).items()):
            if number == 0:
                writer.writerow(["evaluation", *evaluation["trials"]["columns"]])
            writer.writerows([label, *row] for row in evaluation["trials"]["rows"])
    report.write(folder, results)
