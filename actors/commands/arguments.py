"""Types of arguments that several commands take, for argparse."""

from __future__ import annotations

import argparse

from actors.core.judge import normal_id


def race_id(text: str) -> str:
    """As it is written inside; a typing error would name a race that cannot be."""
    found = normal_id(text)
    if found is None:
        allowed = "1 to 50 letters, digits, '.', '_', '-', '@', the first a letter or digit"
        raise argparse.ArgumentTypeError(f"'{text}' is not a race id: {allowed}")
    return found
