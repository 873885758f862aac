"""externaldata over HTTP: hosts on the list, redirects, private networks, limits of size and time."""

from __future__ import annotations

import gzip
import io
import socket
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast

import pytest

from support.catalog import NoTables
from trailhawk.engine.download import AllowedHosts, Bounds, Origin
from trailhawk.engine.duckdb import DuckDBEngine
from trailhawk.engine.external import External
from trailhawk.errors import LimitError, NotAllowedError, QueryError

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def zipped() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.csv", "y,2\n")
    return packed.getvalue()


class Site(BaseHTTPRequestHandler):
    """A host that gives files, redirects, and does what bad hosts do."""

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        port = cast(ThreadingHTTPServer, self.server).server_port
        match path:
            case "/lists/a.csv":
                self.answer(b"x,1\n")
            case "/lists/asked":
                self.answer(f"{query},{len(self.headers)}\n".encode())
            case "/lists/a.csv.gz":
                self.answer(gzip.compress(b"z,3\n"))
            case "/lists/a.zip":
                self.answer(zipped())
            case "/lists/large":
                self.answer(b"0,0\n" * (1 << 19))
            case "/lists/bomb.csv.gz":
                self.answer(gzip.compress(b"0,0\n" * (1 << 19)))
            case "/lists/moved":
                self.redirect("a.csv")
            case "/lists/loop":
                self.redirect("/lists/loop")
            case "/lists/away":
                self.redirect("/other/secret.csv")
            case "/lists/inside":
                self.redirect(f"http://[::1]:{port}/lists/a.csv")
            case "/lists/file":
                self.redirect("file:///etc/hostname")
            case "/lists/slow":
                self.send_response(200)
                self.end_headers()
                while True:
                    self.wfile.write(b"0")
                    self.wfile.flush()
                    time.sleep(0.1)
            case "/lists/broken":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b"x,1\n")
            case _:
                self.send_error(404)

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def redirect(self, to: str) -> None:
        self.send_response(302)
        self.send_header("Location", to)
        self.end_headers()

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            return  # the reader has left, as it should

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


Read = Callable[..., list[tuple[object, ...]]]


@pytest.fixture
def read(port: int) -> Read:
    def read(
        path: str,
        *,
        allow: str = "http://127.0.0.1:{port}/lists",
        host: str = "127.0.0.1",
        bounds: Bounds | None = None,
        private: bool = False,
    ) -> list[tuple[object, ...]]:
        hosts = AllowedHosts.of([allow.format(port=port)], private=private)
        engine = DuckDBEngine(
            NoTables(),
            external=External(hosts=hosts, bounds=bounds or Bounds(1 << 20, 5, 3)),
        )
        try:
            text = f'externaldata(s: string, n: long)["http://{host}:{port}{path}"]'
            return engine.query(text, now=NOW).tuples()
        finally:
            engine.close()

    return read


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/lists/a.csv", ("x", 1)),
        ("/lists/asked?key=s%20e", ("key=s%20e", 4)),
        ("/lists/a.csv.gz", ("z", 3)),
        ("/lists/a.zip", ("y", 2)),
        ("/lists/moved", ("x", 1)),
    ],
)
def test_files_of_a_host_on_the_list(read: Read, path: str, expected: tuple[object, ...]) -> None:
    assert read(path) == [expected]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/other/secret.csv?key=hidden", "externaldata 127.0.0.1"),
        ("/lists/../other/secret.csv", "externaldata 127.0.0.1"),
        ("/lists/%2e%2e/other/secret.csv", "externaldata 127.0.0.1"),
        ("/listsother", "externaldata 127.0.0.1"),
        ("/lists/away", "externaldata 127.0.0.1"),
        ("/lists/inside", "externaldata ::1"),
        ("/lists/file", "externaldata"),
    ],
)
def test_what_the_list_does_not_have(read: Read, path: str, message: str) -> None:
    with pytest.raises(NotAllowedError, match=message) as caught:
        read(path)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "allow", ["https://127.0.0.1:{port}", "http://127.0.0.1", "http://127.0.0.1.nip:{port}"]
)
def test_scheme_host_and_port_are_those_of_the_list(read: Read, allow: str) -> None:
    with pytest.raises(NotAllowedError):
        read("/lists/a.csv", allow=allow)


def test_a_name_that_leads_to_a_private_network(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def resolved(host: str, *rest: object, **more: object) -> object:
        return real("127.0.0.1" if host == "feed.example" else host, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    asked = {"host": "feed.example", "allow": "http://feed.example:{port}"}
    with pytest.raises(NotAllowedError, match=r"externaldata feed\.example; its address is private"):
        read("/lists/a.csv", **asked)
    assert read("/lists/a.csv", **asked, private=True) == [("x", 1)]


@pytest.mark.parametrize("path", ["/lists/large", "/lists/bomb.csv.gz"])
def test_a_file_beyond_the_limit(read: Read, path: str) -> None:
    with pytest.raises(LimitError, match="more than 1 MiB"):
        read(path)


def test_a_host_that_drips(read: Read) -> None:
    started = time.monotonic()
    with pytest.raises(LimitError, match=r"took longer than 0\.5 s"):
        read("/lists/slow", bounds=Bounds(1 << 20, 0.5, 3))
    assert time.monotonic() - started < 60  # on a busy machine too


def test_redirects_without_end(read: Read) -> None:
    with pytest.raises(LimitError, match="redirects more than 3 times"):
        read("/lists/loop")


@pytest.mark.parametrize(
    ("path", "message"), [("/lists/none", "HTTP status 404"), ("/lists/broken", "broke off")]
)
def test_a_host_that_fails(read: Read, path: str, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        read(path)


def test_nobody_listens(read: Read) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        free = closed.getsockname()[1]
    engine = DuckDBEngine(
        NoTables(),
        external=External(hosts=AllowedHosts.of([f"http://127.0.0.1:{free}"])),
    )
    with pytest.raises(QueryError, match=r"127\.0\.0\.1 cannot be read"):
        engine.query(f'externaldata(s: string)["http://127.0.0.1:{free}/a.csv"]', now=NOW)
    engine.close()


@pytest.mark.parametrize(
    "uri", ["ftp://host/x", "https://user:pw@host/x", "https://", "https://host:none/", "/etc/passwd"]
)
def test_what_is_no_address(uri: str) -> None:
    assert Origin.of(uri) is None
