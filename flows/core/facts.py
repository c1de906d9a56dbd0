"""Facts: what the dump's own snapshot held, kept encrypted beside the dump and compared after a restore."""

from typing import Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from flows.core.errors import IdentityMismatch
from flows.core.manifest import Manifest, Sha256, source_of
from flows.core.naming import BackupId

FORMAT_VERSION: Final = 1

Proof = Literal["none", "rows", "content"]


class _Fact(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class TableRows(_Fact):
    """Rows of one table itself, without its children's; the name is two strings, never joined.

    Args:
        content: Fingerprint of all rows in whatever order, a decimal number; None where none was taken.
        size_bytes: On the source's disk, as of its last VACUUM or ANALYZE.
    """

    schema_name: str
    table: str
    rows: int
    content: str | None = None
    size_bytes: int = 0


class LargeObjects(_Fact):
    """All large objects together; `content` as of a table's rows, `rights` likewise of owners and rights."""

    count: int
    size_bytes: int
    rights: str | None = None
    content: str | None = None


class CatalogObject(_Fact):
    """One object as the catalogue describes it; its kind and its name tell it from all others.

    Args:
        kind: In PostgreSQL's own words, lower case: `table`, `column`, `event trigger`.
        name: In parts, never joined: schema, relation, column; of a function the types of its arguments last.
        owner: None for what has no owner of its own, such as a column.
        grants: By role (empty for PUBLIC) what it may do beyond the kind's default rights, such as
            `SELECT` or `SELECT with grant option`; what the default gives and was taken away reads `-USAGE`.
        properties: Everything else that a dump carries, by name; absent where PostgreSQL's default holds.
    """

    kind: str
    name: tuple[str, ...]
    owner: str | None = None
    grants: dict[str, tuple[str, ...]] = {}
    properties: dict[str, str] = {}

    @property
    def is_foreign_key(self) -> bool:
        return self.kind == "constraint" and self.properties.get("definition", "").startswith("FOREIGN KEY")


class SequenceValue(_Fact):
    """A sequence as it stood before the dump began; None where it was never used or may not be read.

    Its increment and whether it cycles tell which way "ahead" lies; a writer that omits them means
    an ordinary, ascending sequence.
    """

    schema_name: str
    sequence: str
    last_value: int | None
    is_called: bool = True
    increment: int = 1
    cycles: bool = False


class DatabaseSetting(_Fact):
    """`ALTER DATABASE … SET`, or with a role `ALTER ROLE … IN DATABASE … SET`, which pg_restore loses."""

    role: str | None
    name: str
    value: str


class Extension(_Fact):
    name: str
    version: str


class DatabaseProperties(_Fact):
    """What a database must be created with to take the dump."""

    encoding: str
    collate: str
    ctype: str
    locale_provider: Literal["c", "i", "b", "d"] = "c"
    locale: str | None = None
    icu_rules: str | None = None
    collation_version: str | None = None
    needs_icu: bool = False
    access_privileges: tuple[str, ...] = ()


class Facts(_Fact):
    """Everything that a verification holds a restore against.

    Args:
        proof: What was taken of each table: nothing, its rows' number, or their content too.
        roles_in_use: Whoever owns something here or may do something, be it an extension's.
        objects: None in facts of a release that took none; the same for `large_objects`.
    """

    format_version: Literal[1] = FORMAT_VERSION
    backup_id: BackupId
    plan: str
    snapshot_at: AwareDatetime
    server_version: str
    server_major: int
    system_identifier: str
    dbname: str
    proof: Proof = "rows"
    properties: DatabaseProperties
    tables: tuple[TableRows, ...]
    objects: tuple[CatalogObject, ...] | None = None
    large_objects: LargeObjects | None = None
    sequences: tuple[SequenceValue, ...]
    settings: tuple[DatabaseSetting, ...]
    extensions: tuple[Extension, ...]
    roles: tuple[str, ...]
    roles_in_use: tuple[str, ...] = ()
    archives: dict[str, Sha256] = {}


def decode(body: bytes) -> Facts:
    """Return the facts that a decrypted archive holds."""
    try:
        return Facts.model_validate_json(body)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors(include_input=False)[0]["loc"]) or "not JSON"
        raise IdentityMismatch(f"the backup's facts are not readable: {where}") from None


def check_identity(facts: Facts, manifest: Manifest) -> None:
    """Bind content to identity: raise `IdentityMismatch` unless the facts are of this very backup."""
    told = {
        "backup_id": (manifest.backup_id, facts.backup_id),
        "plan": (manifest.plan, facts.plan),
        "snapshot_at": (manifest.snapshot_at, facts.snapshot_at),
        "server version": (manifest.versions.server, facts.server_version),
        "source": (manifest.source, source_of(facts.system_identifier, facts.dbname)),
        "archives": (
            {item.name: item.sha256 for item in manifest.archives if item.kind != "facts"},
            facts.archives,
        ),
    }
    differing = [name for name, (expected, found) in told.items() if expected != found]
    if differing:
        raise IdentityMismatch(
            f"backup {manifest.backup_id} does not hold what its manifest says: "
            f"{', '.join(differing)} differ",
            "objects of two backups may have been mixed up; verify an older backup",
        )
