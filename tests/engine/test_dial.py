"""Which addresses are of the open internet, however they are written."""

from __future__ import annotations

import pytest

from trailhawk.engine.dial import is_public


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_open(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "0.0.0.0", "10.1.2.3", "172.31.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1"),
        *("198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "fe80::1", "fe80::1%1", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1"),
        # An IPv4 address inside: mapped, compatible, behind NAT64, Teredo, 6to4.
        *("::ffff:169.254.169.254", "::169.254.169.254", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe"),
        *("2001:0:a9fe:a9fe::1", "2002:a9fe:a9fe::1"),
        # Translated, within a site, for documents, for segment routing.
        *("::ffff:0:a9fe:a9fe", "2606:4700::5efe:a9fe:a9fe", "2606:4700::200:5efe:a9fe:a9fe", "3fff::1"),
        *("5f00::1", "4000::1"),
    ],
)
def test_closed(address: str) -> None:
    assert not is_public(address)
