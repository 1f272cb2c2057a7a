"""Settings -> the text of a settings file, for a daemon that another program starts."""

from __future__ import annotations

from actors.core.addresses import Secret
from actors.settings.table import KEYS, Settings


def written(settings: Settings) -> tuple[str, dict[str, Secret]]:
    """A settings file that says the same, without keys at their defaults; and its secrets, by the names of their files.

    Those belong beside it. Paths are written as they are: absolute ones mean the same everywhere.
    """
    lines: list[str] = []
    secrets: dict[str, Secret] = {}
    for section, rows in KEYS.items():
        group = getattr(settings, section)
        found = {name: getattr(group, name) for name, row in rows.items()}
        changed = {name: value for name, value in found.items() if value != rows[name]["parse"](rows[name]["default"])}
        if changed:
            lines.append(f"[{section}]")
        for name, value in changed.items():
            if isinstance(value, Secret):
                secrets[f"{section}_{name}"] = value
                lines.append(f"{name}_file = {section}_{name}")
            else:
                lines.append(f"{name} = {_text(value)}")
    return "\n".join([*lines, ""]), secrets


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, tuple) else str(value)
