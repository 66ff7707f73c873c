"""A PostgreSQL server of its own for tests, from Debian's package, gone when they end."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

PASSWORD = "not-for-logs"


def programs() -> Path | None:
    """The folder of the server's programs, or None where it is not installed."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return folders[-1].parent if folders else None


@contextmanager
def server() -> Iterator["Server"]:
    """A running server with files of its own."""
    # Not in pytest's folder, which is closed to the server's user.
    with TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        running = Server(Path(folder))
        running.start()
        try:
            yield running
        finally:
            running.stop()


class Server:
    """A server on a free port of this machine."""

    def __init__(self, folder: Path) -> None:
        installed = programs()
        assert installed is not None
        self.programs = installed
        self.folder = folder / "database"
        # The server refuses to be root, so it is the package's own user there.
        self._as: dict[str, Any] = {"user": "postgres"} if os.geteuid() == 0 else {}
        self.folder.mkdir()
        if self._as:
            shutil.chown(self.folder, "postgres")
        secret = self.folder.parent / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._run("initdb", "-D", self.folder, "-U", "bench", "-A", "scram-sha-256", "-E", "UTF8",
                  f"--pwfile={secret}")  # fmt: skip
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self.folder} -c fsync=off"
        log = self.folder / "log"
        self._run("pg_ctl", "-D", self.folder, "-w", "-o", options, "-l", log, "start")

    def stop(self) -> None:
        """Stop the server, cutting its connections."""
        self._run("pg_ctl", "-D", self.folder, "-m", "immediate", "stop")

    def url(self, database: str = "postgres", password: str = PASSWORD) -> str:
        """A SQLAlchemy URL of one of its databases."""
        return f"postgresql+psycopg://bench:{password}@127.0.0.1:{self.port}/{database}"

    def new_database(self, name: str) -> str:
        """The URL of a new, empty database."""
        self._run("createdb", "-h", "127.0.0.1", "-p", self.port, "-U", "bench", name)
        return self.url(name)

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(self.programs / program), *map(str, arguments)]
        environment = {**os.environ, "PGPASSWORD": PASSWORD, "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            command,
            cwd="/",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            **self._as,
        )
        assert done.returncode == 0, done.stderr.decode()
