"""SCPI headers: short and long forms, optional words, and nothing else."""

from __future__ import annotations

import pytest

from labctl.twin.scpi import ScpiTable

TABLE = ScpiTable(
    {
        "*IDN?": lambda _: "idn",
        "SENSe[1]:POWer[:DC]:UNIT?": lambda _: "query",
        "SENSe[1]:POWer[:DC]:UNIT": lambda text: text,
    }
)


@pytest.mark.parametrize(
    "typed", ["SENS:POW:UNIT?", "sense:power:unit?", ":Sens1:Pow:Dc:Unit?", "SENSE1:POW:UNIT?"]
)
def test_understood(typed: str) -> None:
    handler = TABLE.find(typed)
    assert handler is not None and handler("") == "query"


@pytest.mark.parametrize(
    "typed", ["SEN:POW:UNIT?", "SENSE:POWE:UNIT?", "SENS:POW:UNIT??", "SENS:POW", "IDN?", ""]
)
def test_not_understood(typed: str) -> None:
    assert TABLE.find(typed) is None


def test_set_and_common_command() -> None:
    set_unit, identify = TABLE.find("SENS:POW:UNIT"), TABLE.find("*idn?")
    assert set_unit is not None and set_unit("W") == "W"
    assert identify is not None and identify("") == "idn"
