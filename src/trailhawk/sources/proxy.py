"""Access logs of web servers and reverse proxies: a table of ours, ProxyAccess.

The line is the combined log format of nginx and Apache with the Host header behind it, since an attack
through a reverse proxy shows there:

    log_format proxy '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent '
                     '"$http_referer" "$http_user_agent" "$host" $upstream_addr $request_time '
                     '"$http_x_forwarded_for"';

Without the last ones it is the plain combined format; Apache's vhost_combined, with `host:port` in front, is
read too. Format: https://nginx.org/en/docs/http/ngx_http_log_module.html
"""

from __future__ import annotations

import re
from typing import Final

from trailhawk.kql.types import KqlType
from trailhawk.sources.columns import declared
from trailhawk.sources.moments import clf
from trailhawk.sources.text_rows import TextSource, Values, fields_of, rest_of

_TEXT, _TIME, _INT, _LONG = KqlType.STRING, KqlType.DATETIME, KqlType.INT, KqlType.LONG

_LINES: Final = (
    ("TimeGenerated", _TIME, "When the request was logged, UTC.", ""),
    ("RemoteIp", _TEXT, "Address of the client.", ""),
    ("RemoteUser", _TEXT, "User of basic authentication.", ""),
    ("Method", _TEXT, "Method of the request.", ""),
    ("RequestUri", _TEXT, "What was asked for, as sent.", ""),
    ("HttpVersion", _TEXT, "Protocol of the request, such as HTTP/1.1.", ""),
    ("HttpStatus", _INT, "Status of the answer.", ""),
    ("BytesSent", _LONG, "Bytes of the answer's body.", ""),
    ("Referer", _TEXT, "Referer header.", ""),
    ("UserAgent", _TEXT, "User agent.", ""),
    ("HostHeader", _TEXT, "Host header of the request; empty if the log has none.", ""),
    ("Upstream", _TEXT, "Where the proxy sent the request on to.", ""),
    ("RequestTime", KqlType.REAL, "Seconds that the request took.", ""),
    ("ForwardedFor", _TEXT, "X-Forwarded-For header.", ""),
    ("RequestRaw", _TEXT, "The request line, as logged.", ""),
)
TABLE: Final = declared(
    "ProxyAccess",
    "Requests to web servers and reverse proxies, one row a request. A table of ours.",
    _LINES,
    statistics=("RemoteIp", "HostHeader"),
)

_FRONT: Final = re.compile(
    r"(?:(?P<host>[^\s\"\[\]]++) )?(?P<RemoteIp>[0-9A-Fa-f]*[.:][0-9A-Fa-f.:]*+|unix:) \S+ "
    r"(?P<RemoteUser>[^\[\"]*?) ?\[(?P<time>[^\]]*+)\] (?P<tail>\".*)"
)
_REQUEST: Final = re.compile(r"([A-Z_-]{1,32}) (.*) (HTTP/\d(?:\.\d)?)")
_BEHIND: Final = ("Referer", "UserAgent", "HostHeader", "Upstream", "RequestTime", "ForwardedFor")
_HOST, _UPSTREAM = _BEHIND.index("HostHeader"), _BEHIND.index("Upstream")
_NAMES: Final = (
    "TimeGenerated RemoteIp RemoteUser Method RequestUri HttpVersion HttpStatus BytesSent RequestRaw"
)
_ORDER: Final = (*_NAMES.split(), *_BEHIND)
_LONGEST_USER: Final = 2048


def parse(line: str) -> Values | str:
    """The values of a line; why it is none."""
    if line.find("[") > _LONGEST_USER:
        return "no time near its start"
    match = _FRONT.fullmatch(line)
    found = fields_of(match["tail"]) if match else None
    if match is None or found is None or len(found) < 3:
        return "its fields are not those of the combined format"
    request, status, size, *behind = found
    while len(behind) > _UPSTREAM + 1 and behind[_UPSTREAM].endswith((",", " :")):
        behind[_UPSTREAM : _UPSTREAM + 2] = [f"{behind[_UPSTREAM]} {behind[_UPSTREAM + 1]}"]
    asked = _REQUEST.fullmatch(request)
    method, uri, version = asked.groups() if asked else ("", "", "")
    more = behind[len(_BEHIND) :]
    named = [_plain(_dash(value)) for value in behind[: len(_BEHIND)]] + [""] * (len(_BEHIND) - len(behind))
    if match["host"]:
        named[_HOST] = _without_port(match["host"])
    return (
        clf(match["time"]),
        match["RemoteIp"],
        _dash(match["RemoteUser"]),
        method,
        _plain(uri),
        version,
        status,
        size,
        request,
        *named,
        rest_of({"more": more}) if more else None,
    )


def _dash(text: str) -> str:
    return "" if text == "-" else text


def _plain(text: str) -> str:
    r"""What nginx writes as \x22 and the like, as it was sent; bytes that are no UTF-8 stay escaped.

    >>> _plain(r"a\x22b\xC3\xA9\xff")
    'a"bé\\xff'
    """
    if "\\" not in text:
        return text
    packed = b"".join(
        bytes.fromhex(part[2:])
        if part[:2] == "\\x"
        else part[-1:].encode()
        if part[:1] == "\\"
        else part.encode()
        for part in re.split(r"(\\x[0-9A-Fa-f]{2}|\\[\"\\])", text)
    )
    return packed.decode("utf-8", "backslashreplace")


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() and (":" not in name or name.endswith("]")) else host


PROXY: Final = TextSource(
    "proxy",
    TABLE,
    _ORDER,
    parse,
    first=re.compile(
        rb"(?:[^\s\"\[\]]{1,255} )?[0-9A-Fa-f]{0,4}[.:][0-9A-Fa-f.:]{1,43} \S+ [^\[\"\n]{1,256}"
        rb"\[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [-+]\d{4}\] \""
    ),
    what="proxy log line",
)
