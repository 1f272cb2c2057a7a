"""HTTP: the page."""

from __future__ import annotations

import re

import pytest

from tests.kit.outsider import Place

pytestmark = pytest.mark.live


async def test_the_page_and_everything_it_needs(listed: Place) -> None:
    page = await listed.request("/")
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    policy = dict(part.strip().partition(" ")[::2] for part in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] in ("'self'", "'none'")
    assert "unsafe" not in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    text = page.body.decode()
    assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=", text), "the policy forbids these"
    assert "://" not in text, "nothing from elsewhere"
    wanted = re.findall(r'(?:src|href)="([^"]+)"', text)
    assert any(name.endswith(".js") for name in wanted)
    kinds = {
        "js": "text/javascript",
        "css": "text/css",
        "svg": "image/svg+xml",
        "html": "text/html",
        "png": "image/png",
    }
    seen: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in seen or name.startswith("#"):
            continue
        seen.add(name)
        asset = await listed.request(f"/{name.removeprefix('/')}")
        assert asset.status == 200, name
        assert asset.headers["content-type"].partition(";")[0] == kinds[name.rpartition(".")[2]]
        assert asset.headers["x-content-type-options"] == "nosniff"
        folder = name.rpartition("/")[0]
        imports = re.findall(r'(?:from|import)\s+"\./([^"]+)"', asset.body.decode()) if name.endswith(".js") else []
        wanted += [f"{folder}/{found}" for found in imports]
    assert len(seen) >= 3
