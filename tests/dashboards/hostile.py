"""What hostile clients send instead of a handshake, each on a connection of its own, and the HTTP status that answers
it; None: the rest is still waited for, longer than a test has time. After a good handshake: hostile_frames.py.
"""

from __future__ import annotations

import random

from tests.kit.websocket import KEY, request

AWAITED = 408  # the rest of the head never came


def get(*more: str, line: str = "GET / HTTP/1.1") -> bytes:
    """Plain HTTP."""
    return "\r\n".join([line, "Host: a", *more]).encode("latin-1") + b"\r\n\r\n"


def line(request_line: str) -> bytes:
    """A good upgrade but for its first line."""
    return request(line=request_line)


OFFERS = (
    "permessage-deflate",
    "permessage-deflate; client_max_window_bits",
    "permessage-deflate; client_max_window_bits=8; server_max_window_bits=15",
    "permessage-deflate; server_max_window_bits=8",
    "permessage-deflate; server_max_window_bits",
    "permessage-deflate; client_max_window_bits=0",
    "permessage-deflate; client_max_window_bits; client_max_window_bits",
    "permessage-deflate; unknown=1",
    "permessage-deflate; server_no_context_takeover=no, permessage-deflate",
    "permessage-bzip2, permessage-deflate",
    "permessage-deflate;;",
    "",
)
"""Of compression, whether it can be agreed on or not: nobody is refused for one."""

OTHER_PROTOCOLS: dict[str, tuple[bytes, int | None]] = {
    "nothing": (b"", AWAITED),
    "one byte": (b"G", AWAITED),
    "half a head": (request()[:-3], AWAITED),
    "empty lines": (b"\r\n" * 100, AWAITED),
    "2 MB of empty lines": (b"\r\n" * 1_000_000, AWAITED),
    "only carriage returns": (b"\r" * 100, AWAITED),
    "line feeds for line ends": (b"GET / HTTP/1.1\n\n", 400),
    "NUL bytes": (bytes(1000), 400),
    "0xff": (b"\xff" * 5000, AWAITED),
    "every byte": (bytes(range(256)) * 20, 400),
    "random bytes": (b"\x00" + random.Random(1).randbytes(5000), 400),
    "TLS hello": (bytes.fromhex("16030100c8010000c40303") + bytes(200), 400),
    "SSL 2 hello": (bytes.fromhex("802e0100020015000000100100800200800300800400800500800600400700c0"), 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), 400),
    "a frame": (b"\x81\x05hello", 400),
    "MQTT": (b"\x10\x0c\x00\x04MQTT\x05\x02\x00\x3c\x00\x00", 400),
    "SSH": (b"SSH-2.0-OpenSSH_9.6\r\n", AWAITED),
    "mail": (b"EHLO example\r\nMAIL FROM:<a@example>\r\n\r\n", 400),
    "Redis": (b"*1\r\n$4\r\nPING\r\n", AWAITED),
    "PostgreSQL": (bytes.fromhex("0000000804d2162f"), 400),
    "PROXY protocol 1": (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + request(), 400),
    "PROXY protocol 2": (b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes(12), 400),
    "old Flash": (b"<policy-file-request/>\x00", 400),
}

