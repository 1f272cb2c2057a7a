"""A settings.ini to write and load, for the tests of settings."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from actors.core.errors import SettingsError
from actors.settings.load import Settings, load


@attrs.frozen
class Files:
    """A folder with a settings.ini to write."""

    folder: Path

    def load(self, text: str = "", **environ: str) -> Settings:
        path = self.folder / "settings.ini"
        path.write_text(text, "utf-8")
        return load(path, environ)

    def problems(self, text: str = "", **environ: str) -> list[str]:
        with pytest.raises(SettingsError) as caught:
            self.load(text, **environ)
        return caught.value.problems

    def problem(self, text: str = "", **environ: str) -> str:
        [problem] = self.problems(text, **environ)
        return problem


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)
