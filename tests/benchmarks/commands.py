"""What pgsalvo is measured against: scripts of the shell, as one would write them without it."""

import os
import sys
from pathlib import Path

from psycopg.conninfo import make_conninfo

from tests.benchmarks import database
from tests.servers import keys
from tests.servers.postgres import PASSWORD, SUPERUSER, PostgresServer

RAW_DUMP = 'pg_dump -Fc -Z0 -d "$SOURCE" > /dev/null'

USUAL_SCRIPT = """
pg_dump -Fc -d "$SOURCE" | gpg $GPG --recipient-file "$KEY" --encrypt > "$OUT/usual.gpg"
sha256sum "$OUT/usual.gpg"
"""

SAME_STEPS = """
psql -X -q -d "$SOURCE" -c "$COUNTS" > "$OUT/counts" &
pg_dump -Fc -Z0 -d "$SOURCE" | zstd -q -1 |
    gpg $GPG --compress-algo none --cipher-algo AES256 --recipient-file "$KEY" --encrypt |
    tee "$OUT/same.gpg" | sha256sum
sync "$OUT/same.gpg"
sha256sum "$OUT/same.gpg"
wait $!
"""

RAW_ARCHIVE = 'pg_dump -Fc -Z0 -d "$SOURCE" > "$OUT/raw.dump"'

RAW_RESTORE = 'pg_restore -j2 -d "$TARGET" "$OUT/raw.dump"'

COUNTS = "; ".join(f"SELECT count(*) FROM {table}" for table in database.TABLES)
GPG = "--batch --no-tty --quiet --trust-model always --no-auto-key-locate"


def shell(script: str) -> tuple[str, ...]:
    """Return the argv that runs a script and fails with its first failure."""
    return ("bash", "-c", f"set -euo pipefail\n{script}")


def facts(proof: str) -> tuple[str, ...]:
    """Return the argv that takes the facts alone; the last line it prints is the seconds of that."""
    return (sys.executable, "-m", "tests.benchmarks.facts", proof)


def variables(server: PostgresServer, dbname: str, directory: Path) -> dict[str, str]:
    """Return the environment of the scripts: what they read, and where they write."""
    key = keys.normal()
    return {
        "PATH": f"{server.programs}{os.pathsep}{os.environ['PATH']}",
        "PGPASSWORD": PASSWORD,
        "SOURCE": make_conninfo(host="127.0.0.1", port=server.port, user=SUPERUSER, dbname=dbname),
        "COUNTS": COUNTS,
        "OUT": str(directory),
        "KEY": str(key.public_file),
        "GNUPGHOME": str(key.homedir),
        "GPG": GPG,
    }
