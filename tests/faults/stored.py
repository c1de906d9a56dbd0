"""Faults of stored backups whose archives were exchanged so that every checksum fits again.

Whoever has the public key can make them; and so can a program that takes the wrong database, or half of it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from flows.core.findings import Rule
from flows.core.naming import GLOBALS_ARCHIVE, MAIN_ARCHIVE
from tests.servers.forgery import Document, StoredBackup, opened, sealed
from tests.servers.postgres import PostgresServer
from tests.servers.programs import run

DBNAME = "stored_faults"
OTHER = "stored_faults_other"
NEWER_ID = "20260401T000000Z-00000a"
ROWS = 2_000
TABLES = f"""
    CREATE TABLE accounts (id serial PRIMARY KEY, owner text);
    INSERT INTO accounts (owner) SELECT 'owner ' || lpad(n::text, 8, '0') FROM generate_series(1, {ROWS}) n;
    CREATE TABLE entries (id int PRIMARY KEY, account int REFERENCES accounts);
    INSERT INTO entries SELECT n, n FROM generate_series(1, 300) n;
    CREATE TABLE closed (id int, why text);
    INSERT INTO closed SELECT n, 'asked' FROM generate_series(1, 10) n;
    SELECT lo_from_bytea(4711, 'a picture');
"""
LATER = "UPDATE accounts SET owner = upper(owner)"  # as many rows, and as many bytes


@dataclass(frozen=True)
class Stored:
    """Two backups of one database on a store, the same database, and another one."""

    server: PostgresServer
    older: StoredBackup
    newer: StoredBackup

    @property
    def size(self) -> int:
        """How long the newer backup's dump is."""
        return len(self.plain(self.newer))

    def plain(self, backup: StoredBackup) -> bytes:
        return opened(backup.path(MAIN_ARCHIVE))

    def exchange(self, plain: bytes, name: str = MAIN_ARCHIVE) -> StoredBackup:
        """Put something else into the newer backup's archive, and let everything fit again."""
        self.newer.path(name).write_bytes(sealed(plain))
        self.newer.tell()
        self.newer.bind()
        return self.newer

    def dump_anew(self, *options: str, dbname: str = DBNAME) -> StoredBackup:
        connection = f"--dbname={self.server.conninfo(dbname)}"
        return self.exchange(run(self.server, "pg_dump", "--format=custom", connection, *options))


@dataclass(frozen=True)
class StoredFault:
    """Something that is wrong with a stored backup.

    Args:
        spoil: Spoils it, and returns the backup to verify.
        found: The rules that a full proof with content says are broken.
        refused: Or the words of the error that ends it.
        why: Or why it is verified.
    """

    name: str
    spoil: Callable[[Stored], StoredBackup]
    found: frozenset[Rule] = field(default_factory=frozenset)
    refused: str = ""
    why: str = ""

    @property
    def line(self) -> str:
        """A line of a Markdown table."""
        rules = ", ".join(f"`{rule}`" for rule in sorted(self.found))
        return f"| {self.name} | {rules or self.refused or f'–, for {self.why}'} |"


def _found(name: str, spoil: Callable[[Stored], StoredBackup], *rules: Rule) -> StoredFault:
    return StoredFault(name, spoil, frozenset(rules))


def _shortened(stored: Stored, length: int) -> StoredBackup:
    return stored.exchange(stored.plain(stored.newer)[:length])


def _spliced(stored: Stored) -> StoredBackup:
    """Put together the halves of both archives, in which every row lies at the same place."""
    first, second = stored.plain(stored.newer), stored.plain(stored.older)
    assert len(first) == len(second)
    return stored.exchange(first[: len(first) // 2] + second[len(second) // 2 :])


def _spliced_and_counted(stored: Stored) -> StoredBackup:
    spliced = _spliced(stored)
    spliced.edit_facts(_without_content)
    return spliced


def _without_content(facts: Document) -> None:
    """Leave of the facts what the proof `rows` takes."""
    facts["proof"] = "rows"
    for item in (*facts["tables"], facts["large_objects"]):
        item["content"] = None


def _rewritten(stored: Stored) -> StoredBackup:
    renamed = stored.older.under_another_id(NEWER_ID)
    renamed.edit_facts(lambda facts: facts.update(backup_id=NEWER_ID))
    return renamed


def _of_another_snapshot(stored: Stored) -> StoredBackup:
    return stored.exchange(stored.plain(stored.older))


STORED = (
    _found(
        "cut off in the middle",
        lambda stored: _shortened(stored, stored.size // 2),
        "RESTORE_ERROR",
        "ROWS_DIFFER",
        "SEQUENCE_BEHIND",
        "LARGE_OBJECTS_DIFFER",
    ),
    _found(
        "cut off before its last byte",
        lambda stored: _shortened(stored, stored.size - 1),
        "RESTORE_ERROR",
        "LARGE_OBJECTS_DIFFER",
    ),
    _found("spliced out of two, with as many rows", _spliced, "CONTENT_DIFFERS"),
    StoredFault(
        "the same, where the proof is `rows`", _spliced_and_counted, why="rows were counted, but not read"
    ),
    _found("the rows of an older backup, as many", _of_another_snapshot, "CONTENT_DIFFERS"),
    _found("a dump of another database", lambda stored: stored.dump_anew(dbname=OTHER), "ROWS_DIFFER"),
    StoredFault(
        "an older backup under a newer name",
        lambda stored: stored.older.under_another_id(NEWER_ID),
        refused="does not hold what its manifest says: backup_id differ",
    ),
    StoredFault(
        "an older backup under a newer name, its facts rewritten",
        _rewritten,
        why="whoever has the public key can write facts",
    ),
    _found("large objects left out", lambda stored: stored.dump_anew("--no-blobs"), "LARGE_OBJECTS_DIFFER"),
    _found(
        "a table's rows left out",
        lambda stored: stored.dump_anew("--exclude-table-data=closed"),
        "ROWS_DIFFER",
    ),
    _found(
        "indexes and constraints left out",
        lambda stored: stored.dump_anew("--section=pre-data", "--section=data"),
        "OBJECT_MISSING",
    ),
    StoredFault(
        "no dump at all",
        lambda stored: stored.exchange(b"SELECT 1;\n"),
        refused="pg_restore does not know what was dumped for an archive of its own",
    ),
    _found("roles lost", lambda stored: stored.exchange(b"SELECT 1;\n", GLOBALS_ARCHIVE), "ROLE_ABSENT"),
)
