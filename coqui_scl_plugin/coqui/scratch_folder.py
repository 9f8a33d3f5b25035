"""The folder that Coqui's trainer makes in each of several processes: the run folder in the main one alone."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from coqui_scl_plugin.utils import processes


@contextlib.contextmanager
def own_folder(args: Any, output_path: str) -> Iterator[str]:
    """Within the block, a trainer may be made; yield the folder in which it makes the run folder.

    The trainers of other processes than the main one write into a scratch folder, which is removed behind the block. If
    they continue a run, they find its config and links to its checkpoints there.

    Args:
        args: The trainer's arguments. Afterwards, their paths are those of the checkpoints themselves.
        output_path: The folder of the main process.
    """
    if processes.rank() == 0:
        yield output_path
        return
    with tempfile.TemporaryDirectory(prefix="scl-process-") as scratch:
        if args.continue_path:
            args.continue_path = _linked(Path(args.continue_path), Path(scratch))
        yield scratch
        for name in ("restore_path", "best_path"):
            path = getattr(args, name)
            setattr(args, name, str(Path(path).resolve()) if path.startswith(scratch) else path)


def _linked(run: Path, scratch: Path) -> str:
    """Link to what the trainer reads of a run that it continues."""
    folder = scratch / run.resolve().name
    folder.mkdir()
    (folder / "config.json").write_bytes((run / "config.json").read_bytes())
    for checkpoint in run.glob("*.pth"):
        (folder / checkpoint.name).symlink_to(checkpoint.resolve())
    return str(folder)
