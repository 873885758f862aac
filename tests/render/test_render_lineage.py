"""The tree of keys: of very many those are drawn that matter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from trailhawk.render.lineage import MOST_KEYS, show_lineage

START = datetime(2026, 3, 1, tzinfo=UTC)


def row(hour: int, addresses: int, *, in_two_places: bool = False) -> dict[str, object]:
    at = START + timedelta(hours=hour)
    return {
        "Key": f"ASIAEXAMPLE{hour:09}",
        "From": "i-0123456789abcdef0",
        "FromKind": "Instance",
        "RoleArn": "arn:aws:iam::111122223333:role/web",
        "At": at,
        "Api": "AssumeRole",
        "Address": "ec2.amazonaws.com",
        "EventId": f"e-{hour}",
        "SourceIdentity": "",
        "IsUsed": addresses > 0,
        "FirstUsed": at if addresses else None,
        "LastUsed": at if addresses else None,
        "Calls": addresses,
        "Denied": 0,
        "Addresses": [f"192.0.2.{n}" for n in range(addresses)],
        "IsInTwoPlaces": in_two_places,
    }


@pytest.mark.parametrize("place", [0, 100, 199])
def test_a_stolen_key_is_drawn_wherever_it_stands_among_many(
    place: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """An instance gets some 15 keys a day, and its thief comes on the last."""
    rows = [row(hour, hour % 2) for hour in range(200)]
    rows[place] = row(place, 2, in_two_places=True)
    show_lineage("i-0123456789abcdef0", rows)
    printed = capsys.readouterr().out
    assert f"ASIAEXAMPLE{place:09}" in printed
    assert "used from two places at the same time" in printed
    assert "ASIAEXAMPLE000000197" in printed
    assert "ASIAEXAMPLE000000001" not in printed
    assert f"and {200 - MOST_KEYS} more keys, " in printed
    assert printed.index("ASIAEXAMPLE000000195") < printed.index("ASIAEXAMPLE000000197")
