"""Pictures from the web, only when the user names a URL: with limits, and never from inside the user's network."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from urllib.parse import quote, urljoin, urlsplit

from striate.errors import ImageError

MAX_BYTES = 64 * 2**20
TIMEOUT = 30.0  # seconds for everything: connecting, redirects, the last byte
MAX_REDIRECTS = 5
_CHUNK = 64 * 1024


class _Refused(Exception):
    """Why this URL is not fetched, without the URL."""


def fetch(url: str, *, max_bytes: int = MAX_BYTES, timeout: float = TIMEOUT, allow_private: bool = False) -> bytes:
    """The body of a web page or picture.

    The host's addresses are checked and the connection goes to a checked one, so that a name that resolves anew
    between check and use (DNS rebinding) gains nothing; the same again at each redirect. Proxies are not used.

    Args:
        url: http or https.
        max_bytes: of the body.
        timeout: seconds for the whole, redirects included (a slow name server comes on top).
        allow_private: also take private and loopback addresses; for tests.

    Raises:
        ImageError: refused, not reachable, too large, too slow or not there; the message begins with the URL.
    """
    deadline = time.monotonic() + timeout
    place = url
    try:
        for _ in range(MAX_REDIRECTS + 1):
            body, redirect = _get(place, max_bytes, deadline, allow_private)
            if redirect is None:
                return body
            if urlsplit(place).scheme.lower() == "https" and urlsplit(redirect).scheme.lower() == "http":
                raise _Refused(f"leads from https to http ({redirect}); name that URL if you trust it")
            place = redirect
        raise _Refused(f"more than {MAX_REDIRECTS} redirects; name the URL where they end")
    except _Refused as reason:
        raise ImageError(f"{url}: {reason}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        if time.monotonic() >= deadline:
            raise ImageError(f"{url}: not fetched within {timeout:g} s; try again, or save the file first") from None
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{url}: could not be fetched ({reason}); check the URL and the connection") from None


def _get(url: str, max_bytes: int, deadline: float, allow_private: bool) -> tuple[bytes, str | None]:
    """One request: the body, or where it redirects to."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    if scheme not in ("http", "https"):
        raise _Refused(f'"{scheme}" is not fetched; only http and https are')
    if not parts.hostname:
        raise _Refused("has no host name")
    if parts.username is not None:
        raise _Refused("holds a user name or password, which are not sent; save the file first")
    host = parts.hostname
    port = parts.port or (443 if scheme == "https" else 80)
    sock = _connect(host, port, deadline, allow_private)
    try:
        if scheme == "https":
            context = ssl.create_default_context()
            sock = context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
        # each read has a time-out of its own, which a server that drips a byte a second never meets: cut the line
        cut = threading.Timer(_left(deadline), _shut, [sock])
        cut.daemon = True
        cut.start()
        try:
            if isinstance(sock, ssl.SSLSocket):
                sock.do_handshake()
            connection = (http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection)(host, port)
            connection.sock = sock
            return _exchange(connection, url, max_bytes, deadline)
        finally:
            cut.cancel()
    finally:
        sock.close()


def _exchange(
    connection: http.client.HTTPConnection, url: str, max_bytes: int, deadline: float
) -> tuple[bytes, str | None]:
    parts = urlsplit(url)
    target = quote(parts.path or "/", safe="/%:=&~+!$,;'@()*") + (
        "?" + quote(parts.query, safe="/%:=&?~+!$,;'@()*[]") if parts.query else ""
    )
    headers = {"User-Agent": "striate", "Accept": "image/*, */*;q=0.5", "Accept-Encoding": "identity"}
    connection.request("GET", target, headers=headers)
    with connection.getresponse() as response:
        location = response.getheader("Location")
        if response.status in (301, 302, 303, 307, 308) and location:
            return b"", urljoin(url, location)
        if response.status != 200:
            raise _Refused(f"the server answered {response.status} {response.reason}; check the URL")
        if response.getheader("Content-Encoding", "identity").lower() != "identity":
            raise _Refused("the server sends it compressed, though asked not to; save the file first")
        length = response.length  # None when the server does not say
        body = bytearray()
        while (length or 0) <= max_bytes and len(body) <= max_bytes and (chunk := response.read1(_CHUNK)):
            body += chunk
            _left(deadline)
        if (length or 0) > max_bytes or len(body) > max_bytes:
            raise _Refused(f"more than {max_bytes:,} bytes; save the file first, if it is what you want")
        _left(deadline)
        if length is not None and len(body) < length:
            raise _Refused(f"ended after {len(body):,} of {length:,} bytes; try again")
        return bytes(body), None


def _connect(host: str, port: int, deadline: float, allow_private: bool) -> socket.socket:
    """A connection to the first address of the host that answers, all of which must be public."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise _Refused(f'no address for "{host}"; check the URL and the connection') from None
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        if not allow_private and not is_public(address):
            raise _Refused(f'"{host}" is {address}, a private or reserved address; save the file first')
    for number, address in enumerate(addresses):
        try:
            return socket.create_connection((address, port), timeout=_left(deadline))
        except OSError:
            if number + 1 == len(addresses):
                raise
    raise _Refused(f'no address for "{host}"')


def is_public(address: str) -> bool:
    """Whether an IP address lies in the public internet; an IPv4 address inside an IPv6 one is judged as well."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo and ip.teredo[1])
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner:
            return is_public(str(inner))
        if ip.is_site_local:
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified or ip.is_loopback)


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052


def _left(deadline: float) -> float:
    """Seconds left; raises when there are none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("time is up")
    return left


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # not SSLSocket's, which another thread may be inside of