REQUEST_LINES: dict[str, tuple[bytes, int | None]] = {
    "no version": (line("GET /tracking"), 400),
    "only a method": (line("GET"), 400),
    "lower case": (line("get /tracking http/1.1"), 400),
    "HTTP/0.9": (line("GET /tracking HTTP/0.9"), 400),
    "HTTP/1.0": (line("GET /tracking HTTP/1.0"), 400),
    "HTTP/1.2": (line("GET /tracking HTTP/1.2"), 400),
    "HTTP/2.0": (line("GET /tracking HTTP/2.0"), 400),
    "a fourth word": (line("GET /tracking HTTP/1.1 extra"), 400),
    "two blanks": (line("GET  /tracking HTTP/1.1"), 400),
    "a tab": (line("GET\t/tracking HTTP/1.1"), 400),
    "a blank before": (line(" GET /tracking HTTP/1.1"), 400),
    "a long method": (line("G" * 100 + " /tracking HTTP/1.1"), 400),
    "POST": (line("POST /tracking HTTP/1.1"), 400),
    "HEAD": (line("HEAD /tracking HTTP/1.1"), 400),
    "CONNECT": (line("CONNECT /tracking HTTP/1.1"), 400),
    "another path": (request("/other"), 404),
    "another path without a token": (request("/other", Authorization=None), 404),
    "the root": (request("/"), 404),
    "a slash more": (request("/tracking/"), 404),
    "capitals": (request("/TRACKING"), 404),
    "dots": (request("/x/../tracking"), 404),
    "absolute form": (request("http://tracking.example/tracking"), 101),
    "a broken absolute form": (request("http://[broken/tracking"), 404),
    "asterisk form": (request("*"), 404),
    "authority form": (request("tracking.example:80"), 404),
    "non-ASCII path": (request("/tr\xe4cking"), 400),
    "broken percent": (request("/tracking%ff%"), 404),
    "percent NUL": (request("/tracking%00"), 404),
    "an escaped path": (request("/%74racking"), 101),
    "broken query": (request("/tracking?%ff&&&=;token"), 101),
    "10,000 parameters": (request("/tracking?" + "&" * 10_000), 101),
    "200 kB target": (request("/tracking?" + "x" * 200_000), 431),
}

HEADERS: dict[str, tuple[bytes, int | None]] = {
    "no colon": (request("/tracking", "nonsense"), 400),
    "no name": (request("/tracking", ": x"), 400),
    "blank before colon": (request("/tracking", "X : y"), 400),
    "folded": (request("/tracking", "X: a", " b"), 400),
    "NUL in a value": (request(X="\x00"), 400),
    "a bare carriage return": (request(X="a\rb"), 400),
    "a bare line feed": (request(X="a\nb"), 400),
    "non-ASCII name": (request("/tracking", "H\xf6st: a"), 400),
    "non-ASCII value": (request(X="\xff" * 100), 101),
    "non-ASCII host": (request(Host="tr\xe4cking.example"), 101),
    "non-ASCII key": (request(Sec_WebSocket_Key="\xe9" * 24), 400),
    "non-ASCII version": (request(Sec_WebSocket_Version="\xb3"), 426),
    "non-ASCII upgrade": (request(Upgrade="web\xe9socket"), 426),
    "non-ASCII connection": (request(Connection="\xe9, upgrade"), 101),
    "non-ASCII protocol": (request(Sec_WebSocket_Protocol="tr\xe4cking.v1"), 400),
    "non-ASCII extensions": (request(Sec_WebSocket_Extensions="permessage-d\xe9flate"), 101),
    "non-ASCII authorization": (request(Authorization="Bearer \xe9\xe9"), 401),
    "non-ASCII origin": (request(Origin="http://\xe9"), 101),
    "200 kB header": (request(X="x" * 200_000), 431),
    "200 kB of headers": (request("/tracking", *["A: b"] * 30_000), 431),
    "16 kB without an end": (b"GET / HTTP/1.1\r\n" + b"x" * 16_384, 431),
    "no host": (request(Host=None), 400),
    "two hosts": (request("/tracking", "Host: b"), 400),
    "two keys": (request("/tracking", f"Sec-WebSocket-Key: {KEY}"), 400),
    "two versions": (request("/tracking", "Sec-WebSocket-Version: 13"), 400),
    "two origins": (request("/tracking", "Origin: http://a", "Origin: http://b"), 400),
    "two authorizations": (request("/tracking", "Authorization: Bearer x"), 400),
    "two upgrades": (request("/tracking", "Upgrade: websocket"), 101),
    "another upgrade": (request("/tracking", "Upgrade: h2c"), 101),
    "a list of upgrades": (request(Upgrade="h2c, , WebSocket"), 101),
    "no upgrade": (request(Upgrade=None), 426),
    "a plain GET": (get(line="GET /tracking HTTP/1.1"), 426),
    "a wrong upgrade": (request(Upgrade="websocketx"), 426),
    "no connection": (request(Connection=None), 400),
    "a wrong connection": (request(Connection="keep-alive"), 400),
    "no key": (request(Sec_WebSocket_Key=None), 400),
    "a short key": (request(Sec_WebSocket_Key="c2hvcnQ="), 400),
    "a long key": (request(Sec_WebSocket_Key=KEY * 2), 400),
    "a key with blanks": (request(Sec_WebSocket_Key="dGhl IHNhbXBsZSBub25jZQ=="), 400),
    "no version header": (request(Sec_WebSocket_Version=None), 426),
    "version 8": (request(Sec_WebSocket_Version="8"), 426),
    "versions in a list": (request(Sec_WebSocket_Version="13, 8"), 426),
    "an empty version": (request(Sec_WebSocket_Version=""), 426),
    "a body": (request(Content_Length="5") + b"hello", 400),
    "a negative body": (request(Content_Length="-1"), 400),
    "two lengths": (request("/tracking", "Content-Length: 0", "Content-Length: 5"), 400),
    "chunked": (request(Transfer_Encoding="chunked") + b"5\r\nhello\r\n0\r\n\r\n", 400),
    "expect": (request(Expect="100-continue"), 101),
    "a protocol twice": (request(Sec_WebSocket_Protocol="tracking.v1, tracking.v1"), 400),
    "a protocol with a blank": (request(Sec_WebSocket_Protocol="a b"), 400),
    "1,000 protocols": (request(Sec_WebSocket_Protocol=", ".join(f"p{n}" for n in range(1000))), 101),
    "a token protocol alone": (request(Sec_WebSocket_Protocol="bearer.x", Authorization=None), 400),
    "unknown extensions": (request(Sec_WebSocket_Extensions="x-a; b=c, x-d"), 101),
    **{f"an offer: {offer}": (request(Sec_WebSocket_Extensions=offer), 101) for offer in OFFERS},
    "two offers": (
        request("/tracking", "Sec-WebSocket-Extensions: permessage-deflate", Sec_WebSocket_Extensions="x-a"),
        101,
    ),
    "1,000 offers": (request(Sec_WebSocket_Extensions=", ".join(["permessage-deflate; x"] * 600)), 101),
    "1,000 parameters": (request(Sec_WebSocket_Extensions="permessage-deflate" + "; x=1" * 2000), 101),
    "broken extensions": (request(Sec_WebSocket_Extensions='permessage-deflate; server_max_window_bits="'), 101),
    "no token": (request(Authorization=None), 401),
    "Basic": (request(Authorization="Basic YTpi"), 401),
    "a token of 10 kB": (request(Authorization="Bearer " + "x" * 10_000), 401),
}

