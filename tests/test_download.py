"""Files fetched from a small server of our own: whole, broken off and resumed, changed, absent."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from striate.download import cache_folder, download
from striate.errors import DataError

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    cut = 0  # bytes after which the connection breaks off, once
    asked: list[str | None]

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        type(self).asked.append(wanted)
        if self.path != "/weights.bin":
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        stop = Handler.cut or len(CONTENT)
        Handler.cut = 0
        self.wfile.write(CONTENT[start:stop])

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def server() -> Iterator[str]:
    Handler.asked, Handler.cut = [], 0
    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()


def test_a_file_is_fetched_once_and_told(server: str, tmp_path: Path, capsys) -> None:
    target = tmp_path / "deep" / "weights.bin"
    for _ in range(2):
        assert download(f"{server}/weights.bin", target, SHA256[:8], "BSD-3-Clause").read_bytes() == CONTENT
    assert len(Handler.asked) == 1
    assert "licence: BSD-3-Clause" in capsys.readouterr().err
    assert [path.name for path in target.parent.iterdir()] == ["weights.bin"]


def test_a_broken_download_goes_on_where_it_stopped(server: str, tmp_path: Path) -> None:
    target = tmp_path / "weights.bin"
    Handler.cut = 300_000
    with pytest.raises(DataError, match=r"300,000 of 1,024,000 bytes.*put it at"):
        download(f"{server}/weights.bin", target, SHA256)
    assert not target.exists()
    assert download(f"{server}/weights.bin", target, SHA256).read_bytes() == CONTENT
    assert Handler.asked == [None, "bytes=300000-"]


def test_a_whole_part_is_not_fetched_again(server: str, tmp_path: Path) -> None:
    (tmp_path / "weights.bin.part").write_bytes(CONTENT)
    assert download(f"{server}/weights.bin", tmp_path / "weights.bin", SHA256).read_bytes() == CONTENT


def test_other_content_is_refused_and_removed(server: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not 00000000"):
        download(f"{server}/weights.bin", tmp_path / "weights.bin", "00000000")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["/absent.bin", None])
def test_what_is_not_there_says_where_to_put_it(server: str, tmp_path: Path, path: str | None) -> None:
    url = f"{server}{path}" if path else "http://127.0.0.1:9/weights.bin"
    with pytest.raises(DataError, match=f"could not be fetched.*put it at {tmp_path / 'weights.bin'}"):
        download(url, tmp_path / "weights.bin")


def test_the_cache_is_where_the_user_says(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
