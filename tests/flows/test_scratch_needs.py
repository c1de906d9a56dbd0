"""What a dump asks of a scratch server, with the facts of a source and real servers."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import SecretStr

from blocks.errors import ScratchLacks
from blocks.postgres import PostgresDatabase
from blocks.scratch import ScratchServer
from blocks.scratch_server import BorrowedScratch
from flows import scratch_needs
from flows.core.facts import CatalogObject, DatabaseProperties, Extension, Facts
from flows.scratch_needs import PreparedScratch, open_up, prepare_scratch
from tests.blocks.test_scratch import server_programs
from tests.core.test_facts import FACTS
from tests.servers.postgres import PostgresServer

NOT_OFF = "restored code is not kept off the network here, but nothing in the dump can use it"
UTF8 = DatabaseProperties(encoding="UTF8", collate="C.UTF-8", ctype="C.UTF-8")


def facts(**update: Any) -> Facts:
    return FACTS.model_copy(update={"roles": ("shop", "admin"), "objects": ()} | update)


def item(kind: str, *name: str, owner: str | None = None, **properties: str) -> CatalogObject:
    return CatalogObject(kind=kind, name=name, owner=owner, properties=properties)


@dataclass(frozen=True)
class Borrowing:
    """A server that a database is borrowed from, for a source of an older major."""

    server: PostgresServer

    def prepared(self, facts: Facts) -> tuple[PreparedScratch, list[str]]:
        """Return what is prepared, and the roles that were made."""
        scratch = BorrowedScratch(
            PostgresDatabase(conninfo=SecretStr(self.server.conninfo())),
            source_identifier=facts.system_identifier,
            source_dbname=facts.dbname,
            source_major=facts.server_major,
        )
        before = self._roles()
        with scratch:
            prepared = prepare_scratch(scratch, facts)
            open_up(scratch, prepared)
            return prepared, sorted(self._roles() - before - {scratch.restorer, scratch.insiders})

    def _roles(self) -> set[str]:
        return {name for (name,) in self.server.query("SELECT rolname FROM pg_roles")}


@pytest.fixture
def borrowing(postgres17: PostgresServer) -> Borrowing:
    return Borrowing(postgres17)


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScratchServer]:
    with ScratchServer(server_programs(15), tmp_path_factory.mktemp("needs")) as scratch:
        yield scratch


@pytest.fixture
def scratch(embedded: ScratchServer) -> Iterator[ScratchServer]:
    yield embedded
    with embedded.connect(embedded.maintenance_database) as session:
        session.execute(f"DROP DATABASE IF EXISTS {embedded.dbname}".encode())


def test_a_borrowed_server_gets_only_the_roles_that_the_dump_speaks_of(borrowing: Borrowing) -> None:
    """`admin` is the borrowed server's own superuser, which the source has too but the dump does not need."""
    prepared, roles = borrowing.prepared(facts(objects=(item("table", "public", "t", owner="shop"),)))
    assert roles == ["shop"]
    assert prepared.notes == ["restored into PostgreSQL 17, the source is 15", NOT_OFF]
    assert prepared.unverifiable_collations == []


def test_a_borrowed_server_has_a_network_so_what_can_use_it_is_refused(borrowing: Borrowing) -> None:
    with pytest.raises(ScratchLacks, match="the extension dblink"):
        borrowing.prepared(facts(extensions=(Extension(name="dblink", version="1"),)))


def test_a_server_without_a_network_takes_what_could_use_one(scratch: ScratchServer) -> None:
    dblink = facts(extensions=(Extension(name="dblink", version="1"),), properties=UTF8)
    assert prepare_scratch(scratch, dblink) == PreparedScratch("restored", scratch.restorer, [], [])


@pytest.mark.parametrize(
    ("lacking", "said"),
    [
        pytest.param(
            {"extensions": (Extension(name="far_away", version="1"),)},
            "has no extension far_away",
            id="extension",
        ),
        pytest.param(
            {"objects": (item("language", "plklingon"),)}, "has no language plklingon", id="language"
        ),
        pytest.param(
            {"objects": (item("column", "public", "t", "c", collation='"tlh_QO"'),)},
            'has no collation "tlh_QO"',
            id="a collation of the system",
        ),
        pytest.param(
            {"objects": (item("collation", "app", "far", provider="c", collate="tlh_QO", ctype="tlh_QO"),)},
            r"has no collation app\.far",
            id="a collation of the dump",
        ),
    ],
)
def test_what_is_lacking_is_known_before_anything_is_restored(
    lacking: dict[str, Any], said: str, scratch: ScratchServer
) -> None:
    with pytest.raises(ScratchLacks, match=said) as caught:
        prepare_scratch(scratch, facts(**lacking))
    assert "apt-get install" in caught.value.hint


def test_what_cannot_be_sorted_as_on_the_source_is_told_apart(scratch: ScratchServer) -> None:
    far = UTF8.model_copy(
        update={"collate": "tlh_QO.UTF-8", "ctype": "tlh_QO.UTF-8", "collation_version": "9"}
    )
    prepared = prepare_scratch(scratch, facts(properties=far))
    assert prepared.unverifiable_collations == [
        "the locale tlh_QO.UTF-8 (tlh_QO.UTF-8) is not here with UTF8: sorted by C instead"
    ]
    assert prepared.notes == []


@pytest.mark.parametrize(
    ("here", "notes"),
    [
        ("2.36", ["text is sorted by version 2.36 of the locale here, by 2.17 on the source"]),
        ("2.17", []),
        (None, []),
    ],
)
def test_another_version_of_the_locale_is_noted(
    here: str | None, notes: list[str], scratch: ScratchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch_needs, "collation_version", lambda _: here)
    there = UTF8.model_copy(update={"collation_version": "2.17"})
    assert prepare_scratch(scratch, facts(properties=there)).notes == notes


def test_a_language_whose_handler_the_dump_brings_along_is_not_lacking(scratch: ScratchServer) -> None:
    own = item("language", "plklingon", handler="app.plklingon_call_handler")
    assert prepare_scratch(scratch, facts(objects=(own,))).notes == []


def test_what_the_databases_own_code_checks_is_refused_before_it_runs(scratch: ScratchServer) -> None:
    own = (
        item("function", "public", "valid", "text[], oid", language="plpgsql"),
        item("foreign data wrapper", "w", validator="public.valid"),
    )
    with pytest.raises(ScratchLacks, match="checks the foreign data wrapper w, and would run as a superuser"):
        prepare_scratch(scratch, facts(objects=own))


def test_a_foreign_key_may_refer_to_an_extensions_table(scratch: ScratchServer) -> None:
    prepared = prepare_scratch(scratch, facts(properties=UTF8))
    with scratch.connect(prepared.dbname) as session:
        session.execute(
            "CREATE EXTENSION hstore SCHEMA public; CREATE TABLE public.systems (id int PRIMARY KEY)"
        )
        session.execute("ALTER EXTENSION hstore ADD TABLE public.systems")
    open_up(scratch, prepared)
    with scratch.connect_as_restorer(prepared.dbname) as session:
        session.execute("CREATE TABLE public.place (system int REFERENCES public.systems)")
