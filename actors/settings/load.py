"""settings.ini and the environment -> frozen Settings, or every problem at once. Nothing else reads either of them.

actors/settings/table.py has the keys, actors/settings/rules.py the rules between them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from actors.core.addresses import Secret as Secret
from actors.core.errors import SettingsError
from actors.settings import values as v
from actors.settings.ini import parse_ini
from actors.settings.problems import HIDDEN, concealed, problem, unknown_key, unknown_section
from actors.settings.rules import faults
from actors.settings.table import GROUPS, KEYS, is_secret, variable
from actors.settings.table import AppSettings as AppSettings
from actors.settings.table import ClusterSettings as ClusterSettings
from actors.settings.table import MqttSettings as MqttSettings
from actors.settings.table import PageSettings as PageSettings
from actors.settings.table import PostgresSettings as PostgresSettings
from actors.settings.table import RedisSettings as RedisSettings
from actors.settings.table import Settings as Settings
from actors.settings.table import SupervisorSettings as SupervisorSettings
from actors.settings.table import TlsSettings as TlsSettings
from actors.settings.table import WsSettings as WsSettings

SECRET_FILE_BYTES = 65_536  # a larger file is not a secret but a mistake

_COMMENT = re.compile(r"\s[#;]")  # behind a value


def load(path: Path, environ: Mapping[str, str]) -> Settings:
    """Read the settings file and what the environment overrides.

    Relative paths start at the folder of the file. Raises SettingsError with one line for each problem, all of them.
    """
    reading = _Reading(path, environ)
    sections = reading.file()
    groups: dict[str, Any] = {}
    for section, rows in KEYS.items():
        found = {name: list(reading.value(section, name, sections.get(section, {}))) for name in rows}
        groups[section] = GROUPS[section](**{name: values[0] for name, values in found.items() if values})
    settings = Settings(**groups)
    reading.check(settings)
    if reading.problems:
        raise SettingsError(reading.problems)
    client_id = settings.mqtt.client_id.replace("{node_id}", settings.app.node_id)
    return attrs.evolve(settings, mqtt=attrs.evolve(settings.mqtt, client_id=client_id))


@attrs.frozen
class _Given:
    """A value as somebody wrote it."""

    text: str
    name: str  # the key as it was spelled: `password` or `password_file`
    variable: str = ""  # the environment variable that gave it; empty for the settings file
    hidden: bool = False  # a secret: not to be shown

    @property
    def where(self) -> str:
        return self.variable or self.name


class _Unusable(ValueError):
    """What somebody wrote cannot be used; `given` is what to blame."""

    def __init__(self, given: _Given, text: str) -> None:
        super().__init__(text)
        self.given = given


@attrs.define
class _Reading:
    """One pass over a file and the environment, collecting problems."""

    path: Path
    environ: Mapping[str, str]
    problems: list[str] = attrs.field(factory=list)
    given: dict[str, _Given] = attrs.field(factory=dict)  # "section.key" -> what was written, or the default
    unread: set[str] = attrs.field(factory=set)  # "section.key" of values that could not be read

    def file(self) -> dict[str, dict[str, str]]:
        """The sections of the file; faults of form, unknown sections and keys become problems."""
        file = self.path.name
        try:
            text = self.path.read_text("utf-8-sig")
        except OSError as error:
            self.problems.append(f"{file}: cannot be read: {error.strerror}: {self.path}")
            return {}
        except UnicodeDecodeError as error:
            self.problems.append(f"{file}: not UTF-8: {error.reason} at byte {error.start}; allowed is UTF-8")
            return {}
        ini = parse_ini(text)
        for fault in ini.faults:
            if fault.key:
                value = concealed(fault.key, fault.value)
                told = f"(line {fault.line}) {fault.text}"
                self.problems.append(problem(f"{file} [{fault.section}] {fault.key}", value, told))
            else:
                self.problems.append(f"{file} line {fault.line}: {fault.text}")
        names = {section: [n for name in KEYS[section] for n in _spellings(section, name)] for section in KEYS}
        for section, keys in ini.sections.items():
            if section not in KEYS:
                self.problems.extend(unknown_section(file, section, keys, KEYS))
                continue
            for name, value in keys.items():
                if name not in names[section]:
                    self.problems.append(unknown_key(file, section, name, value, names))
        return ini.sections

    def value(self, section: str, name: str, keys: Mapping[str, str]) -> Iterator[object]:
        """The value of a key, or nothing when it cannot be read or is a name that the host gives."""
        row, place = KEYS[section][name], f"{section}.{name}"
        try:
            given = self.given[place] = self._given(section, name, keys) or _Given(row["default"], name)
            if any("\ud800" <= c <= "\udfff" for c in given.text):
                raise ValueError("not UTF-8; allowed is UTF-8 text")  # how Python hands on such an environment
            value = row["parse"](given.text)
            if isinstance(value, Path):
                value = self._anchored(value)
                if row["parse"] is v.optional_file:
                    _read_bytes(value)
        except _Unusable as error:
            self.unread.add(place)
            self._complain(section, error.given, str(error))
        except ValueError as error:
            self.unread.add(place)
            self._complain(section, given, str(error))
        else:
            if row["parse"] is not v.node_id or value:
                yield value

    def check(self, settings: Settings) -> None:
        """The rules between keys."""
        for fault in faults(settings):
            if self.unread.isdisjoint(fault.keys):
                self._complain(fault.keys[0].partition(".")[0], self.given[fault.keys[0]], fault.text)

    def _given(self, section: str, name: str, keys: Mapping[str, str]) -> _Given | None:
        """What was written for a key: by the environment, else in the file; for a secret also as a file's path."""
        hidden = is_secret(section, name)
        for from_environ in (True, False):
            text, file = (
                self._written(section, spelling, keys, from_environ, hidden) for spelling in (name, f"{name}_file")
            )
            if hidden and file and file.text:
                if text and text.text:
                    raise _Unusable(text, f"given beside {file.where}; allowed is one of the two")
                shown = attrs.evolve(file, hidden=False)
                try:
                    return attrs.evolve(file, text=_secret_text(_read_bytes(self._anchored(Path(file.text)))))
                except ValueError as error:
                    raise _Unusable(shown, str(error)) from None
            if text:
                return text
        return None

    def _written(
        self, section: str, spelling: str, keys: Mapping[str, str], from_environ: bool, hidden: bool
    ) -> _Given | None:
        name = variable(section, spelling) if from_environ else ""
        text = self.environ.get(name) if from_environ else keys.get(spelling)
        if text is None:
            return None
        return _Given(text if hidden else text.strip(), spelling, name, hidden)

    def _anchored(self, path: Path) -> Path:
        # absolute, not resolve: a settings file that is a symbolic link (Kubernetes) belongs where the link stands.
        return self.path.absolute().parent / path

    def _complain(self, section: str, given: _Given, text: str) -> None:
        value = HIDDEN if given.hidden and given.text else given.text
        source = f"(environment variable {given.variable}) " if given.variable else ""
        if not given.variable and not given.hidden and _COMMENT.search(given.text):
            text += "; a comment needs a line of its own"
        self.problems.append(problem(f"{self.path.name} [{section}] {given.name}", value, source + text))


def _spellings(section: str, name: str) -> tuple[str, ...]:
    return (name, f"{name}_file") if is_secret(section, name) else (name,)


def _read_bytes(path: Path) -> bytes:
    """The start of a file; ValueError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(SECRET_FILE_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}; allowed is a file this user may read") from None


def _secret_text(content: bytes) -> str:
    """A secret as its file holds it, without the line end that editors put there."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ValueError("its file is not UTF-8; allowed is UTF-8 text") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text or len(content) > SECRET_FILE_BYTES:
        raise ValueError(f"its file is empty or too long; allowed are 1 to {SECRET_FILE_BYTES} bytes")
    return text
