"""What is restored reaches nobody: not the hosts that its foreign tables, functions and triggers speak of."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from psycopg import sql

from blocks import scratch_launch
from flows.core.errors import Unverifiable
from tests.servers.listener import Listener, listening
from tests.servers.plan import PLANS_VARIABLE, PlanOnDisk
from tests.servers.ports import wait_until
from tests.servers.postgres import PASSWORD, SUPERUSER, WHEELS, PostgresServer
from tests.servers.programs import run

DATABASE = "outward"
ON_RESTORE = ("foreign-table", "check", "materialized-view")
AFTERWARDS = ("event-trigger", "subscription")

# At the source all of this is quiet: the functions do nothing there, the foreign table leads to itself.
NEAR = "CREATE TABLE public.near (n int); INSERT INTO public.near VALUES (1)"
OUTWARD = """
    CREATE EXTENSION dblink;
    CREATE EXTENSION postgres_fdw;
    CREATE FUNCTION public.call(port int) RETURNS bool LANGUAGE plpgsql AS $$
        BEGIN
            IF current_database() <> {source} THEN
                PERFORM public.dblink_connect(
                    format('host=127.0.0.1 port=%s user=x password=x dbname=x', port));
            END IF;
            RETURN true;
        EXCEPTION WHEN OTHERS THEN RETURN true;
        END $$;
    CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw
        OPTIONS (host '127.0.0.1', port {own_port}, dbname {source});
    CREATE USER MAPPING FOR PUBLIC SERVER far OPTIONS (user {user}, password {password});
    CREATE FOREIGN TABLE public.far (n int) SERVER far OPTIONS (schema_name 'public', table_name 'near');
    CREATE MATERIALIZED VIEW public.fetched AS SELECT * FROM public.far;
    ALTER SERVER far OPTIONS (SET port {foreign-table});
    CREATE TABLE public.checked (n int CHECK (public.call({check})));
    INSERT INTO public.checked VALUES (1);
    CREATE MATERIALIZED VIEW public.called AS SELECT public.call({materialized-view});
    CREATE FUNCTION public.on_event() RETURNS event_trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM public.call({event-trigger}); END $$;
    CREATE EVENT TRIGGER on_event ON ddl_command_end EXECUTE FUNCTION public.on_event();
    ALTER EVENT TRIGGER on_event ENABLE ALWAYS;
"""
LOG_IN = """
    CREATE EVENT TRIGGER on_log_in ON login EXECUTE FUNCTION public.on_event();
    ALTER EVENT TRIGGER on_log_in ENABLE ALWAYS;
"""
SUBSCRIPTION = """
    CREATE SUBSCRIPTION outward CONNECTION {conninfo} PUBLICATION everything
        WITH (connect = false, slot_name = 'outward')"""


@dataclass(frozen=True)
class Outward:
    """A database that a careless restore would connect from, and a listener for each way."""

    server: PostgresServer
    listeners: dict[str, Listener]

    @property
    def connections(self) -> dict[str, int]:
        return {way: listener.connections for way, listener in self.listeners.items()}

    def reached(self, *ways: str) -> bool:
        return all(self.listeners[way].connections for way in ways)


@contextmanager
def outward_database(server: PostgresServer) -> Iterator[Outward]:
    with ExitStack() as stack:
        listeners = {way: stack.enter_context(listening()) for way in (*ON_RESTORE, *AFTERWARDS)}
        stack.enter_context(server.database(DATABASE))
        values = {"source": DATABASE, "own_port": str(server.port), "user": SUPERUSER, "password": PASSWORD}
        ports = {way: str(listener.port) for way, listener in listeners.items()}
        literals = {name: sql.Literal(text) for name, text in (values | ports).items()}
        conninfo = sql.Literal(f"host=127.0.0.1 port={ports['subscription']} user=x dbname=x")
        with server.connect(DATABASE) as session:
            session.execute(sql.SQL(NEAR).format(**literals))
            session.execute(sql.SQL(OUTWARD).format(**literals))
            session.execute(sql.SQL(SUBSCRIPTION).format(conninfo=conninfo))
            if server.major >= 17:
                session.execute(LOG_IN.encode())
        stack.callback(forget_subscription, server, DATABASE)
        yield Outward(server, listeners)


def forget_subscription(server: PostgresServer, dbname: str) -> None:
    """Drop it without its slot at the far end, which nobody is."""
    server.execute("ALTER SUBSCRIPTION outward DISABLE", dbname)
    server.execute("ALTER SUBSCRIPTION outward SET (slot_name = NONE)", dbname)
    server.execute("DROP SUBSCRIPTION outward", dbname)


@pytest.fixture
def outward(postgres: PostgresServer) -> Iterator[Outward]:
    with outward_database(postgres) as outward:
        yield outward


@pytest.fixture
def plan(
    prefect: None,  # noqa: ARG001 - its API must be there
    outward: Outward,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> PlanOnDisk:
    monkeypatch.setenv("PGSALVO_TOOLS_DIRECTORY", str(WHEELS))
    plan = PlanOnDisk.for_database(tmp_path, outward.server.conninfo(DATABASE))
    monkeypatch.setenv(PLANS_VARIABLE, str(plan.file))
    return plan


def test_a_verification_reaches_nobody_and_a_careless_restore_does(
    plan: PlanOnDisk, outward: Outward
) -> None:
    """The view over a foreign table stays empty, which is no fault of a dump that holds none of its rows."""
    backup_id = plan.back_up()
    assert outward.connections == dict.fromkeys(outward.listeners, 0)
    assert plan.verify() == backup_id
    assert outward.connections == dict.fromkeys(outward.listeners, 0)

    server = outward.server
    dump = run(server, "pg_dump", "--format=custom", f"--dbname={server.conninfo(DATABASE)}")
    with server.database("careless") as conninfo:
        run(server, "pg_restore", f"--dbname={conninfo}", stdin=dump, may_fail=True)
        wait_until(lambda: outward.reached(*ON_RESTORE), "connections by a careless restore")
        server.execute("ALTER SUBSCRIPTION outward ENABLE", "careless")
        wait_until(lambda: outward.reached(*AFTERWARDS), "connections after a careless restore")
        forget_subscription(server, "careless")


def test_where_the_network_cannot_be_taken_away_nothing_that_could_use_it_is_restored(
    plan: PlanOnDisk, outward: Outward, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan.back_up()
    monkeypatch.setattr(scratch_launch, "can_do_without_network", lambda _: False)
    with pytest.raises(Unverifiable, match="kept off the network here, and the dump holds") as caught:
        plan.verify()
    assert "the extension dblink, the extension postgres_fdw" in caught.value.message
    assert "in a container" in caught.value.hint
    assert outward.connections == dict.fromkeys(outward.listeners, 0)


def test_it_is_the_namespace_that_keeps_restored_code_off_the_network(
    plan: PlanOnDisk, outward: Outward, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the same verification in a server that only says that it has no network."""
    plan.back_up()
    monkeypatch.setattr(scratch_launch, "without_network", lambda command: command)
    plan.verify()
    wait_until(lambda: outward.reached(*ON_RESTORE), "connections by a verification on the network")
    assert {way: outward.connections[way] for way in AFTERWARDS} == dict.fromkeys(AFTERWARDS, 0)
