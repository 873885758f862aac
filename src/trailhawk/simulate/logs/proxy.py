"""The access log of the web server in front of the banking application: nginx, shipped to CloudWatch Logs.

The files are those of a daily CloudWatch export task: gzipped lines, each after its time in ISO 8601.
The server forwards whatever the Host header names, so a request for the metadata service shows only here.
https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/S3Export.html
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from ..benign.day import Day, spread
from ..text import iso, uuid
from ..world import CHROME, EDGE, FIREFOX, WAF, World
from .files import Bucket, stamp

SITE = "banking.example.com"
METADATA = "169.254.169.254"
LOG_GROUP = "banking-nginx-access"
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_PAGES = (("/", 5_312), ("/login", 2_870), ("/accounts", 9_114), ("/static/app.js", 48_230), ("/help", 4_402))
_PROBED = ("/.env", "/wp-login.php", "/.git/config", "/phpmyadmin/", "/actuator/env", "/cgi-bin/luci")


@dataclass(frozen=True)
class WebRequest:
    """A request to the web server: from whom, for what, and what came back (`size`: bytes of the body)."""

    at: int
    client: str
    port: int
    host: str
    path: str
    status: int
    size: int
    agent: str
    method: str = "GET"
    upstream: str = "-"
    milliseconds: int = 4

    @property
    def line(self) -> str:
        """nginx's combined form, then the Host header, the server it was forwarded to, and the seconds."""
        day, month, rest = stamp("%d", self.at), int(stamp("%m", self.at)), stamp("%Y:%H:%M:%S", self.at)
        return (
            f"{self.client} - - [{day}/{_MONTHS[month - 1]}/{rest} +0000] "
            f'"{self.method} {self.path} HTTP/1.1" {self.status} {self.size} "-" "{self.agent}" '
            f'"{self.host}" {self.upstream} {self.milliseconds / 1000:.3f}'
        )


def ordinary_requests(world: World, day: Day, rng: Random, count: int) -> Iterator[WebRequest]:
    """Customers of the site, and now and then somebody who looks for a hole."""
    server = world.instances[WAF]
    for at in spread(rng, day, count):
        client, port = f"203.0.113.{rng.randint(2, 60)}", rng.randint(1025, 65_000)
        if rng.random() < 0.03:
            address = server.address(at)
            yield WebRequest(at, client, port, address, rng.choice(_PROBED), 400, 157, "curl/8.5.0")
            continue
        path, size = rng.choice(_PAGES)
        yield WebRequest(
            at,
            client,
            port,
            SITE,
            path,
            200,
            size + rng.randrange(400),
            rng.choice((CHROME, FIREFOX, EDGE)),
            upstream="127.0.0.1:8080",
            milliseconds=rng.randint(3, 180),
        )


@dataclass
class ProxyLog:
    """Takes requests in any order; `flush` writes one export task."""

    world: World
    bucket: Bucket
    _waiting: list[WebRequest] = field(default_factory=list)

    def add(self, request: WebRequest) -> None:
        self._waiting.append(request)

    def flush(self, until: int) -> None:
        """Write the day that ends at `until`."""
        requests = sorted(self._waiting, key=lambda each: (each.at, each.client, each.port))
        self._waiting = []
        if not requests:
            return
        task = uuid(self.world.rng("proxy", until))
        key = f"exportedlogs/{LOG_GROUP}/{task}/{self.world.instances[WAF].id}/000000.gz"
        self.bucket.put(key, [f"{iso(each.at)[:-1]}.000Z {each.line}" for each in requests])
