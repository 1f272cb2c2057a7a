"""The text of a settings file -> sections, and all that is wrong with its form (configparser stops at the first)."""

from __future__ import annotations

import configparser
import re

import attrs

MAX_FAULTS = 20  # of form; a file with more is not a settings file, and each costs one more pass over it

NEITHER = "is neither [section] nor key = value"

_NOWHERE = "\n"  # no header can have this name: so no section passes its keys on to the others


@attrs.frozen
class FormFault:
    """One line that is not as a settings file is written."""

    line: int  # from 1
    text: str
    section: str = ""  # of a key that stands twice, else empty
    key: str = ""
    value: str = ""


@attrs.frozen
class Ini:
    """`sections`: name -> key (lower case) -> value as written."""

    sections: dict[str, dict[str, str]]
    faults: tuple[FormFault, ...]  # in file order


def parse_ini(text: str) -> Ini:
    """Take the file apart: no interpolation, no inline comments, [DEFAULT] is a section like any other."""
    lines = text.split("\n")
    faults: list[FormFault] = []
    twins: dict[str, str] = {}  # the name that a second [section] got -> its real one
    lost: set[str] = set()  # names that broken headers got: what follows one is not the section's before it
    while len(faults) <= MAX_FAULTS:
        parser = configparser.ConfigParser(interpolation=None, default_section=_NOWHERE)
        try:
            parser.read_string("\n".join(lines))
        except configparser.MissingSectionHeaderError as error:
            number = error.lineno
            if lines[number - 1].startswith("["):
                faults.append(FormFault(number, NEITHER))
                lost.add(_headed(lines, number))
            else:
                faults.append(FormFault(number, "stands before the first [section]"))
                _blank(lines, number)
        except configparser.DuplicateSectionError as error:
            number, name = error.lineno or 0, str(error.section)
            faults.append(FormFault(number, f"section [{twins.get(name, name)}] stands twice; allowed is once"))
            twin = f"{name}\t{number}"
            twins[twin] = twins.get(name, name)
            lines[number - 1] = f"[{twin}]"
        except configparser.DuplicateOptionError as error:
            number, section = error.lineno or 0, str(error.section)
            value = re.split("[=:]", lines[number - 1], maxsplit=1)[1].strip()
            fault = "stands twice in its section; allowed is once"
            faults.append(FormFault(number, fault, twins.get(section, section), str(error.option), value))
            _blank(lines, number)
        except configparser.ParsingError as error:
            for number, _ in error.errors:
                # The line is not quoted: it may hold half of a password.
                faults.append(FormFault(number, NEITHER))
                if lines[number - 1].startswith("["):
                    lost.add(_headed(lines, number))
                else:
                    _blank(lines, number)
        else:
            break
    else:
        return Ini({}, _in_order(faults))
    sections: dict[str, dict[str, str]] = {}
    for name in parser.sections():
        if name in lost:
            continue
        sections.setdefault(twins.get(name, name), {}).update(parser.items(name))
    return Ini(sections, _in_order(faults))


def _in_order(faults: list[FormFault]) -> tuple[FormFault, ...]:
    return tuple(sorted(faults, key=lambda fault: fault.line))


def _headed(lines: list[str], number: int) -> str:
    """Make a header of a line, with a name that no other has."""
    name = f"\t{number}"
    lines[number - 1] = f"[{name}]"
    return name


def _blank(lines: list[str], number: int) -> None:
    """Take a line and its indented continuation out, keeping the numbers of the others."""
    lines[number - 1] = "#"
    for index in range(number, len(lines)):
        if not lines[index][:1].isspace() or not lines[index].strip():
            break
        lines[index] = "#"
