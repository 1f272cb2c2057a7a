"""`run`: the daemon in the foreground, with real drivers. `demo` runs the same with a made-up race beside it."""

from __future__ import annotations

import argparse
import os
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import structlog
import trio

from actors import log as logging_setup
from actors.access import Access, load_secret
from actors.control import ControlSocket
from actors.data_dir import DataDir, open_data_dir, socket_path
from actors.drivers.history import PostgresHistory
from actors.drivers.mqtt import MqttLink
from actors.drivers.postgres import PostgresWriter
from actors.drivers.redis import RedisStore
from actors.embedded import EmbeddedServers, resolve
from actors.errors import TrackingError
from actors.http import HttpServer
from actors.http_api import build_app
from actors.listener import Listener
from actors.outside import Outside
from actors.settings import Settings
from actors.status import tree_status
from actors.supervision import Start

if TYPE_CHECKING:
    from supervisor import Daemon

log = structlog.get_logger("supervisor")
