"""Build wheel and sdist into a folder, the same to the byte for the same commit: `build_distributions.py OUT`.

The wheel takes its times from SOURCE_DATE_EPOCH. setuptools does not do so for an sdist, so that one is packed again.
"""

import gzip
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

_ROOT = Path(__file__).parents[1]


def date_of_commit() -> int:
    """Return SOURCE_DATE_EPOCH, and by default the time of the last commit."""
    command = ["git", "-C", str(_ROOT), "log", "-1", "--format=%ct"]
    return int(os.environ.get("SOURCE_DATE_EPOCH") or subprocess.check_output(command))  # noqa: S603  # git


def pack_again(sdist: Path, date: int) -> None:
    """Give all members of a `.tar.gz` one date, one owner and a fixed order."""
    packed = io.BytesIO()
    with (
        tarfile.open(sdist) as found,
        gzip.GzipFile("", "wb", fileobj=packed, mtime=date) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as made,
    ):
        for member in sorted(found.getmembers(), key=lambda member: member.name):
            same = tarfile.TarInfo(member.name)
            same.type, same.size, same.mtime = member.type, member.size, date
            same.mode = 0o755 if member.isdir() else 0o644
            made.addfile(same, found.extractfile(member) if member.isfile() else None)
    sdist.write_bytes(packed.getvalue())


def main() -> None:
    """Build both."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    out, date = Path(sys.argv[1]), date_of_commit()
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(_ROOT)]
    subprocess.run(command, check=True, env={**os.environ, "SOURCE_DATE_EPOCH": str(date)})  # noqa: S603  # build
    for sdist in out.glob("*.tar.gz"):
        pack_again(sdist, date)


if __name__ == "__main__":
    main()
