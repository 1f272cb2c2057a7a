"""Which content coding a client gets."""

from __future__ import annotations

import gzip

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from actors.http.coding import CODERS, chosen

DECODE = {"gzip": gzip.decompress, "zstd": zstd.decompress}


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        ("", None), ("identity", None), ("br", None), ("gzip", "gzip"), ("GZIP", "gzip"), ("x-gzip", "gzip"),
        ("zstd", "zstd"), ("gzip, deflate, br, zstd", "zstd"), ("gzip, deflate", "gzip"), ("*", "zstd"),
        ("zstd;q=0.5, gzip", "gzip"), ("gzip;q=0.5,zstd;q=0.5", "zstd"), ("gzip;q=0", None), ("zstd;q=0, *", "gzip"),
        ("*;q=0", None), ("gzip; q=0.001", "gzip"), ("gzip;level=9;q=1.0", "gzip"), ("gzip;q=x", None),
        ("identity;q=0", None), (" , ;q=1, gzip", "gzip"), ("gzipped", None),
    ],
)  # fmt: skip
def test_the_best_that_the_client_takes(header: str, coding: str | None) -> None:
    assert chosen(header) == coding


@given(st.text(max_size=60))
def test_whatever_the_header_holds(header: str) -> None:
    assert chosen(header) in (None, *CODERS)


@pytest.mark.parametrize("name", CODERS)
@given(pieces=st.lists(st.binary(max_size=3000), max_size=8))
def test_a_body_comes_back(name: str, pieces: list[bytes]) -> None:
    coder = CODERS[name]()
    coded = b"".join(coder.compress(piece) for piece in pieces) + coder.flush()
    assert DECODE[name](coded) == b"".join(pieces)
