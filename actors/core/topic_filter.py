"""MQTT topic filters: which are valid, and what they match (MQTT 5.0, section 4.7)."""

from __future__ import annotations

import re

_PLACEHOLDER = re.compile(r"\{(?:participant_id|race_id)\}")
_MAX_BYTES = 65_535  # MQTT 5.0, 1.5.4: two bytes of length


def filter_fault(topic: str) -> str:
    """What makes this no usable topic filter; empty when it is one."""
    fault = _text_fault(topic)
    if fault:
        return fault
    levels = topic.split("/")
    if "#" in topic and (levels[-1] != "#" or topic.count("#") > 1):
        return "has '#' somewhere else than alone in the last level"
    if any("+" in level and level != "+" for level in levels):
        return "has '+' beside other characters of a level"
    if levels[0] == "$share":
        return "is a shared subscription; write the plain filter, and [cluster] ingest = shared"
    return ""


def template_fault(topic: str) -> str:
    """What makes this no topic to publish to, placeholders allowed; empty when it is one."""
    fault = _text_fault(topic)
    if fault:
        return fault
    if "+" in topic or "#" in topic:
        return "holds a wildcard, nobody can publish to it"
    if re.search(r"[{}]", _PLACEHOLDER.sub("", topic)):
        return "holds an unknown placeholder or a stray brace"
    if topic.startswith("$"):
        return "begins with '$', which is the broker's own"
    return ""


def could_match(topic_filter: str, template: str) -> bool:
    """True when some value of the placeholders makes `template` a topic that `topic_filter` matches.

    Errs towards True: a placeholder stands for any characters but '/', ids are in truth narrower.
    """
    wanted = topic_filter.split("/")
    levels = template.split("/")
    if wanted[-1] == "#":
        wanted.pop()
        levels = levels[: len(wanted)]  # '#' stands for the parent level too (4.7.1.2)
    if len(wanted) != len(levels):
        return False
    return all(want == "+" or _level_pattern(level).fullmatch(want) for want, level in zip(wanted, levels, strict=True))


def _level_pattern(level: str) -> re.Pattern[str]:
    literal = [re.escape(part) for part in _PLACEHOLDER.split(level)]
    return re.compile("[^/]+".join(literal))


def _text_fault(topic: str) -> str:
    if not topic:
        return "is empty"
    if len(topic.encode()) > _MAX_BYTES:
        return f"is longer than {_MAX_BYTES} bytes"
    if any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in topic):
        return "holds a control character"
    return ""


def receipt_filter(template: str) -> str:
    """The topic filter that every receipt matches."""
    return "/".join("+" if "{" in level else level for level in template.split("/"))
