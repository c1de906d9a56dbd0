"""Facts out of a database: what the blocks tell of it, put into the core's words."""

from collections.abc import Collection, Iterable

from blocks import identity, inventory, large_objects, objects
from blocks.errors import DefinitionsChanged
from blocks.inventory import RowCount, SequenceState
from blocks.objects import DatabaseObject
from blocks.postgres import Session
from blocks.server_errors import translated
from blocks.snapshot import Snapshot
from flows.core.facts import (
    CatalogObject,
    DatabaseProperties,
    DatabaseSetting,
    Extension,
    Facts,
    LargeObjects,
    Proof,
    SequenceValue,
    TableRows,
)
from flows.core.naming import BackupId
from flows.core.object_places import shown
from flows.progress import Progress

# What the server always writes of these, and not from the snapshot.
_WRITTEN = {
    **dict.fromkeys(("function", "procedure", "window function", "aggregate"), "arguments"),
    **dict.fromkeys(("view", "materialized view", "rule", "index", "statistics", "trigger"), "definition"),
    "constraint": "definition",
}


def definitions_of(snapshot: Snapshot) -> tuple[CatalogObject, ...]:
    """Read what is defined in a snapshot, as pg_dump does.

    The objects are those of the snapshot, but the server writes some of their parts, such as a function's
    SQL body, as they are at the moment: they differ after a change that no table's lock holds up.
    """
    with translated("reading the definitions"):
        return objects_of(objects.read_objects(snapshot.connection, snapshot.selection))


def refuse_changes(before: Iterable[CatalogObject], after: Iterable[CatalogObject]) -> None:
    """Raise unless pg_dump, which read the definitions in between, must have read the same.

    Raises:
        DefinitionsChanged: One of them was changed, or had been dropped since the snapshot.
    """
    known = {(item.kind, item.name): item for item in before}
    changed = [item for item in after if known.get((item.kind, item.name)) != item or _is_gone(item)]
    if changed:
        raise DefinitionsChanged(
            f"{len(changed)} definitions were changed while they were dumped, such as that of the"
            f" {changed[0].kind} {shown(changed[0])}",
            "run the backup when no migration runs",
        )


def facts_of(
    snapshot: Snapshot,
    backup_id: BackupId,
    plan: str,
    progress: Progress,
    proof: Proof,
    sessions: int,
    definitions: tuple[CatalogObject, ...] | None = None,
) -> Facts:
    """Return the facts of a snapshot; nobody else may use its session meanwhile.

    Args:
        definitions: What it holds, if that is known already.
        proof: What to take of each table.
        sessions: How many count at the same time.
    """
    session = snapshot.connection
    database = identity.identity(session)
    return Facts(
        backup_id=backup_id,
        plan=plan,
        snapshot_at=snapshot.taken_at,
        server_version=database.server_version,
        server_major=database.major,
        system_identifier=database.system_identifier,
        dbname=database.dbname,
        proof=proof,
        properties=DatabaseProperties.model_validate(vars(identity.properties(session))),
        sequences=sequences_of(snapshot.sequences),
        settings=settings_of(session),
        extensions=tuple(Extension(name=e.name, version=e.version) for e in identity.extensions(session)),
        roles=tuple(identity.roles(session)),
        roles_in_use=tuple(identity.roles_in_use(session)),
        objects=definitions_of(snapshot) if definitions is None else definitions,
        large_objects=_large_objects(snapshot, proof),
        tables=_tables(snapshot, progress, proof, sessions),
    )


def restored_rows(
    session: Session, known: Collection[tuple[str, str]], *, content: bool
) -> tuple[TableRows, ...]:
    """Count the rows of a restored database.

    Args:
        known: The tables and sequences that the facts tell of; an extension brings others of its own.
    """
    return rows_of(inventory.restored_row_counts(session, content=content, known=known))


def restored_sequences(session: Session, known: Collection[tuple[str, str]]) -> tuple[SequenceValue, ...]:
    """Read the sequences of a restored database; `known` as for `restored_rows`."""
    found = inventory.restored_inventory(session, known).sequences
    return sequences_of(inventory.read_sequences(session, found))


def restored_objects(session: Session) -> tuple[CatalogObject, ...]:
    """Read the catalogue of a restored database."""
    return objects_of(objects.read_objects(session))


def restored_large_objects(session: Session, *, content: bool) -> LargeObjects:
    """Measure the large objects of a restored database."""
    return LargeObjects(**vars(large_objects.measure(session, content=content)))


def settings_of(session: Session) -> tuple[DatabaseSetting, ...]:
    """Read what ALTER DATABASE … SET said."""
    return tuple(
        DatabaseSetting(role=setting.role, name=setting.name, value=setting.value)
        for setting in identity.database_settings(session)
    )


def rows_of(counts: Iterable[RowCount]) -> tuple[TableRows, ...]:
    return tuple(
        TableRows(
            schema_name=count.schema,
            table=count.table,
            rows=count.rows,
            content=count.content,
            size_bytes=count.size_bytes,
        )
        for count in counts
    )


def sequences_of(states: Iterable[SequenceState]) -> tuple[SequenceValue, ...]:
    return tuple(
        SequenceValue(
            schema_name=state.schema,
            sequence=state.name,
            last_value=state.last_value,
            is_called=state.is_called,
            increment=state.increment,
            cycles=state.cycles,
        )
        for state in states
    )


def objects_of(found: Iterable[DatabaseObject]) -> tuple[CatalogObject, ...]:
    return tuple(CatalogObject.model_validate(vars(item)) for item in found)


def _is_gone(item: CatalogObject) -> bool:
    """Tell whether an object of the snapshot was dropped since: the server writes nothing down for it."""
    written = _WRITTEN.get(item.kind)
    return written is not None and written not in item.properties


def _large_objects(snapshot: Snapshot, proof: Proof) -> LargeObjects | None:
    """Measure them, unless the dump leaves them out."""
    if not snapshot.selection.large_objects or snapshot.selection.include_schemas:
        return None
    return LargeObjects(**vars(snapshot.measure_large_objects(content=proof == "content")))


def _tables(snapshot: Snapshot, progress: Progress, proof: Proof, sessions: int) -> tuple[TableRows, ...]:
    if proof == "none":
        return ()
    return rows_of(snapshot.count_rows(progress.at, content=proof == "content", sessions=sessions))
