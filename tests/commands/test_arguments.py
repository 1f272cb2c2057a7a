"""What commands make of their arguments; ids that are refused are in commands/test_early_stop.py."""

from __future__ import annotations

import argparse

import pytest

from actors.commands import arguments


def test_names_of_bytes_that_the_locale_does_not_know_are_utf_8() -> None:
    for taken in (arguments.race_id, arguments.participant_id, arguments.any_name):
        assert taken("Cafe\udccc\udc81") == "Caf\u00e9"
    assert arguments.any_name("\udcff") == "\udcff"
    with pytest.raises(argparse.ArgumentTypeError):
        arguments.race_id("Caf\udce9")


def test_names_are_composed() -> None:
    for taken in (arguments.race_id, arguments.participant_id, arguments.any_name):
        assert taken("Cafe\u0301") == "Caf\u00e9"
    assert arguments.any_name("City Run\0") == "City Run\0"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("0", 0), ("3600", 3600), ("+3600", 3600), ("-3600", -3600), ("0.5", 0.5), ("-1.001", -1.001)),
        *(("08:00", 28_800), ("+5:45", 20_700), ("-08:00", -28_800), ("-00:30", -1800)),
        ("619315200", 1024 * 7 * 86_400),
    ],
)
def test_shifts(text: str, seconds: float) -> None:
    assert arguments.shift_ms(text) == round(seconds * 1000)


@pytest.mark.parametrize("text", ["", "x", "1e3", "nan", "8:0", "08:60", "1:00:00", "9999999999", "+-1", "1.2345", "٣"])
def test_shifts_that_are_none(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="allowed are seconds, or hours and minutes as -08:00"):
        arguments.shift_ms(text)


@pytest.mark.parametrize(
    "text", ["Mars/Phobos", "../Berlin", "/etc/localtime", "Europe", "", "\0", "x" * 5000, "+02:00"]
)
def test_zones_that_are_none(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a time zone such as Europe/Berlin"):
        arguments.time_zone(text)


def test_a_zone() -> None:
    assert arguments.time_zone("Asia/Jakarta").key == "Asia/Jakarta"
