"""How a backup is restored without pgsalvo: the commands in a manifest, and RESTORE.md on every store."""

from importlib.resources import files

from flows.core.naming import FACTS_ARCHIVE, GLOBALS_ARCHIVE, MAIN_ARCHIVE


def restore_commands() -> tuple[str, ...]:
    """Return the shell commands that restore a backup of one archive into a new database `target`."""
    return (
        f"gpg --decrypt {FACTS_ARCHIVE} | zstd -d",
        f"set -o pipefail; gpg --decrypt {GLOBALS_ARCHIVE} | zstd -d | psql --no-psqlrc --dbname=postgres",
        "createdb --template=template0 target",
        f"set -o pipefail; gpg --decrypt {MAIN_ARCHIVE} | zstd -d | pg_restore --dbname=target",
    )


def restore_guide() -> str:
    """Return RESTORE.md."""
    return files("flows.core").joinpath("RESTORE.md").read_text(encoding="utf-8")
