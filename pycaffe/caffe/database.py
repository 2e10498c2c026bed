"""Databases of images: key and value pairs in the order of their keys, in LMDB or LevelDB.

A database is a folder. Reading never writes to it, so one on a read-only disk will do, and several
layers and processes may read one LMDB at a time (LevelDB allows a single process).
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb

from .errors import CaffeError
from .log import logger

_BATCH = 1000  # pairs a transaction, as Caffe's tools write them


class Database:
    """A database opened for reading. ``source`` is its folder, ``entries`` how many pairs it has, or None."""

    entries: int | None = None

    def __init__(self, source: str):
        self.source = source

    def pairs(self) -> Iterator[tuple[bytes, memoryview | bytes]]:
        """Every (key, value) once, in the order of the keys; a value may be a view, valid until the next."""
        raise NotImplementedError


class _LMDB(Database):
    def __init__(self, source: str):
        super().__init__(source)
        with self._errors():
            self._env = lmdb.open(source, readonly=True, lock=False, subdir=os.path.isdir(source))
            self.entries = self._env.stat()["entries"]
            needed = (self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"]
        file = os.path.join(source, "data.mdb") if os.path.isdir(source) else source
        if os.path.getsize(file) < needed:  # reading on would end the process
            raise CaffeError(
                f"{source}: the LMDB is truncated: {file} has {os.path.getsize(file)} bytes, its own header says "
                f"{needed}. Copy it again (a copy made during writing is of no use)."
            )

    @contextmanager
    def _errors(self):
        try:
            yield
        except lmdb.Error as error:
            raise CaffeError(f"{self.source}: not a readable LMDB: {error}") from error

    def pairs(self):
        with self._errors(), self._env.begin(buffers=True) as transaction:
            for key, value in transaction.cursor():
                yield bytes(key), value


class _LevelDB(Database):
    def __init__(self, source: str):
        super().__init__(source)
        plyvel = _plyvel(source)
        try:
            self._db = plyvel.DB(source, create_if_missing=False)
        except (plyvel.Error, OSError) as error:
            raise CaffeError(f"Failed to open leveldb {source}: {error}") from error
        self._error = plyvel.Error

    def pairs(self):
        try:
            with self._db.iterator() as iterator:
                yield from iterator
        except self._error as error:
            raise CaffeError(f"{self.source}: not a readable LevelDB: {error}") from error


def _plyvel(source: str):
    try:
        import plyvel
    except ImportError as error:
        raise CaffeError(
            f"{source}: LevelDB needs the package plyvel (pip install 'pycaffe-torch[leveldb]'). If the database is "
            "an LMDB, say so: backend: LMDB (a prototxt that names no backend means LEVELDB)."
        ) from error
    return plyvel


# neither library opens a database twice in one process
_opened: weakref.WeakValueDictionary[tuple[str, int, int], Database] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def open_database(source, backend: str) -> Database:
    """The database in the folder ``source``; ``backend`` is "lmdb" or "leveldb", in any case.

    Raises CaffeError, naming the folder, when it is missing, of the other kind, damaged or empty.
    """
    source, kind = os.fspath(source), _kind(backend)
    if not os.path.exists(source):
        raise CaffeError(f"database {source}: No such file or directory")
    stored = _stored(source)
    if stored and stored is not kind:
        right = "LMDB" if stored is _LMDB else "LEVELDB"
        raise CaffeError(
            f"database {source} is of kind {right}, but its backend is said to be {backend.upper()}: "
            f"say backend: {right} (a prototxt that names no backend means LEVELDB)"
        )
    file = os.path.join(source, "data.mdb") if stored is _LMDB else source
    name = backend.lower(), os.stat(file).st_dev, os.stat(file).st_ino  # a new one at an old path is another
    with _lock:
        database = _opened.get(name)
        if database is None:
            database = _opened[name] = kind(source)
    if database.entries == 0 or next(database.pairs(), None) is None:
        raise CaffeError(f"database {source} is empty: it holds no key")
    logger.info("Opened %s %s", backend.lower(), source)
    return database


def _kind(backend: str) -> type:
    kinds = {"lmdb": _LMDB, "leveldb": _LevelDB}
    if backend.lower() not in kinds:
        raise CaffeError(f"Unknown database backend: {backend}; there are lmdb and leveldb")
    return kinds[backend.lower()]


def _stored(source: str) -> type | None:
    """The kind of database that the files in ``source`` look like."""
    if os.path.isfile(os.path.join(source, "data.mdb")):
        return _LMDB
    return _LevelDB if os.path.isfile(os.path.join(source, "CURRENT")) else None


class Cursor:
    """The pairs of ``database`` by number, round and round."""

    def __init__(self, database: Database):
        self._database = database
        self._entries = database.entries
        self._restart()

    def _restart(self) -> None:
        self._pairs, self._next = self._database.pairs(), 0

    def at(self, number: int) -> tuple[bytes, bytes]:
        """The pair that comes ``number``-th from the first (0), the first coming again after the last."""
        while True:
            if self._entries is not None:
                number %= self._entries
            if number < self._next:
                self._restart()
            for key, value in self._pairs:
                self._next += 1
                if self._next > number:
                    return key, bytes(value)
            self._entries = self._next  # the end: now it is known where that is


@contextmanager
def new_database(path, backend: str):
    """A function ``put(key, value)`` of bytes that writes into a new database in the folder ``path``.

    The folder appears when the block ends without an error, and only then. ``backend`` is "lmdb" or
    "leveldb". Raises CaffeError when something is there already, or writing fails.
    """
    path = Path(os.fsdecode(os.fspath(path)))
    _kind(backend)
    if path.exists():
        raise CaffeError(f"mkdir {path} failed: it exists. Remove it first, or choose another name.")
    try:
        folder = tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    except OSError as error:
        raise CaffeError(f"mkdir {path} failed: {error.strerror}") from error
    try:
        with (_write_lmdb if backend.lower() == "lmdb" else _write_leveldb)(folder, path) as put:
            yield put
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(folder, 0o777 & ~mask)
        os.replace(folder, path)
    except OSError as error:
        raise CaffeError(f"cannot write {path}: {error.strerror}. Nothing was changed.") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _write_lmdb(folder: str, path: Path):
    waiting: list[tuple[bytes, bytes]] = []

    def flush():
        while True:
            try:
                with env.begin(write=True) as transaction:
                    for pair in waiting:
                        transaction.put(*pair)
                waiting.clear()
                return
            except lmdb.MapFullError:
                env.set_mapsize(2 * env.info()["map_size"])

    def put(key: bytes, value: bytes):
        waiting.append((key, value))
        if len(waiting) == _BATCH:
            flush()

    try:
        with lmdb.open(folder, map_size=1 << 24) as env:
            yield put
            flush()
    except lmdb.Error as error:
        raise CaffeError(f"cannot write {path}: {error}. Nothing was changed.") from error


@contextmanager
def _write_leveldb(folder: str, path: Path):
    plyvel = _plyvel(str(path))
    try:
        database = plyvel.DB(folder, create_if_missing=True)
        try:
            yield database.put
        finally:
            database.close()
    except plyvel.Error as error:
        raise CaffeError(f"cannot write {path}: {error}. Nothing was changed.") from error
