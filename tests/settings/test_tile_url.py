"""`[page] tile_url`: what may stand in it becomes part of the page's Content-Security-Policy."""

from __future__ import annotations

import pytest

from actors.settings.tile_url import tile_origin, tile_url


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://tiles.example.org/{z}/{x}/{y}.png", "https://tiles.example.org"),
        ("http://127.0.0.1:8080/a/{y}/{x}/{z}", "http://127.0.0.1:8080"),
        ("https://Tiles.example.org:443/{z}/{x}/{y}@2x.png?key=a-b&style=x", "https://tiles.example.org"),
        ("https://[::1]:8443/?z={z}&x={x}&y={y}", "https://[::1]:8443"),
    ],
)
def test_a_url_is_kept_and_its_origin_known(url: str, origin: str) -> None:
    assert tile_url(url) == url
    assert tile_origin(url) == origin


def test_none_is_the_default() -> None:
    assert tile_url("") == ""


@pytest.mark.parametrize(
    "url",
    [
        "tiles",
        "/tiles/{z}/{x}/{y}.png",
        "ftp://tiles.example.org/{z}/{x}/{y}.png",
        "https://tiles.example.org",
        "https://tiles.example.org/{z}/{x}.png",
        "https://tiles.example.org/{z}/{x}/{y}/{y}.png",
        "https://{z}.example.org/{x}/{y}.png",
        "https://user:password@tiles.example.org/{z}/{x}/{y}.png",
        "https://tiles.example.org/{s}/{z}/{x}/{y}.png",
        "https://tiles.example.org/{z}/{x}/{y}.png; script-src *",
        "https://tiles.example.org/{z}/{x}/{y}.png, https://other.example.org",
        'https://tiles.example.org/{z}/{x}/{y}.png" onload="x',
        "https://tiles.example.org;script-src/{z}/{x}/{y}.png",
        "https://[::1/{z}/{x}/{y}.png",
    ],
)
def test_anything_else_is_refused_with_what_is_allowed(url: str) -> None:
    with pytest.raises(ValueError, match=r"allowed is empty or a URL like https://"):
        tile_url(url)
