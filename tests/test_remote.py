"""URLs: limits and refusals, against servers on this machine."""

from __future__ import annotations

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from striate import remote
from striate.errors import ImageError
from striate.remote import fetch, is_public


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args):
        pass

    def do_GET(self):
        name = self.path.split("?")[0]
        if name.startswith("/hop"):
            left = int(name[4:])
            self.answer(302, b"", Location=f"/hop{left - 1}" if left else "/picture")
        elif name == "/to-file":
            self.answer(302, b"", Location="file:///etc/passwd")
        elif name == "/gone":
            self.answer(404, b"no")
        elif name == "/packed":
            self.answer(200, b"x", **{"Content-Encoding": "gzip"})
        elif name == "/short":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b"only this")
            self.close_connection = True
        elif name == "/endless":
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            while True:
                self.wfile.write(bytes(65536))
        elif name == "/drip":  # a header byte now and then: no single read ever times out
            while True:
                self.wfile.write(b"H")
                time.sleep(0.05)
        else:
            self.answer(200, b"pixels of " + self.path.encode())

    def answer(self, code, body, **headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # a client that hangs up is what is tested


@pytest.fixture(scope="module")
def server():
    with Server(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_fetches_follows_and_quotes(server):
    assert fetch(f"{server}/picture", allow_private=True) == b"pixels of /picture"
    assert fetch(f"{server}/hop4", allow_private=True) == b"pixels of /picture"
    assert (
        fetch(f"{server}/a photo ä.jpg?size=1 2", allow_private=True) == b"pixels of /a%20photo%20%C3%A4.jpg?size=1%202"
    )


@pytest.mark.parametrize(
    ("path", "options", "said"),
    [
        ("/hop6", {}, "more than 5 redirects"),
        ("/to-file", {}, "only http and https"),
        ("/gone", {}, "404"),
        ("/packed", {}, "compressed"),
        ("/short", {}, "ended after 9 of 100 bytes"),
        ("/endless", {"max_bytes": 1_000_000}, "more than 1,000,000 bytes"),
        ("/picture", {"max_bytes": 5}, "more than 5 bytes"),
        ("/drip", {"timeout": 0.5}, "not fetched within 0.5 s"),
    ],
)
def test_what_goes_wrong_is_named(server, path, options, said):
    with pytest.raises(ImageError, match=said) as error:
        fetch(server + path, allow_private=True, **options)
    assert str(error.value).startswith(f"{server}{path}: ")


def test_loopback_is_refused_without_being_connected_to(server, monkeypatch):
    monkeypatch.setattr(socket, "create_connection", lambda *a, **k: pytest.fail("connected"))
    port = server.rpartition(":")[2]
    for host in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433", "0x7f.1", "127.1"):
        with pytest.raises(ImageError, match=r"private or reserved|no address"):
            fetch(f"http://{host}:{port}/picture")


def test_a_redirect_to_a_private_address_is_refused(server, monkeypatch):
    checked = []

    def only_the_first(address: str) -> bool:
        checked.append(address)
        return len(checked) == 1

    monkeypatch.setattr(remote, "is_public", only_the_first)
    with pytest.raises(ImageError, match="private or reserved"):
        fetch(f"{server}/hop1")
    assert len(checked) == 2


def test_connects_to_the_address_that_was_checked(server, monkeypatch):
    """A name server that answers differently the second time is never asked a second time."""
    port = int(server.rpartition(":")[2])
    asked = []

    def resolve(host, port, **options):
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.215.14", port))]

    reached = []

    def connect(address, timeout):
        reached.append(address)
        plain = socket.socket()
        plain.settimeout(timeout)
        plain.connect(("127.0.0.1", port))
        return plain

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_connection", connect)
    assert fetch(f"http://photos.example:{port}/picture") == b"pixels of /picture"
    assert asked == ["photos.example"]
    assert reached == [("93.184.215.14", port)]


def test_one_private_address_among_public_ones_is_enough_to_refuse(monkeypatch):
    answers = [(socket.AF_INET, 1, 6, "", (ip, 80)) for ip in ("93.184.215.14", "10.0.0.7")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: answers)
    monkeypatch.setattr(socket, "create_connection", lambda *a, **k: pytest.fail("connected"))
    with pytest.raises(ImageError, match=r"10\.0\.0\.7"):
        fetch("http://photos.example/a.jpg")


@pytest.mark.parametrize(
    "url", ["ftp://a.b/c", "file:///etc/passwd", "http://", "http://u:p@a.b/c", "http://a.b:99999/"]
)
def test_other_urls_are_refused(url):
    with pytest.raises(ImageError) as error:
        fetch(url)
    assert str(error.value).startswith(f"{url}: ")


def test_public_addresses():
    private = [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
        *("0.0.0.0", "255.255.255.255", "224.0.0.1", "240.0.0.1", "198.18.0.1", "192.0.2.1"),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fec0::1"),
        *("ff02::1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:db8::1"),
    ]
    assert [address for address in private if is_public(address)] == []
    assert is_public("93.184.215.14")
    assert is_public("2606:4700::1111")
    assert is_public("::ffff:93.184.215.14")
