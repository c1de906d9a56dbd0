"""Takes the facts of `$SOURCE` as a backup does, with nothing else going on, and prints the seconds it took.

`python -m tests.benchmarks.facts rows` or `content`; `make bench` runs it.
"""

import os
import sys
import time
from typing import Literal

from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from blocks.postgres import PostgresDatabase
from blocks.snapshot import locked_snapshot
from flows.core.facts import Facts
from flows.core.naming import BackupId
from flows.gathering import facts_of
from flows.progress import Progress

Counted = Literal["rows", "content"]
PROOFS: tuple[Counted, ...] = ("rows", "content")


def take(conninfo: str, proof: Counted) -> tuple[Facts, float]:
    """Return the facts, and the seconds without those for connecting, locks and the snapshot."""
    database = PostgresDatabase(conninfo=SecretStr(conninfo))
    with locked_snapshot(database, lock_name="bench", busy_timeout_seconds=60, on_wait=print) as snapshot:
        began = time.monotonic()
        progress = Progress("facts", len(snapshot.tables), "tables")
        found = facts_of(snapshot, BackupId("bench"), "bench", progress, proof, sessions=1)
        return found, time.monotonic() - began


def main() -> None:
    (proof,) = (known for known in PROOFS if known == sys.argv[1])
    source = make_conninfo(os.environ["SOURCE"], password=os.environ["PGPASSWORD"])
    _, seconds = take(source, proof)
    print(seconds)


if __name__ == "__main__":
    main()
