"""What there is to ask for."""

from __future__ import annotations

API = (
    "/api/races",
    "/api/races/R1/positions",
    "/api/races/R1/history",
    "/api/races/R1/export?format=csv",
    "/api/rejections",
)
PROBES = ("/healthz", "/readyz", "/readyz/ingest", "/metrics")