# What the listener hands on to HTTP, which has limits and time-outs of its own.
BEHIND: dict[str, tuple[bytes, int | None]] = {
    "plain HTTP": (get(), 200),
    "two requests": (get() * 2, 200),
    "100 requests": (get() * 100, 200),
    "a request, then garbage": (get() + b"\xff" * 1000, 200),
    "a request, then an upgrade": (get() + request(), 200),
    "HTTP/1.0 without a host": (b"GET / HTTP/1.0\r\n\r\n", 200),
    "POST with half its body": (get("Content-Length: 100", line="POST / HTTP/1.1") + b"x" * 50, None),
    "POST of 10 MB": (get("Content-Length: 10000000", line="POST / HTTP/1.1") + b"x" * 1_000_000, 413),
    "a chunk of 2^70": (get("Transfer-Encoding: chunked", line="POST / HTTP/1.1") + b"400000000000000000\r\n", None),
    "broken chunks": (get("Transfer-Encoding: chunked", line="POST / HTTP/1.1") + b"zz\r\n", 400),
    "both lengths": (get("Transfer-Encoding: chunked", "Content-Length: 3") + b"0\r\n\r\nGET", 200),
    "non-ASCII protocol over HTTP": (get("Sec-WebSocket-Protocol: \xe4", "Connection: upgrade"), 200),
    "h2c": (get("Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__", "Connection: Upgrade, HTTP2-Settings"), 200),
}

HANDSHAKES = OTHER_PROTOCOLS | REQUEST_LINES | HEADERS | BEHIND
