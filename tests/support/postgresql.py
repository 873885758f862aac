"""PostgreSQL for tests, from the programs that are installed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

INSTALLED = shutil.which("initdb") is not None and shutil.which("postgres") is not None


class Server:
    """A cluster of a test's own, which listens to a socket in its folder alone."""

    def __init__(self, folder: Path) -> None:
        # PostgreSQL refuses to run as root, and others cannot look into pytest's folders.
        self._user = "nobody" if os.getuid() == 0 else None
        self._folder = folder
        self.address = f"postgresql://hunter@/postgres?host={folder}"
        if self._user:
            shutil.chown(folder, self._user)
        options = ["-A", "trust", "-U", "hunter", "--no-sync", "--locale=C", "--encoding=UTF8"]
        command = ["initdb", "-D", str(folder / "data"), *options]
        subprocess.run(command, user=self._user, check=True, capture_output=True)

    def start(self) -> None:
        place = ["-D", str(self._folder / "data"), "-k", str(self._folder)]
        command = ["postgres", *place, "-c", "listen_addresses=", "-F"]
        self._process = subprocess.Popen(command, user=self._user, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr
        while "ready to accept connections" not in (line := self._process.stderr.readline()):
            assert line, "the server has ended"
        self._drain = threading.Thread(target=self._process.stderr.read, daemon=True)
        self._drain.start()

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """A fast end: whoever is connected is sent away. With SIGQUIT one as if it had crashed."""
        self._process.send_signal(how)
        self._process.wait(30)
        self._drain.join()
        assert self._process.stderr
        self._process.stderr.close()


@contextmanager
def running() -> Iterator[Server]:
    """A server that runs as long as this lasts."""
    with tempfile.TemporaryDirectory(prefix="th-pg-") as name:
        server = Server(Path(name))
        server.start()
        try:
            yield server
        finally:
            server.stop()
