"""Where the servers of a store listen: the text of `[redis] host` and `[postgres] host`, which may name several."""

from __future__ import annotations

from actors.core.addresses import Address, is_host

ALLOWED = "a host name or an IP address, with or without :port (an IPv6 address in brackets then)"


def host_list(text: str, port: int) -> tuple[Address, ...]:
    """Take the comma list apart: at least one; `port` is for those without. A fault names its entry."""
    entries = [entry.strip() for entry in text.split(",")]
    found: list[Address] = []
    for number, entry in enumerate(entries, 1):
        try:
            address = _one(entry, port)
            if address in found:
                raise ValueError("stands twice; allowed is each server once")
        except ValueError as error:
            if len(entries) == 1:
                raise
            raise ValueError(f"entry {number}, '{entry}', is wrong: {error}") from None
        found.append(address)
    return tuple(found)


def _one(entry: str, port: int) -> Address:
    if is_host(entry):
        return Address(entry, port)
    name, _, number = entry.rpartition(":")
    bracketed = name.startswith("[") and name.endswith("]")
    host = name[1:-1] if bracketed else name
    if not is_host(host) or (":" in host) != bracketed:
        raise ValueError(f"not a host; allowed is {ALLOWED}")
    if not (number.isascii() and number.isdigit() and 1 <= int(number[:6]) <= 65_535):
        raise ValueError("the port is out of range; allowed are 1 to 65535")
    return Address(host, int(number))
