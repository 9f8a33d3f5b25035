import hashlib
import http.server
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import hub_encoder_files
import pytest
from trainer.io import get_user_data_dir

from coqui_scl_plugin import build_encoder
from coqui_scl_plugin.encoders.loading.files import download_folder, fetch
from coqui_scl_plugin.errors import EncoderError
from coqui_scl_plugin.plugins import registry

CONTENT = bytes(range(256)) * 1000
WRONG = 64 * "0"


class Handler(http.server.BaseHTTPRequestHandler):
    """Counts requests by method and path; `/cut` ends in the middle until `server.whole`, `/stalls` hangs there."""

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, *, with_body: bool) -> None:
        name = self.path.partition("?")[0]
        self.server.requests[self.command, name] += 1
        if name in ("/404.pt", "/500.pt"):
            self.send_error(int(name[1:4]))
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        if with_body:
            part = self.server.whole or name not in ("/cut.pt", "/stalls.pt")
            self.wfile.write(CONTENT if part else CONTENT[:1000])
            if name == "/stalls.pt" and not part:
                self.wfile.flush()
                self.server.stalled.set()
                self.server.released.wait(30)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[http.server.ThreadingHTTPServer]:
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.requests, served.whole = Counter(), False
    served.stalled, served.released = threading.Event(), threading.Event()
    served.url = f"http://127.0.0.1:{served.server_port}"
    thread = threading.Thread(target=served.serve_forever, args=(0.02,))
    thread.start()
    yield served
    served.released.set()
    served.shutdown()
    served.server_close()
    thread.join()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TTS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.fixture(
    params=["ge2e", "ge2e as it was fetched", "dvector", "campplus", "coqui", "speechbrain-ecapa", "torchscript"]
)
def checked(request, coqui_files, tmp_path) -> tuple[str, dict[str, str], Path]:
    """An encoder's name, its params, and the file that `sha256` is about."""
    name = request.param
    if name == "coqui":
        return name, coqui_files["resnet"].params(), coqui_files["resnet"].model_path
    if name.startswith(("ge2e", "dvector", "campplus")):
        encoder, _, fetched = name.partition(" ")
        file = registry.installed().get("encoders", encoder, "name").packaged_weights.load().path
        return encoder, {} if fetched else {"model_path": str(file)}, file
    params = hub_encoder_files.params(name, tmp_path)
    file = Path(params.get("model_path", tmp_path / "embedding_model.ckpt"))
    return name.partition("-")[0], params, file


def test_the_right_sha256_is_accepted_and_recorded(checked):
    name, params, file = checked
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert build_encoder(name, params | {"sha256": digest}).sha256 == digest
    assert build_encoder(name, params | {"sha256": digest.upper()}).sha256 == digest
    assert build_encoder(name, params).sha256 == digest


def test_a_wrong_sha256_is_refused_with_both(checked):
    name, params, file = checked
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    with pytest.raises(EncoderError) as caught:
        build_encoder(name, params | {"sha256": WRONG})
    assert all(part in str(caught.value) for part in (digest, WRONG, str(file)))


def test_a_url_is_fetched_once(server, cache):
    url = f"{server.url}/models/encoder.pt?download=1"
    first = fetch(url)
    assert first.path.read_bytes() == CONTENT
    assert first.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert first.path.name == "encoder.pt"
    assert first.path.is_relative_to(cache)
    requests = dict(server.requests)
    assert requests["GET", "/models/encoder.pt"] == 1
    assert fetch(url, first.sha256) == first
    assert dict(server.requests) == requests


@pytest.mark.parametrize(
    "variables",
    [
        {}, {"XDG_DATA_HOME": "xdg"}, {"TTS_HOME": "tts"}, {"TTS_HOME": "tts", "XDG_DATA_HOME": "xdg"},
        {"TTS_HOME": "~/tts"}, {"XDG_DATA_HOME": "~/xdg"}, {"TTS_HOME": "", "XDG_DATA_HOME": "xdg"},
        {"XDG_DATA_HOME": ""},
    ],
    ids=str,
)  # fmt: skip
def test_files_are_kept_where_coqui_keeps_its_own(variables, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("TTS_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
        if name in variables:
            monkeypatch.setenv(name, variables[name])
    assert download_folder() == get_user_data_dir("tts_cache")
    assert download_folder().is_relative_to(tmp_path)


def test_urls_that_end_alike_are_kept_apart(server, cache):
    paths = {fetch(f"{server.url}/{owner}/encoder.pt").path for owner in ("a", "b")}
    assert len(paths) == 2


def test_an_encoder_is_built_from_a_url(server, cache, tmp_path, monkeypatch):
    file = hub_encoder_files.write_torchscript(tmp_path)
    monkeypatch.setitem(globals(), "CONTENT", file.read_bytes())
    encoder = build_encoder("torchscript", {"model_path": f"{server.url}/encoder.pt"})
    assert encoder.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_file_url_is_fetched(cache, tmp_path):
    source = tmp_path / "encoder.pt"
    source.write_bytes(CONTENT)
    assert fetch(source.as_uri()).path.read_bytes() == CONTENT
    with pytest.raises(EncoderError, match=r"file:///no/such/file\.pt cannot be fetched"):
        fetch("file:///no/such/file.pt")


def test_a_url_with_another_sha256_says_where_the_file_lies(server, cache):
    with pytest.raises(EncoderError) as caught:
        fetch(f"{server.url}/encoder.pt", WRONG)
    (kept,) = files_in(cache)
    assert all(part in str(caught.value) for part in (WRONG, f"{server.url}/encoder.pt", str(kept)))


@pytest.mark.parametrize("name", ["404.pt", "500.pt", "cut.pt"])
def test_a_url_that_fails_is_named_and_leaves_nothing(name, server, cache):
    with pytest.raises(EncoderError, match=f"{server.url}/{name} cannot be fetched"):
        fetch(f"{server.url}/{name}")
    assert files_in(cache) == []


def test_a_closed_port_is_named(server, cache):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(EncoderError, match=f"http://127.0.0.1:{port}/encoder.pt cannot be fetched"):
        fetch(f"http://127.0.0.1:{port}/encoder.pt")


def test_an_unknown_protocol_is_named(cache):
    with pytest.raises(EncoderError, match=r"gopher://somewhere/encoder\.pt cannot be fetched.*gopher"):
        fetch("gopher://somewhere/encoder.pt")


def test_what_was_cut_is_fetched_again(server, cache):
    url = f"{server.url}/cut.pt"
    with pytest.raises(EncoderError):
        fetch(url)
    server.whole = True
    assert fetch(url).path.read_bytes() == CONTENT


def test_a_process_killed_while_fetching_leaves_nothing_that_is_taken_for_the_file(server, cache):
    url = f"{server.url}/stalls.pt"
    code = "import sys; from coqui_scl_plugin.encoders.loading.files import fetch; fetch(sys.argv[1])"
    with subprocess.Popen([sys.executable, "-c", code, url], stderr=subprocess.DEVNULL) as process:
        assert server.stalled.wait(60)
        process.kill()
    server.whole = True
    server.released.set()
    assert fetch(url).path.read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["speechbrain", "transformers"])
def test_a_folder_that_is_none_is_named(name, hub_cache, tmp_path):
    for missing in (str(tmp_path / "missing"), "someone/no-such-encoder"):
        with pytest.raises(EncoderError, match=missing):
            build_encoder(name, {"source": missing})
