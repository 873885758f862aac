"""Names of MITRE ATT&CK's techniques as reports print them."""

from __future__ import annotations


def technique(number: str) -> str:
    """The technique's name, empty for one that is not in our table."""
    from trailhawk.detect.attack_table import attack_table

    return attack_table().name(number)
