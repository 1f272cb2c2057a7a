"""Where the broker listens: the text of `[mqtt] broker_url`, which may name several nodes of one."""

from __future__ import annotations

from urllib.parse import urlsplit

from actors.core.addresses import DEFAULT_PORTS, Address, in_url, is_host


def broker_address(text: str) -> Address:
    """Take mqtt://host[:port] or mqtts://host[:port] apart; the ports default to 1883 and 8883."""
    allowed = "allowed is embedded, mqtt://host:port or mqtts://host:port, or several such URLs with commas"
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise ValueError(f"not an address; {allowed}") from None
    if url.scheme not in ("mqtt", "mqtts"):
        raise ValueError(f"not a broker address; {allowed}")
    if "@" in url.netloc:
        raise ValueError(f"a user or password does not belong here: use the keys username and password; {allowed}")
    if url.path not in ("", "/") or url.query or url.fragment or not text.isprintable():
        raise ValueError(f"nothing may follow the port; {allowed}")
    if port == 0 or url.netloc.endswith(":") or not is_host(url.hostname or ""):
        raise ValueError(f"host or port is not valid; {allowed}, ports 1 to 65535")
    return Address(url.hostname or "", port or DEFAULT_PORTS[url.scheme], url.scheme == "mqtts")


def broker_addresses(text: str) -> tuple[Address, ...]:
    """Take the comma list of a broker's nodes apart: at least one. A fault names its entry, by number where a password
    may stand in it."""
    entries = [entry.strip() for entry in text.split(",")]
    found: list[Address] = []
    for number, entry in enumerate(entries, 1):
        try:
            address = broker_address(entry)
            if address in found:
                raise ValueError("stands twice; allowed is each node once")
        except ValueError as error:
            if len(entries) == 1:
                raise
            name = f"entry {number}" if "@" in text else f"entry {number}, '{entry}',"
            raise ValueError(f"{name} is wrong: {error}") from None
        found.append(address)
    return tuple(found)


def broker_url(text: str) -> str:
    """`embedded`, or the URLs with their ports even where the default stands."""
    if text == "embedded":
        return text
    return ",".join(
        f"{'mqtts' if one.tls else 'mqtt'}://{in_url(one.host)}:{one.port}" for one in broker_addresses(text)
    )
