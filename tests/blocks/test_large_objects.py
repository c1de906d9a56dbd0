"""Large objects measured: by pages or one by one, before a dump and after its restore, on real servers."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from pydantic import SecretStr

from blocks import large_objects
from blocks.errors import RightsMissing
from blocks.large_objects import LargeObjectTotals, measure
from blocks.postgres import PostgresDatabase, Session
from tests.servers.postgres import PostgresServer
from tests.servers.programs import run
from tests.servers.roles import ROLE_PASSWORD, create_limited_role, drop_role

ROLE = "backup"
OBJECTS = """
    SELECT lo_from_bytea(4711, 'large'), lo_create(4712), lo_from_bytea(4713, decode('000000', 'hex')),
           lo_from_bytea(4714, convert_to(repeat('0123456789', 300000), 'UTF8')), lo_create(4715);
    SELECT lo_put(4715, 3000000, 'end'), lo_put(4715, 5000, decode('00ff00', 'hex'));
    BEGIN; SELECT lo_truncate64(lo_open(4711, 131072), 9000); COMMIT;
"""
SIZE = 9_000 + 0 + 3 + 3_000_000 + 3_000_003


@pytest.fixture
def session(postgres: PostgresServer) -> Iterator[Session]:
    with postgres.database("shop") as conninfo, _opened(conninfo) as session:
        yield session


@pytest.fixture
def limited(postgres: PostgresServer, session: Session) -> Iterator[Session]:
    """The same database as a role sees it that may read what is granted to it only."""
    create_limited_role(postgres, ROLE)
    with _opened(postgres.conninfo("shop", user=ROLE, password=ROLE_PASSWORD)) as limited:
        yield limited
    session.execute(f"DROP OWNED BY {ROLE}".encode())
    drop_role(postgres, ROLE)


def _opened(conninfo: str) -> Session:
    return PostgresDatabase(conninfo=SecretStr(conninfo)).connect()


def test_a_database_without_large_objects_has_none_of_no_content(session: Session, limited: Session) -> None:
    for one in (session, limited):
        assert measure(one) == LargeObjectTotals(0, 0, "0", None)
        assert measure(one, content=True) == LargeObjectTotals(0, 0, "0", "0")


def test_holes_count_for_the_size_and_are_read_by_nobody(session: Session) -> None:
    session.execute(OBJECTS.encode())
    found = measure(session)
    assert (found.count, found.size_bytes, found.content) == (5, SIZE, None)


def test_a_role_that_may_read_each_object_measures_what_a_superuser_does(
    session: Session, limited: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_objects, "_BATCH", 2)
    session.execute(OBJECTS.encode())
    session.execute(f"GRANT SELECT ON LARGE OBJECT 4711, 4712, 4713, 4714, 4715 TO {ROLE}".encode())
    assert measure(limited) == measure(session)
    assert measure(limited, content=True) == measure(session, content=True)


@pytest.mark.parametrize("content", [False, True])
def test_a_role_that_may_not_read_an_object_is_told_which(
    session: Session, limited: Session, content: bool
) -> None:
    session.execute(OBJECTS.encode())
    session.execute(f"GRANT SELECT ON LARGE OBJECT 4711, 4712, 4713, 4715 TO {ROLE}".encode())
    with pytest.raises(RightsMissing, match="large object 4714"):
        measure(limited, content=content)


def test_a_restore_holds_the_same_though_holes_have_become_zeros(postgres: PostgresServer) -> None:
    with postgres.database("source") as source, postgres.database("target") as target:
        postgres.execute(OBJECTS, "source")
        archive = run(postgres, "pg_dump", "--format=custom", source)
        run(postgres, "pg_restore", "--dbname", target, stdin=archive)
        with _opened(source) as before, _opened(target) as after:
            assert measure(after, content=True) == measure(before, content=True)
            pages = "SELECT count(*) FROM pg_largeobject"
            assert after.execute(pages.encode()).fetchall() > before.execute(pages.encode()).fetchall()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("lo_put(4714, 1234567, 'x')", id="a-byte-is-another"),
        pytest.param("lo_put(4715, 2999999, 'x')", id="a-byte-of-a-hole-is-none"),
        pytest.param("lo_unlink(4713), lo_from_bytea(4716, decode('000001', 'hex'))", id="another-object"),
        pytest.param(
            "lo_put(4711, 0, '0123456789'), lo_put(4714, 0, decode('6c6172676500000000000000', 'hex'))",
            id="two-beginnings-changed-places",
        ),
    ],
)
def test_a_change_that_keeps_number_and_size_is_another_content(session: Session, change: str) -> None:
    session.execute(OBJECTS.encode())
    before = measure(session, content=True)
    session.execute(f"SELECT {change}".encode())
    after = measure(session, content=True)
    assert (after.count, after.size_bytes) == (before.count, before.size_bytes)
    assert after.content != before.content


@pytest.mark.parametrize(
    "change",
    [
        "ALTER {} OWNER TO {role}",
        "GRANT UPDATE ON {} TO {role}",
        "REVOKE SELECT ON {} FROM PUBLIC",
        "COMMENT ON {} IS 'x'",
    ],
)
def test_owners_rights_and_comments_are_of_the_large_objects_too(
    session: Session,
    limited: Session,  # noqa: ARG001 - its role must be there
    change: str,
) -> None:
    session.execute(OBJECTS.encode())
    session.execute(b"GRANT SELECT ON LARGE OBJECT 4711 TO PUBLIC")
    before = measure(session, content=True)
    session.execute(change.format("LARGE OBJECT 4711", role=ROLE).encode())
    after = measure(session, content=True)
    assert after.rights != before.rights
    assert replace(after, rights=before.rights) == before


def test_a_right_that_the_owner_has_anyway_is_none(session: Session) -> None:
    session.execute(OBJECTS.encode())
    before = measure(session)
    session.execute(b"GRANT ALL ON LARGE OBJECT 4711 TO CURRENT_USER")
    assert measure(session) == before


def test_what_others_do_after_the_snapshot_is_not_seen(session: Session, limited: Session) -> None:
    session.execute(OBJECTS.encode())
    session.execute(f"GRANT SELECT ON LARGE OBJECT 4711, 4712, 4713, 4714, 4715 TO {ROLE}".encode())
    before = measure(session, content=True)
    with _opened(session.info.dsn + f" password={session.info.password}") as other:
        for one in (other, limited):
            one.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            one.execute("SELECT")
        session.execute("SELECT lo_unlink(4713), lo_put(4714, 0, 'changed'), lo_from_bytea(0, 'new')")
        assert measure(other, content=True) == before
        assert measure(limited, content=True) == before
    assert measure(session, content=True) != before
