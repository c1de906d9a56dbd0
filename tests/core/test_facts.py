"""Facts: read back as written, and bound to the manifest they lie beside."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flows.core.errors import IdentityMismatch
from flows.core.facts import (
    DatabaseProperties,
    DatabaseSetting,
    Extension,
    Facts,
    SequenceValue,
    TableRows,
    check_identity,
    decode,
)
from flows.core.manifest import Archive, Manifest, Timings, Versions, source_of
from flows.core.naming import BackupId

STARTED_AT = datetime(2026, 1, 28, 2, tzinfo=UTC)
ODD_NAME = 'a."b"\nñ☃\x7f'
FACTS = Facts(
    backup_id=BackupId("20260128T020000Z-4f9c2a"),
    plan="shop",
    snapshot_at=STARTED_AT,
    server_version="15.18",
    server_major=15,
    system_identifier="7301",
    dbname="shop",
    properties=DatabaseProperties(encoding="UTF8", collate="C.UTF-8", ctype="C.UTF-8"),
    tables=(TableRows(schema_name=ODD_NAME, table="orders", rows=2**62),),
    sequences=(SequenceValue(schema_name="public", sequence=ODD_NAME, last_value=None),),
    settings=(DatabaseSetting(role=None, name="search_path", value=ODD_NAME),),
    extensions=(Extension(name="pg_trgm", version="1.6"),),
    roles=(ODD_NAME,),
    archives={
        "main-1-of-2.dump.zst.gpg": "a" * 64,
        "data-2-of-2.dump.zst.gpg": "b" * 64,
        "globals.sql.zst.gpg": "c" * 64,
    },
)


def archive(name: str, kind: str, digit: str) -> Archive:
    return Archive.model_validate(
        {"name": name, "kind": kind, "size_bytes": 1, "sha256": digit * 64, "plain_bytes": 1}
    )


MANIFEST = Manifest(
    backup_id=FACTS.backup_id,
    plan=FACTS.plan,
    started_at=STARTED_AT,
    snapshot_at=FACTS.snapshot_at,
    finished_at=STARTED_AT,
    source=source_of(FACTS.system_identifier, FACTS.dbname),
    versions=Versions(pgsalvo="0.1.0", server="15.18", server_major=15, pg_dump="15.18", gpg="2.2.40"),
    recipients=(),
    archives=(
        archive("main-1-of-2.dump.zst.gpg", "main", "a"),
        archive("data-2-of-2.dump.zst.gpg", "data", "b"),
        archive("globals.sql.zst.gpg", "globals", "c"),
        archive("facts.json.zst.gpg", "facts", "d"),
    ),
    globals_passwords=False,
    restore=(),
    timings=Timings(dump=0, facts=0, encrypt=0, upload=0, checksum=0),
)


def test_facts_are_read_back_as_they_were_written() -> None:
    assert decode(FACTS.model_dump_json().encode()) == FACTS


@pytest.mark.parametrize(
    ("body", "where"),
    [
        pytest.param(b"", "not JSON", id="empty"),
        pytest.param(b"\xff", "not JSON", id="not-utf-8"),
        pytest.param(b"[" * 100_000, "not JSON", id="deep"),
        pytest.param(FACTS.model_dump_json().encode()[:-1], "not JSON", id="truncated"),
        pytest.param(b"{}", "backup_id", id="no-fields"),
        pytest.param(
            FACTS.model_dump_json().encode().replace(b'"format_version":1', b'"format_version":2'),
            "format_version",
            id="a-later-format",
        ),
        pytest.param(
            FACTS.model_dump_json().encode().replace(b'"rows":4611686018427387904', b'"rows":"many"'),
            "tables.0.rows",
            id="rows-that-are-no-number",
        ),
    ],
)
def test_unreadable_facts_tell_where_and_show_nothing_of_their_content(body: bytes, where: str) -> None:
    with pytest.raises(IdentityMismatch) as caught:
        decode(body)
    assert caught.value.message == f"the backup's facts are not readable: {where}"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_facts_of_the_same_backup_are_accepted() -> None:
    check_identity(FACTS, MANIFEST)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"backup_id": "20260129T020000Z-4f9c2a"}, "backup_id"),
        ({"plan": "other"}, "plan"),
        ({"snapshot_at": STARTED_AT + timedelta(microseconds=1)}, "snapshot_at"),
        ({"server_version": "16.1"}, "server version"),
        ({"system_identifier": "7302"}, "source"),
        ({"dbname": "Shop"}, "source"),
        ({"archives": {}}, "archives"),
        ({"archives": FACTS.archives | {"data-2-of-2.dump.zst.gpg": "a" * 64}}, "archives"),
        ({"archives": FACTS.archives | {"globals.sql.zst.gpg": "a" * 64}}, "archives"),
        ({"plan": "other", "dbname": "other"}, "plan, source"),
    ],
)
def test_facts_of_another_backup_are_refused_by_what_differs(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(IdentityMismatch, match=f"its manifest says: {named} differ"):
        check_identity(FACTS.model_copy(update=changes), MANIFEST)


def test_a_snapshot_is_the_same_in_another_time_zone() -> None:
    written = FACTS.model_dump_json().replace("2026-01-28T02:00:00Z", "2026-01-28T03:00:00+01:00")
    assert "+01:00" in written
    check_identity(decode(written.encode()), MANIFEST)
