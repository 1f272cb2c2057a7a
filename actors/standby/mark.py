"""In data_dir: that this node read last. A file of that name is the mark; what it holds is the client_id."""

from __future__ import annotations

from pathlib import Path

import attrs
import structlog

from actors.data_dir import write_private

log = structlog.get_logger("standby")

FILE_NAME = "read_last"


@attrs.define(eq=False)
class LastReaderMark:
    """A folder that cannot be written to is logged, no more: then a start without PostgreSQL waits for it."""

    data_dir: Path
    client_id: str
    is_set: bool = attrs.field(init=False)  # this node read last, as far as it knows

    def __attrs_post_init__(self) -> None:
        try:
            self.is_set = self._path.read_text("utf-8") == self.client_id
        except (OSError, UnicodeDecodeError):
            self.is_set = False

    @property
    def _path(self) -> Path:
        return self.data_dir / FILE_NAME

    def set(self, on: bool) -> None:
        """Note it, or that another node may have read since."""
        if on == self.is_set:
            return
        self.is_set = on
        try:
            if on:
                write_private(self._path, self.client_id)
            else:
                self._path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("cannot note whether this node read last", path=str(self._path), error=str(error))
