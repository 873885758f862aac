"""HTTP for any shipper: `POST /ingest/TABLE` of JSON, on disk before it is acknowledged.

A body is checked as a whole and put into the spool; only then the shipper hears 200. The connector's own
thread takes the spool into the lake, where each body is an object of the ledger.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import hmac
import ipaddress
import os
import re
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from trailhawk.connectors.bodies import LATER, BodyError, Bounds, records, text_lines, unpacked
from trailhawk.connectors.connector import Board, ConnectorError, Intake, State, Taker
from trailhawk.connectors.objects import Outcome
from trailhawk.connectors.parts import failure
from trailhawk.connectors.spool import Spool, Spooled
from trailhawk.connectors.store import MOST_FAILED, TableError
from trailhawk.errors import TrailhawkError
from trailhawk.files import FULL, in_words
from trailhawk.sources import Source

if TYPE_CHECKING:
    import uvicorn
    from starlette.requests import Request
    from starlette.responses import Response

    from trailhawk.connectors.config import ConnectorSettings
    from trailhawk.settings import Section

_LISTEN: Final = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^:\[\]]+):(?P<port>\d{1,5})")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_LEAST_TOKEN: Final = 16
_RETRY_SECONDS: Final = 5.0
_IDLE_SECONDS: Final = 0.2
_BODIES_AT_ONCE: Final = 32
_KEPT_AT_ONCE: Final = 2
"""Of these so many are unpacked and checked at a time: each may take three times `max_unpacked_mib`."""
_LOCK: Final = "listening"
"""A file that the process of a home which listens has locked."""
_TAKING, _LISTENING, _BODIES = "taking", "listening", "bodies"  # causes of problems


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """An address to listen at, and who may post what.

    A shipper shows a bearer token: one whose SHA-256 is in `token_sha256`, a line of `token_file`, or the
    value of the environment variable `token_env`. `tables` are those that may be filled, empty for all.
    """

    name: str
    host: str
    port: int
    token_sha256: tuple[str, ...] = ()
    token_file: Path | None = None
    token_env: str = ""
    tables: tuple[str, ...] = ()
    certificate: Path | None = None
    key: Path | None = None
    bounds: Bounds = field(default_factory=Bounds)
    spool_bytes: int = 1024 << 20
    read_seconds: int = 60
    flush_seconds: int = 5

    type = "http"

    @property
    def where(self) -> str:
        return f"{'https' if self.certificate else 'http'}://{self.host}:{self.port}/ingest/TABLE"

    @classmethod
    def read(cls, name: str, section: Section) -> Self:
        listen = section.text("listen", "127.0.0.1:8514")
        match = _LISTEN.fullmatch(listen)
        if match is None or int(match["port"]) > 65_535:
            raise section.wrong("listen", f"is {listen!r}", hint='write listen = "127.0.0.1:8514"')
        home = section.file.parent
        certificate, key = section.text("tls_certificate", ""), section.text("tls_key", "")
        if bool(certificate) != bool(key):
            raise section.wrong("tls_key", "goes with tls_certificate", hint="give both or none")
        host = match["host"].strip("[]")
        if not certificate and not section.flag("plain", False) and not _is_own(host):
            raise section.wrong(
                "listen",
                f"is {listen!r}, which others reach, without TLS",
                hint="give tls_certificate and tls_key, or plain = true behind a proxy that has them",
            )
        hashes = section.texts("token_sha256")
        for each in hashes:
            if not _SHA256.fullmatch(each):
                raise section.wrong("token_sha256", "has what is no SHA-256 in hexadecimal")
        token_file = section.text("token_file", "")
        read = cls(
            name=name,
            host=host,
            port=int(match["port"]),
            token_sha256=hashes,
            token_file=home / token_file if token_file else None,
            token_env=section.text("token_env", ""),
            tables=section.texts("tables"),
            certificate=home / certificate if certificate else None,
            key=home / key if key else None,
            bounds=Bounds(
                body_bytes=section.number("max_body_mib", 16, least=1, most=1024) << 20,
                unpacked_bytes=section.number("max_unpacked_mib", 128, least=1, most=4096) << 20,
                records=section.number("max_records", 100_000, least=1, most=10_000_000),
                depth=section.number("max_depth", 64, least=2, most=1000),
            ),
            spool_bytes=section.number("max_waiting_mib", 1024, least=1) << 20,
            read_seconds=section.number("read_seconds", 60, least=1, most=3600),
            flush_seconds=section.number("flush_seconds", 5, most=3600),
        )
        if not (read.token_sha256 or read.token_file or read.token_env):
            raise section.wrong(
                "token_sha256",
                "is missing",
                hint="give token_sha256, token_file or token_env: nobody may post without a token",
            )
        return read


def _is_own(host: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def connector(settings: ConnectorSettings, intake: Intake) -> HttpConnector:
    """The connector of these settings."""
    if not isinstance(settings, HttpSettings):
        raise TypeError(f"settings of type {settings.type}")
    return HttpConnector(settings, intake)


class HttpConnector:
    """Listens, keeps what comes, and takes it into the lake."""

    def __init__(self, settings: HttpSettings, intake: Intake) -> None:
        self._settings = settings
        self._intake = intake
        self._board = Board(settings.name, settings.type, intake.clock)
        self._sources: dict[str, list[Source]] = {}
        for source in intake.sources:
            if not settings.tables or source.table.name in settings.tables:
                self._sources.setdefault(source.table.name, []).append(source)
        unknown = sorted(set(settings.tables) - set(self._sources))
        if unknown:
            raise ConnectorError(
                f"connector {settings.name}: no log source fills {', '.join(unknown)}",
                hint="describe one in the home's sources folder, see docs/sources.md",
            )
        self._hashes = _hashes(settings)
        self._spool = Spool(intake.folder / "spool")
        self._fresh = threading.Event()
        self._in_flight: dict[str, Spooled] = {}
        self._held_up: set[str] = set()
        """Tables into which nothing could be stored at the last try, while others could."""
        self.port = 0
        """Where it listens; 0 while it does not."""

    @property
    def name(self) -> str:
        return self._settings.name

    def state(self) -> State:
        return self._board.state()

    # The way into the lake

    def run(self, stop: threading.Event, *, once: bool = False) -> None:
        """Listen, and take what is kept, until `stop` is set. With `once` it takes what waits and ends.

        Where the port is in use (by another process of the same home) it only takes, and tries again.
        """
        taker = self._intake.taker(f"{self.name}@{socket.gethostname()}:{os.getpid()}")
        server: _Server | None = None
        tried = -_RETRY_SECONDS
        self._in_flight.clear()  # of a run that ended with an error
        try:
            while not stop.is_set():
                if not once and server is None and time.monotonic() - tried >= _RETRY_SECONDS:
                    tried = time.monotonic()
                    server = self._listen()
                try:
                    took = self._take(taker, stop)
                except (TrailhawkError, OSError) as error:
                    if once:
                        raise ConnectorError(str(error)) from error
                    if isinstance(error, TableError):
                        self._held_up |= {item.table for item in self._in_flight.values()}
                    self._in_flight.clear()  # what was not told as done is brought again
                    self._board.problem(_TAKING, in_words(error))
                    stop.wait(_RETRY_SECONDS)
                    continue
                self._board.over(_TAKING)
                if once and not took:
                    return
                if not took:
                    self._board.idle()
                    self._fresh.wait(_IDLE_SECONDS)
                    self._fresh.clear()
        finally:
            if server is not None:
                server.stop()
            self.port = 0
            self._board.doing("stopped")

    def _take(self, taker: Taker, stop: threading.Event) -> bool:
        """Take what waits, and store it after the settings' seconds at the latest; whether there was any."""
        began = time.monotonic()
        took = False
        while not stop.is_set():
            fresh = self._to_try()
            for item in fresh:
                took = True
                self._begin(taker, item)
                if stop.is_set():
                    return took  # it waits on: one of few bodies would be taken to be at fault for the table
            self._board.flight(len(self._in_flight))
            waited = time.monotonic() - began
            if not self._in_flight or waited >= self._settings.flush_seconds:
                break
            if not fresh:
                self._fresh.wait(min(_IDLE_SECONDS, self._settings.flush_seconds - waited))
                self._fresh.clear()
        if self._in_flight:
            taker.flush()
            self._board.flight(len(self._in_flight))
        return took

    def _to_try(self) -> list[Spooled]:
        """What waits and is not begun. For a table that is held up few bodies, lest all be read again at each
        try, as many as show that none of them is at fault; not always the same, which might be at fault."""
        fresh = [item for item in self._spool.waiting() if item.identity not in self._in_flight]
        if not self._held_up:
            return fresh
        self._intake.rng.shuffle(fresh)
        found: list[Spooled] = []
        few = Counter(item.table for item in self._in_flight.values())
        for item in fresh:
            few[item.table] += 1
            if item.table not in self._held_up or few[item.table] <= MOST_FAILED:
                found.append(item)
        return found

    def _begin(self, taker: Taker, item: Spooled) -> None:
        """Bring a body to the ingest, unless another process of this home was done with it meanwhile."""
        try:
            file = item.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            self._in_flight[item.identity] = item
            body = item.log_object(file, self._sources.get(item.table, ()))
            taker.take(body, partial(self._done, item))

    def _done(self, item: Spooled, outcome: Outcome) -> None:
        if outcome.state in ("unreadable", "quarantined"):
            self._spool.keep(item)
        else:
            self._spool.done(item)
        self._in_flight.pop(item.identity, None)
        self._held_up.discard(item.table)
        self._board.ended(outcome, item.size)

    # The way in

    def _listen(self) -> _Server | None:
        try:
            server = _Server(self._settings, self._app(), self._intake.folder / _LOCK)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and self._another_listens():
                self._board.over(_LISTENING)
                self._board.doing("taking what another process of this home receives")
                return None
            said = f"cannot listen at {self._settings.where}: {error.strerror or error}"
            self._board.problem(_LISTENING, said)
            return None
        self.port = server.port
        self._board.over(_LISTENING)
        self._board.doing(f"listening at port {server.port}")
        return server

    def _another_listens(self) -> bool:
        """Whether a process of this home does, which holds the lock meanwhile."""
        with suppress(OSError), (self._intake.folder / _LOCK).open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def _app(self) -> Callable[..., Awaitable[None]]:
        from starlette.applications import Starlette
        from starlette.routing import Route

        self._gate = asyncio.Semaphore(_BODIES_AT_ONCE)
        self._desk = asyncio.Semaphore(_KEPT_AT_ONCE)
        return Starlette(
            routes=[
                Route("/ingest/{table}", self._post, methods=["POST"]),
                Route("/health", self._health, methods=["GET"]),
            ]
        )

    async def _health(self, request: Request) -> Response:
        from starlette.responses import JSONResponse

        return JSONResponse({"status": "ok"})

    async def _post(self, request: Request) -> Response:
        """200 after the body is kept, or the reason why it is not."""
        from starlette.responses import JSONResponse

        try:
            if not self._is_known(request.headers.get("authorization", "")):
                raise BodyError(401, "a bearer token is needed that this connector knows")
            table = request.path_params["table"]
            if table not in self._sources:
                raise BodyError(404, f"no table {table[:60]!r}; there is {', '.join(sorted(self._sources))}")
            if self._gate.locked() or self._is_full(table):
                raise BodyError(429, "too much waits to be stored: send it again later")
            async with self._gate:
                body = await self._body(request)
                encoding = request.headers.get("content-encoding", "").strip().lower()
                kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
                key = request.headers.get("idempotency-key", "")
                async with self._desk:
                    count, body_id = await asyncio.to_thread(self._keep, table, body, encoding, kind, key)
        except Exception as error:
            if not isinstance(error, BodyError):
                # Told here, as the server's own log is not: who sends nonsense is not to fill ours.
                said = f"a body could not be taken: {failure(error)}"
                self._board.problem(_BODIES, said)
                error = BodyError(500, said)
            headers = {401: {"WWW-Authenticate": "Bearer"}, 429: LATER, 503: LATER}.get(error.status, {})
            return JSONResponse({"error": error.reason}, error.status, headers)
        self._board.over(_BODIES)
        self._fresh.set()
        return JSONResponse({"accepted": count, "id": body_id})

    def _is_full(self, table: str) -> bool:
        """Whether as much waits as may. Tables that are held up have half of it beside the others, whose
        bodies find room whatever those leave."""
        held_up = set(self._held_up)
        is_held_up = table in held_up
        waits = sum(size for name, size in self._spool.sizes().items() if (name in held_up) == is_held_up)
        return waits >= self._settings.spool_bytes // (2 if is_held_up else 1)

    async def _body(self, request: Request) -> bytes:
        from starlette.requests import ClientDisconnect

        most = self._settings.bounds.body_bytes
        too_large = BodyError(413, f"the body is larger than {most:,} bytes")
        length = request.headers.get("content-length", "0")
        if length.isdecimal() and int(length) > most:
            raise too_large
        pieces: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._settings.read_seconds):
                async for piece in request.stream():
                    size += len(piece)
                    if size > most:
                        raise too_large
                    pieces.append(piece)
        except ClientDisconnect:
            raise BodyError(400, "the connection ended before the body did") from None
        except TimeoutError:
            raise BodyError(408, f"the body took longer than {self._settings.read_seconds} s") from None
        return b"".join(pieces)

    def _keep(self, table: str, body: bytes, encoding: str, kind: str, key: str) -> tuple[int, str]:
        """Check the body and put it into the spool; how many records, and what they are known by."""
        bounds = self._settings.bounds
        text = unpacked(body, encoding, bounds)
        found = text_lines(text, bounds) if kind == "text/plain" else records(text, bounds)
        known = _known(table, key, kind, text) if key else uuid.uuid4().hex
        if not found:
            return 0, known
        try:
            self._spool.put(table, known, found)
        except OSError as error:
            status = 503 if error.errno in (*FULL, errno.EFBIG) else 500
            raise BodyError(status, f"it cannot be kept: {error.strerror}") from None
        return len(found), known

    def _is_known(self, authorization: str) -> bool:
        """Compared in the same time, whatever was sent: hashes of all tokens with that of the one sent."""
        scheme, _, token = authorization.partition(" ")
        sent = hashlib.sha256(token.strip().encode()).digest()
        found = False
        for known in self._hashes:
            found |= hmac.compare_digest(sent, known)
        return found and scheme.lower() == "bearer"


