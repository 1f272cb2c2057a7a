"""Which components can be used right now: expected trouble is a value here, not an exception."""

from __future__ import annotations

import attrs
import structlog

from actors.telemetry.metrics import Metrics

log = structlog.get_logger("health")

COMPONENTS = ("broker", "postgres", "redis", "spool", "websocket")
OF_NODES = ("relay", "ingest")  # beside them, where there are several nodes
SPOOL_IDLE = "not in use"  # the detail of a spool that takes no fixes now


@attrs.frozen
class Component:
    """State of one component, with a sentence for the operator when it is down."""

    up: bool
    detail: str


class Health:
    """Written by the actor that owns the component, read by /readyz, /readyz/ingest, `status` and the metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.ingest = ""  # "reading" or "waiting", where nodes stand by for each other
        self.components: dict[str, Component] = {}
        for name in COMPONENTS:
            self._set(name, Component(up=False, detail="starting"))
        self._set("spool", Component(up=True, detail=SPOOL_IDLE))

    def use(self, name: str) -> None:
        """One more component: not all daemons have it."""
        assert name in OF_NODES, f"{name} is described nowhere"
        self._set(name, Component(up=False, detail="starting"))

    def starting(self, name: str) -> None:
        """Say that a component begins, so it is not up yet: no trouble."""
        self._set(name, Component(up=False, detail="starting"))

    def up(self, name: str, detail: str = "ok") -> None:
        """Say that a component works; logged when it did not before."""
        if not self.components[name].up:
            log.info("component up", component=name, detail=detail)
        self._set(name, Component(up=True, detail=detail))

    def down(self, name: str, detail: str) -> None:
        """Say that a component is down and why; logged when the state or the reason changes."""
        if self.components[name] != Component(up=False, detail=detail):
            log.warning("component down", component=name, detail=detail)
        self._set(name, Component(up=False, detail=detail))

    def stopped(self, name: str) -> None:
        """Say that a component was stopped on purpose: no trouble."""
        self._set(name, Component(up=False, detail="stopped"))

    def _set(self, name: str, component: Component) -> None:
        self.components[name] = component
        self._metrics.component_up.labels(component=name).set(int(component.up))
