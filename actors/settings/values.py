"""How the text of one settings key becomes a value: parsers that raise ValueError("what is wrong; what is allowed")."""

from __future__ import annotations

import re
from collections.abc import Callable
from os import fsencode
from pathlib import Path
from typing import TypeVar

from actors.core.addresses import UNIX_PATH_BYTES, Address, Secret, is_host, one_origin
from actors.core.file_name import on_disk
from actors.core.host_list import host_list
from actors.core.share import group_fault
from actors.core.topic_filter import filter_fault, template_fault

T = TypeVar("T")
Parser = Callable[[str], T]

_URL_PATH = re.compile(r"/[A-Za-z0-9._~%!$&'()*+,;=:@/-]*", re.ASCII)
_NODE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_YES = frozenset({"yes", "true", "on", "1"})
_NO = frozenset({"no", "false", "off", "0"})


def whole(low: int, high: int, refused: dict[str, str] | None = None) -> Parser[int]:
    """Whole number low..high: ASCII digits only. `refused` gives a reason of its own for some values."""
    allowed = f"allowed is a whole number from {low} to {high}"

    def parse(text: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,18}", text, re.ASCII):
            raise ValueError(f"not a whole number in plain digits; {allowed}")
        value = int(text)
        if refused and str(value) in refused:
            raise ValueError(f"{refused[str(value)]}; {allowed}")
        if text.startswith("-") or not low <= value <= high:
            raise ValueError(f"out of range; {allowed}")
        return value

    return parse


def choice(*names: str) -> Parser[str]:
    """One of the names, in any case."""

    def parse(text: str) -> str:
        if text.lower() not in names:
            raise ValueError(f"not one of the choices; allowed is {' or '.join(names)}")
        return text.lower()

    return parse


def yes_no(text: str) -> bool:
    if text.lower() in _YES:
        return True
    if text.lower() in _NO:
        return False
    raise ValueError("neither yes nor no; allowed is yes or no")


def line(low: int, high: int) -> Parser[str]:
    """Text of low..high characters without control characters."""

    def parse(text: str) -> str:
        if any(not c.isprintable() for c in text):
            raise ValueError("holds a control character or a line break; allowed is one line of text")
        if not low <= len(text) <= high:
            raise ValueError(f"{len(text)} characters long; allowed are {low} to {high}")
        return text

    return parse


def secret(text: str) -> Secret:
    if any(c in text for c in "\0\r\n"):
        raise ValueError("holds a line break or a NUL character; allowed is one line of text")
    return Secret(text)


def auth_secret(text: str) -> Secret:
    if text and len(text.encode()) < 32:
        raise ValueError(
            f"only {len(text.encode())} bytes long; allowed is empty (generated once) or at least 32 bytes"
        )
    if "-----BEGIN" in text or text.startswith(("ssh-", "ecdsa-")):
        raise ValueError("looks like a key pair's key, which PyJWT refuses for HS256; allowed is random text")
    return Secret(text)


def folder(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError("not a path; allowed is a folder, relative ones start at the settings file")
    return Path(on_disk(text))


def optional_file(text: str) -> Path | None:
    if "\0" in text:
        raise ValueError("not a path; allowed is empty or the path of a file")
    return Path(on_disk(text)) if text else None


def node_id(text: str) -> str:
    if text and not _NODE_ID.fullmatch(text):
        raise ValueError("not a node name; allowed is empty (the host name) or 1 to 64 letters, digits, '.', '_', '-'")
    return text


def hosts(text: str) -> tuple[str, ...]:
    """Host names and IP addresses, comma or newline separated, none twice."""
    parts = tuple(part.strip() for part in re.split(r"[,\n]", text) if part.strip())
    allowed = "allowed is a comma list of host names and IP addresses"
    if not parts:
        raise ValueError(f"empty; {allowed}")
    for part in parts:
        if not is_host(part):
            raise ValueError(f"'{part}' is not a host; {allowed}")
    return tuple(dict.fromkeys(part.lower() for part in parts))


def redis_host(text: str) -> str:
    """`embedded`, which is a host's name as well, a Unix socket, or servers."""
    if not is_socket(text):
        _of_a_list(text, "embedded, the path of a Unix socket")
    elif not text.isprintable() or len(fsencode(on_disk(text))) > UNIX_PATH_BYTES:
        raise ValueError(f"not a Unix socket; allowed is a path of at most {UNIX_PATH_BYTES} bytes")
    return text


def is_socket(redis_host: str) -> bool:
    """Whether it is the path of a Unix socket."""
    return redis_host.startswith("/")


def postgres_host(text: str) -> str:
    """`embedded`, a folder, or servers."""
    if not (text.startswith("/") and text.isprintable() and "," not in text):
        _of_a_list(text, "embedded, the folder of a Unix socket")
    return text


def _of_a_list(text: str, or_else: str) -> None:
    try:
        servers = host_list(text, 1)
    except ValueError as error:
        raise ValueError(f"{error}; or a comma list of such, or {or_else}") from None
    if len(servers) > 1 and "embedded" in [server.host for server in servers]:
        raise ValueError("embedded beside others; allowed is embedded alone, or servers of yours")


def lock_host(text: str) -> str:
    """Empty, or as that of PostgreSQL."""
    if text == "embedded":
        raise ValueError("an embedded PostgreSQL has no pooler; allowed is empty, or servers of yours")
    return postgres_host(text) if text else text


def bind_address(text: str) -> Address:
    """Take host:port or [IPv6]:port apart."""
    name, colon, port = text.rpartition(":")
    bare = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    if not colon or not is_host(bare) or (":" in bare and bare == name):
        raise ValueError("not an address to listen on; allowed is host:port or [IPv6 address]:port")
    try:
        return Address(bare, whole(1, 65535)(port))
    except ValueError as error:
        raise ValueError(f"the port is {error}") from None


def embedded_bind(text: str) -> str:
    bind_address(text)
    return text


def topics(text: str) -> tuple[str, ...]:
    """MQTT topic filters, comma or newline separated."""
    filters = tuple(part.strip() for part in re.split(r"[,\n]", text) if part.strip())
    allowed = "allowed are MQTT topic filters separated by commas or newlines"
    if not filters:
        raise ValueError(f"empty; {allowed}")
    for index, topic in enumerate(filters):
        fault = filter_fault(topic)
        if fault:
            raise ValueError(f"'{topic}' {fault}; {allowed}")
        if topic in filters[:index]:
            raise ValueError(f"'{topic}' stands twice; {allowed}")
    return filters


def share_group(text: str) -> str:
    fault = group_fault(text)
    if fault:
        raise ValueError(f"{fault}; allowed is a name without '/', '+' and '#'")
    return text


def receipt_topic(text: str) -> str:
    fault = template_fault(text) if text else ""
    if fault:
        raise ValueError(
            f"{fault}; allowed is empty (off) or a topic with the placeholders {{participant_id}}, {{race_id}}"
        )
    return text


def url_path(text: str) -> str:
    if not _URL_PATH.fullmatch(text):
        raise ValueError("not a path; allowed is a path that begins with '/', without '?' and '#'")
    return text


def origins(text: str) -> tuple[str, ...]:
    """`*`, or origins (RFC 6454: scheme://host[:port]) as browsers send them: lower case, no default port."""
    parts = tuple(part.strip() for part in re.split(r"[,\n]", text) if part.strip())
    if parts == ("*",):
        return parts
    if "*" in parts:
        raise ValueError("'*' beside others; allowed is '*' alone or a comma list of origins")
    return tuple(dict.fromkeys(one_origin(part) for part in parts))
