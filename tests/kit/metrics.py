"""What /metrics says, and the conservation law in it."""

from __future__ import annotations

from collections.abc import Mapping


def samples(text: str) -> dict[str, float]:
    """Each sample under its full name, and the sum over the labels under the name alone."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name] = float(value)
            if "{" in name:
                found[name.partition("{")[0]] = found.get(name.partition("{")[0], 0) + float(value)
    return found


CAME = ("tracking_fixes_received_total", "tracking_fixes_recovered_total")
WENT = (
    "tracking_fixes_committed_total",
    "tracking_fixes_duplicate_total",
    "tracking_fixes_rejected_total",
    "tracking_fixes_spooled",
    "tracking_fixes_in_flight",
)


def conserved(seen: Mapping[str, float]) -> bool:
    """The conservation law (README, "Guarantees, and their limits"), of sums by name."""
    return sum(seen[name] for name in CAME) == sum(seen[name] for name in WENT)