def _known(table: str, key: str, kind: str, text: bytes) -> str:
    """What a body with a key is known by: a shipper that heard no answer sends it again. Another body with
    the same key, or the same of another kind, which is read in another way, is another one."""
    known = hashlib.sha256(f"{table}\0{key}\0{kind}\0".encode())
    known.update(text)
    return known.hexdigest()[:32]


def _hashes(settings: HttpSettings) -> Sequence[bytes]:
    """The hashes of all tokens; ConnectorError where one cannot be had or is easily guessed."""
    tokens = []
    if settings.token_file:
        try:
            text = settings.token_file.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise ConnectorError(
                f"connector {settings.name}: token_file: {settings.token_file}: {error.strerror}",
                hint="make one with `openssl rand -hex 32 > FILE`",
            ) from None
        except UnicodeDecodeError:
            raise ConnectorError(
                f"connector {settings.name}: token_file: {settings.token_file} is not UTF-8 text"
            ) from None
        tokens += [line.strip() for line in text.splitlines() if line.strip()]
    if settings.token_env:
        token = os.environ.get(settings.token_env, "").strip()
        if not token:
            raise ConnectorError(f"connector {settings.name}: the variable {settings.token_env} is not set")
        tokens.append(token)
    if any(len(token) < _LEAST_TOKEN for token in tokens):
        raise ConnectorError(
            f"connector {settings.name}: a token is shorter than {_LEAST_TOKEN} characters",
            hint="make one with `openssl rand -hex 32`",
        )
    hashes = [hashlib.sha256(token.encode()).digest() for token in tokens]
    hashes += [bytes.fromhex(each) for each in settings.token_sha256]
    if not hashes:
        raise ConnectorError(f"connector {settings.name}: token_file holds no token")
    return hashes


class _Server:
    """uvicorn in a thread of its own, listening when this is made, and with the lock of its home."""

    def __init__(self, settings: HttpSettings, app: Callable[..., Awaitable[None]], lock: Path) -> None:
        import uvicorn

        from trailhawk.connectors.patience import Patience

        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        self._lock = lock.open("ab")
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((settings.host, settings.port))
            self._socket.listen(512)
        except OSError:
            self._lock.close()
            self._socket.close()
            raise
        self.port: int = self._socket.getsockname()[1]
        with suppress(OSError):  # of a folder that knows no locks
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        config = uvicorn.Config(
            app,
            http=Patience,
            log_config=None,
            log_level="critical",
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=settings.read_seconds,
            ssl_certfile=settings.certificate,
            ssl_keyfile=settings.key,
        )
        self._server: uvicorn.Server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="http", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Take no more; what is being received is finished, within its time."""
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()
        self._lock.close()
