"""Connections whose address was checked before: a name cannot lead elsewhere between the two."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
from contextlib import suppress


class Pinned(http.client.HTTPConnection):
    """An HTTP or HTTPS connection to `address` for a host of that name, until `deadline` (time.monotonic)."""

    def __init__(self, scheme: str, host: str, port: int, address: str, deadline: float) -> None:
        super().__init__(host, port)
        self._scheme = scheme
        self._address = address
        self._deadline = deadline
        self._wire: socket.socket | None = None

    def connect(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self.sock = self._wire = socket.create_connection((self._address, self.port), timeout=left)
        if self._scheme == "https":
            secure = ssl.create_default_context().wrap_socket(
                self.sock, server_hostname=self.host, do_handshake_on_connect=False
            )
            self.sock = self._wire = secure
            secure.do_handshake()

    def cut(self) -> None:
        """End whatever waits for the host: the answer keeps the socket when the connection has let it go."""
        if self._wire is not None:
            with suppress(OSError):  # it may have ended by itself
                socket.socket.shutdown(self._wire, socket.SHUT_RDWR)


def addresses(host: str, port: int) -> list[str]:
    """The addresses of a host, at least one; OSError where there is none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise OSError("the host's name is none") from None
    return [str(item[4][0]) for item in found]


def is_address(host: str) -> bool:
    """Whether it is written as an address, not as a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


_GLOBAL = ipaddress.IPv6Network("2000::/3")
"""All that is given out for the open internet (RFC 4291); what is outside of it is for a use of its own."""
_CARRIERS = tuple(map(ipaddress.IPv6Network, ("2001::/32", "2002::/16", "3fff::/20")))
"""Of that: Teredo and 6to4, which carry an IPv4 address, public or not, and addresses for documents."""
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})
"""The bits before an IPv4 address that a site carries inside of it (RFC 5214)."""


def is_public(address: str) -> bool:
    """Whether the address is one of the open internet."""
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        elif (
            found not in _GLOBAL
            or any(found in network for network in _CARRIERS)
            or int(found) >> 32 & 0xFFFFFFFF in _ISATAP
        ):
            return False
    return found.is_global and not found.is_multicast
