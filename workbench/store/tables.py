"""The store's tables, and the connection to the database file or server that holds them."""

import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError, SQLAlchemyError
from sqlalchemy.schema import CreateIndex, CreateTable

from workbench.errors import WorkbenchError
from workbench.store.run import checkpoints_in, runs_folder

SCHEMA = 2
"""Schema version: raise it with every change of the tables; stores of a higher one are refused."""

PATIENCE = 30
"""Seconds that a writer waits for another writer."""
UNUSABLE = {
    "database is locked": (
        "another program has kept it busy for long: end that program, and try again"
    ),
    "disk is full": "free some space, and try again",
    "disk I/O error": "look whether the disk is full or broken, and try again",
    "readonly database": "set WORKBENCH_HOME to a folder that you may write to",
    "unable to open database file": "set WORKBENCH_HOME to a folder that you may write to",
}
"""The mend for each of SQLite's messages about a file that it cannot write."""

DAMAGED = (
    "file is not a database",
    "disk image is malformed",
    "no such table",
    "no such column",
    "malformed database",
)
"""SQLite's messages about a damaged file; this module makes all tables and columns it reads."""


class Words(sa.TypeDecorator[str]):
    """Text in which characters that no database holds are replaced."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        """The text as it is stored: half characters and the null character become "?"."""
        if value is None:
            return None
        return value.encode("utf-8", "replace").decode().replace("\x00", "?")


_metadata = sa.MetaData()

meta = sa.Table(
    "meta",
    _metadata,
    sa.Column("key", sa.String(32), primary_key=True),
    sa.Column("value", sa.Text),
)

runs = sa.Table(
    "runs",
    _metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("title", Words, nullable=False),
    sa.Column("status", sa.String(16), nullable=False, index=True),
    sa.Column("config", sa.Text, nullable=False),  # JSON as text, as JSON columns refuse NaN
    sa.Column("result", sa.Text),
    sa.Column("progress", sa.Double, nullable=False, default=0.0),
    sa.Column("message", Words, nullable=False, default=""),
    sa.Column("error", Words),
    sa.Column("parent", Words),
    sa.Column("created", sa.Double, nullable=False, index=True),
    sa.Column("started", sa.Double),
    sa.Column("ended", sa.Double),
    sa.Column("heartbeat", sa.Double, nullable=False),
    sa.Column("stop", sa.Boolean, nullable=False, default=False),
    sa.Column("pid", sa.Integer),
    sa.Column("pid_started", sa.Double),
    sa.Column("host", sa.Text),
    sa.Column("commit", sa.Text),
    sa.Column("versions", sa.Text, nullable=False),
)

metrics = sa.Table(
    "metrics",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("run_id", sa.String(32), nullable=False, index=True),
    sa.Column("step", sa.BigInteger, nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("value", sa.Double),  # NULL stands for NaN, which SQLite cannot hold
    sa.Column("time", sa.Double, nullable=False),
)

tags = sa.Table(
    "tags",
    _metadata,
    sa.Column("run_id", sa.String(32), primary_key=True),
    sa.Column("tag", sa.String(64), primary_key=True),
)


def open_engine(url: str) -> sa.Engine:
    """Connects to the store at a SQLAlchemy URL and makes its tables when they are missing.

    Raises:
        WorkbenchError: The URL names no usable database, or one of a newer workbench.
    """
    shown = url
    try:
        parsed = _with_driver(make_url(url))
        shown = str(parsed.database if _is_sqlite(parsed) else parsed)
        # A server may have been restarted since a connection was last used.
        engine = sa.create_engine(
            parsed, connect_args=_connect_args(parsed), pool_pre_ping=not _is_sqlite(parsed)
        )
        if _is_sqlite(parsed):
            event.listen(engine, "connect", _on_connect)
        event.listen(
            engine, "handle_error", lambda context: _if_damaged(context.original_exception, shown)
        )
        try:
            version = _schema_of(engine)
            if version < SCHEMA:
                version = _make_tables(engine)
        except BaseException:
            engine.dispose()  # its connection may hold a lock
            raise
        # Only now, because making the tables retries while the database is busy.
        event.listen(
            engine, "handle_error", lambda context: _if_unusable(context.original_exception, shown)
        )
    except UnicodeDecodeError as error:  # SQLite's own message quotes bytes of the file
        raise _damaged(error, shown) from error
    except ModuleNotFoundError as error:
        raise WorkbenchError(
            f"cannot open the run store {shown} ({error}); install its driver, for PostgreSQL by "
            'pip install "gpt-workbench[postgres]"'
        ) from error
    except SQLAlchemyError as error:
        _if_damaged(getattr(error, "orig", None) or error, shown)
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        raise WorkbenchError(
            f"cannot open the run store {shown} ({reason}); set WORKBENCH_HOME to a folder that "
            "you may write to, or WORKBENCH_STORE to the SQLAlchemy URL of a database that you "
            "can reach"
        ) from error
    if version > SCHEMA:
        raise WorkbenchError(
            f"the run store {shown} was written by a newer workbench (schema {version}, this one "
            f"knows {SCHEMA}); upgrade gpt-workbench, or set WORKBENCH_HOME to another folder"
        )
    return engine


def _if_damaged(error: BaseException, shown: str) -> None:
    """Raise `WorkbenchError` where the database file is damaged, listing what run folders hold."""
    if any(words in str(error) for words in DAMAGED):
        raise _damaged(error, shown) from error


def _damaged(error: BaseException, shown: str) -> WorkbenchError:
    return WorkbenchError(
        f"the run store {shown} is damaged ({error}). {_what_is_left()} Move the file aside (a new "
        "one is made at the next start), or put a copy of yours in its place"
    )


def _if_unusable(error: BaseException, shown: str) -> None:
    """Raise `WorkbenchError` where the database file cannot be written: busy, full or read-only."""
    mend = next((mend for words, mend in UNUSABLE.items() if words in str(error)), None)
    if mend is not None:
        raise WorkbenchError(f"the run store {shown} cannot be used ({error}); {mend}") from error


def _what_is_left() -> str:
    """A text about the contents of the run folders, which need no database."""
    folders = [folder for folder in sorted(runs_folder().iterdir()) if folder.is_dir()]
    holds = []
    for folder in folders:
        steps = list(checkpoints_in(folder))
        results = [path.parent.name for path in folder.glob("*/results.json")]
        parts = [f"checkpoints of steps {', '.join(map(str, steps))}"] if steps else []
        parts += [f"results of {', '.join(results)}"] if results else []
        if parts:
            holds.append(f"{folder}: {'; '.join(parts)}")
    if not holds:
        return "No run folder holds a checkpoint or a result."
    contents = "\n".join(holds)
    return (
        "Nothing in the run folders is lost; models load by their folder's path. They hold:\n"
        f"{contents}\n"
    )


def _with_driver(url: URL) -> URL:
    """The URL with our driver for PostgreSQL where it names none."""
    if url.drivername in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    return url


def _is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def _connect_args(url: URL) -> dict[str, Any]:
    if not _is_sqlite(url):
        return {}
    if url.database in (None, "", ":memory:"):
        raise WorkbenchError(
            "the run store cannot live in memory, where no background job sees it; name a file"
        )
    return {"timeout": PATIENCE}


def _on_connect(connection: Any, _record: Any) -> None:
    # With a write-ahead log, a power cut may lose the last instants; a kill loses nothing.
    connection.execute("PRAGMA synchronous=NORMAL")


def _schema_of(engine: sa.Engine) -> int:
    """The schema version in the table `meta`; 0 where there is none yet."""
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table("meta"):
            return 0
        return int(connection.scalar(sa.select(meta.c.value).where(meta.c.key == "schema")) or 0)


def _make_tables(engine: sa.Engine) -> int:
    """Makes missing tables, also those that an older workbench did not know.

    Several processes may do so at once, so a lost race is tried again.
    """
    end = time.monotonic() + PATIENCE
    while True:
        try:
            with engine.begin() as connection:
                if _is_sqlite(engine.url):
                    # Lets readers work while there is a writer.
                    connection.exec_driver_sql("PRAGMA journal_mode=WAL")
                for table in _metadata.sorted_tables:
                    connection.execute(CreateTable(table, if_not_exists=True))
                    for index in table.indexes:
                        connection.execute(CreateIndex(index, if_not_exists=True))
                schema = {"key": "schema", "value": str(SCHEMA)}
                older = sa.update(meta).where(meta.c.key == "schema").values(schema)
                if not connection.execute(older).rowcount:
                    connection.execute(sa.insert(meta).values(schema))
        except (IntegrityError, OperationalError, ProgrammingError) as error:
            if (version := _schema_of(engine)) >= SCHEMA:
                return version
            # SQLite itself has waited for the lock by now, mostly in vain only for an instant.
            # On a server, two that make the same table at once collide: PostgreSQL says then that a
            # key, or the type of the table's rows, "already exists".
            passing = isinstance(error, IntegrityError)
            passing = passing or any(word in str(error) for word in ("locked", "already exists"))
            if time.monotonic() > end or not passing:
                raise
            time.sleep(0.02)
        else:
            return SCHEMA
