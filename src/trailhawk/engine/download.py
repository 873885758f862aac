"""One file over HTTPS or HTTP, from hosts on a list: bounded in size, time and redirects.

The address that was checked is the address that is connected to, so that a name cannot lead to a private
network between the two. No proxy, cookie or password of this machine is used.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import quote, unquote, urljoin, urlsplit

from trailhawk.engine.dial import Pinned, addresses, is_address, is_public
from trailhawk.errors import LimitError, NotAllowedError, QueryError
from trailhawk.kql.operators.external import ExternalFile, not_allowed

_PORTS = {"https": 443, "http": 80}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CHUNK = 1 << 16
_SAFE = "/?:@!$&'()*+,;=%"
"""What stands in an address as it is: what is quoted already stays so."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bytes and seconds of one download with all its redirects, and how many of these it may follow."""

    max_bytes: int = 100 << 20
    seconds: float = 30.0
    redirects: int = 5


@dataclass(frozen=True, slots=True)
class Origin:
    """A host with scheme and port, and where the paths of what it may give begin (`/` for all)."""

    scheme: str
    host: str
    port: int
    path: str = "/"

    @classmethod
    def of(cls, uri: str) -> Origin | None:
        """The origin of an HTTP address with its whole path; None of anything else."""
        try:
            parts = urlsplit(uri)
            port = parts.port
        except ValueError:
            return None
        if parts.scheme not in _PORTS or not parts.hostname or parts.username or parts.password:
            return None
        return cls(parts.scheme, parts.hostname, port or _PORTS[parts.scheme], parts.path or "/")

    def covers(self, other: Origin) -> bool:
        """Whether an entry of the list allows this address; a path that climbs is never allowed."""
        if (self.scheme, self.host, self.port) != (other.scheme, other.host, other.port):
            return False
        if ".." in unquote(unquote(other.path)).replace("\\", "/").split("/"):
            return False
        return other.path == self.path or other.path.startswith(self.path.rstrip("/") + "/")


@dataclass(frozen=True, slots=True)
class AllowedHosts:
    """The list: its entries, and whether their names may lead to a private network.

    An entry that is itself a private address, or `localhost`, says that it may.
    """

    entries: tuple[Origin, ...] = ()
    private: bool = False

    @classmethod
    def of(cls, addresses: Iterable[str], *, private: bool = False) -> AllowedHosts:
        return cls(tuple(origin for item in addresses if (origin := Origin.of(item))), private)

    def entry(self, uri: str) -> Origin | None:
        """The origin of an address where the list has it."""
        wanted = Origin.of(uri)
        if wanted is None or not any(entry.covers(wanted) for entry in self.entries):
            return None
        return wanted

    def may_be_private(self, host: str) -> bool:
        return self.private or host == "localhost" or is_address(host)


def download(file: ExternalFile, hosts: AllowedHosts, bounds: Bounds) -> bytes:
    """The bytes of a file. NotAllowedError where the list does not have its host or that of a redirect,
    LimitError beyond the bounds, QueryError where the host does not give it."""
    uri, deadline = file.uri, time.monotonic() + bounds.seconds
    for _ in range(bounds.redirects + 1):
        origin = hosts.entry(uri)
        if origin is None:
            not_allowed(urlsplit(uri).hostname or file.place, file)
        try:
            found = _get(file, uri, origin, hosts, bounds.max_bytes, deadline)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if time.monotonic() >= deadline:
                raise LimitError(f"{file.place} took longer than {bounds.seconds:g} s", file.span) from None
            _failed(file, str(error) or type(error).__name__)
        if isinstance(found, bytes):
            return found
        uri = urljoin(uri, found)
    raise LimitError(f"{file.place} redirects more than {bounds.redirects} times", file.span)


def _get(
    file: ExternalFile, uri: str, origin: Origin, hosts: AllowedHosts, max_bytes: int, deadline: float
) -> bytes | str:
    """The body of a GET, or where it redirects to."""
    connection = Pinned(origin.scheme, origin.host, origin.port, _address(file, origin, hosts), deadline)
    # Each read has its timeout, but a host that gives a byte a second would outlive them all.
    watch = threading.Timer(max(0.0, deadline - time.monotonic()), connection.cut)
    watch.daemon = True
    watch.start()
    try:
        parts = urlsplit(uri)
        target = quote(parts.path or "/", safe=_SAFE) + (
            f"?{quote(parts.query, safe=_SAFE)}" if parts.query else ""
        )
        connection.request("GET", target, headers={"User-Agent": "trailhawk", "Accept": "*/*"})
        with connection.getresponse() as response:
            if response.status in _REDIRECTS and (location := response.headers.get("Location")):
                return location
            if response.status != 200:
                _failed(file, f"HTTP status {response.status}")
            body = bytearray()
            while chunk := response.read1(_CHUNK):
                body += chunk
                if len(body) > max_bytes:
                    raise LimitError(f"{file.place} has more than {max_bytes >> 20} MiB", file.span)
            if response.length or time.monotonic() >= deadline:
                raise TimeoutError("the answer broke off")
            return bytes(body)
    finally:
        watch.cancel()
        connection.close()


def _address(file: ExternalFile, origin: Origin, hosts: AllowedHosts) -> str:
    """An address of the host; NotAllowedError where it lies in a network that is not to be reached."""
    found = addresses(origin.host, origin.port)
    if not hosts.may_be_private(origin.host) and not all(map(is_public, found)):
        raise NotAllowedError(
            f"externaldata {origin.host}",
            file.span,
            hint="its address is private; list the address itself, or set private_hosts",
        )
    return found[0]


def _failed(file: ExternalFile, reason: str) -> NoReturn:
    raise QueryError(f"{file.place} cannot be read: {reason}", file.span)
