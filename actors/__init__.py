"""The tracking daemon: see the map below."""
