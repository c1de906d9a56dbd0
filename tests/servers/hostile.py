"""A database whose owners mean harm: their code tries to reach the host wherever a restore may run it.

On the source it lies dormant; anywhere else it plants a file for each way in by which it ran with power,
and leaves a row in `loot` for whatever else it got hold of.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from psycopg import sql

from tests.servers.postgres import PostgresServer

DATABASE = "hostile"
OWNER = "mallory"

ATTACK = """
    CREATE EXTENSION dblink;
    CREATE ROLE {owner};
    CREATE SCHEMA AUTHORIZATION {owner};
    GRANT CREATE ON SCHEMA public TO {owner};
    SET ROLE {owner};
    CREATE TABLE public.loot (way text, what text);
    CREATE FUNCTION public.try(way text, what text) RETURNS void LANGUAGE plpgsql AS $$
        BEGIN
            EXECUTE what;
            INSERT INTO public.loot VALUES (way, what);
        EXCEPTION WHEN OTHERS THEN RETURN;
        END $$;
    CREATE FUNCTION public.attack(way text) RETURNS bool LANGUAGE plpgsql AS $$
        DECLARE
            touch text := format('COPY (SELECT 1) TO PROGRAM %L', format('touch %s/%s', {directory}, way));
            super name := (SELECT rolname FROM pg_roles WHERE rolsuper LIMIT 1);
        BEGIN
            IF current_database() = 'hostile' THEN RETURN true; END IF;
            PERFORM public.try(way, what) FROM unnest(ARRAY[
                touch,
                'RESET ROLE; ' || touch,
                'SET SESSION AUTHORIZATION DEFAULT; ' || touch,
                format('SET SESSION AUTHORIZATION %I; ', super) || touch,
                format('SET ROLE %I; ', super) || touch,
                format('COPY (SELECT 1) TO %L', format('%s/%s-file', {directory}, way)),
                format('SELECT lo_export(lo_from_bytea(0, ''x''), %L)', format('%s/%s-lo', {directory}, way)),
                'SELECT pg_read_file(''/etc/passwd'')',
                'ALTER SYSTEM SET archive_command = ''true''',
                'ALTER ROLE ' || quote_ident(current_user) || ' SUPERUSER',
                format('SELECT public.dblink_exec(%L, %L)', 'dbname=template1 user=' || super, touch),
                'SELECT 1 / count(*) FROM pg_roles WHERE rolsuper AND rolname IN (current_user, session_user)'
            ]) what;
            RETURN true;
        END $$;
    CREATE FUNCTION public.steady(n int, way text) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
        BEGIN PERFORM public.attack(way); RETURN n; END $$;
"""

WAYS = """
    CREATE TABLE public.checked (n int CHECK (public.attack('check')));
    INSERT INTO public.checked VALUES (1);
    CREATE TABLE public.generated (n int, m int GENERATED ALWAYS AS (public.steady(n, 'generated')) STORED);
    INSERT INTO public.generated VALUES (1);
    CREATE TABLE public.generated_constant
        (n int, m int GENERATED ALWAYS AS (n + public.steady(1, 'generated-constant')) STORED);
    CREATE TABLE public.defaulted
        (n int DEFAULT public.steady(1, 'default'), m bool DEFAULT public.attack('default'));
    CREATE DOMAIN public.domain AS int CHECK (public.attack('domain'));
    CREATE TABLE public.of_domain (n public.domain DEFAULT 1);
    INSERT INTO public.of_domain VALUES (1);
    CREATE TABLE public.keyed (n int) PARTITION BY RANGE ((n + public.steady(1, 'partition-key')));
    CREATE DOMAIN public.bound AS int CHECK (public.attack('partition-bound'));
    CREATE TABLE public.bounded (n public.bound) PARTITION BY LIST (n);
    CREATE TABLE public.bounded_1 PARTITION OF public.bounded FOR VALUES IN (1);
    CREATE TABLE public.attached (n int) PARTITION BY LIST (n);
    CREATE TABLE public.attached_1 (n int CHECK (public.steady(1, 'attach') = 1 AND n = 1));
    ALTER TABLE public.attached ATTACH PARTITION public.attached_1 FOR VALUES IN (1);
    CREATE DOMAIN public.state AS int CHECK (public.attack('aggregate'));
    CREATE FUNCTION public.next(public.state, int) RETURNS public.state LANGUAGE sql AS 'SELECT $1';
    CREATE AGGREGATE public.first_state (int) (SFUNC = public.next, STYPE = public.state, INITCOND = '1');
    CREATE FUNCTION public.unlike(name, name) RETURNS bool LANGUAGE plpgsql AS $$
        BEGIN PERFORM public.attack('operator'); RETURN $1::text !~ $2::text; END $$;
    CREATE OPERATOR public.!~ (LEFTARG = name, RIGHTARG = name, FUNCTION = public.unlike);
    CREATE TABLE public.indexed (n int);
    INSERT INTO public.indexed VALUES (1);
    CREATE INDEX ON public.indexed (public.steady(n, 'index'));
    CREATE INDEX ON public.indexed (n) WHERE public.steady(n, 'partial-index') > 0;
    CREATE STATISTICS public.stat ON (public.steady(n, 'statistics')), n FROM public.indexed;
    CREATE FUNCTION public.before() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM public.attack('trigger'); RETURN NEW; END $$;
    CREATE TRIGGER before BEFORE INSERT ON public.indexed FOR EACH ROW EXECUTE FUNCTION public.before();
    CREATE VIEW public.viewed AS SELECT public.attack('view'), public.steady(1, 'view');
    CREATE MATERIALIZED VIEW public.stored AS SELECT public.attack('materialised-view');
    CREATE RULE ruled AS ON INSERT TO public.indexed DO ALSO SELECT public.attack('rule');
    ALTER TABLE public.indexed ENABLE ROW LEVEL SECURITY;
    CREATE POLICY hidden ON public.indexed USING (public.attack('policy'));
    CREATE FUNCTION public.atomic(n int DEFAULT public.steady(1, 'argument')) RETURNS int
        BEGIN ATOMIC SELECT public.steady(1, 'body') + 1::public.domain; END;
    CREATE FUNCTION public.noticed() RETURNS event_trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM public.attack('event-trigger'); END $$;
    CREATE TABLE public."x EVENT TRIGGER - y" (n int);
    CREATE TABLE public."x
1; 0 0 SCHEMA - y" (n int);
    CREATE TABLE public.renamed (n int);
    RESET ROLE;
    CREATE FUNCTION public.with_admins_rights() RETURNS bool SECURITY DEFINER LANGUAGE sql
        AS 'SELECT public.attack(''security-definer'')';
    CREATE TABLE public.definer (n int CHECK (public.with_admins_rights()));
    INSERT INTO public.definer VALUES (1);
    CREATE PUBLICATION everything FOR ALL TABLES;
    COMMENT ON PUBLICATION everything IS 'fires event triggers';
    CREATE EVENT TRIGGER noticed ON ddl_command_end EXECUTE FUNCTION public.noticed();
    CREATE EVENT TRIGGER another ON ddl_command_start EXECUTE FUNCTION public.noticed();
    COMMENT ON EVENT TRIGGER noticed IS 'noticed';
"""

# What a superuser defined on the source; a dump with one of these cannot be restored at all.
CHECKING = """
    CREATE FUNCTION public.valid(text[], oid) RETURNS void LANGUAGE plpgsql AS $$
        BEGIN PERFORM public.attack('validator'); END $$;
    CREATE FUNCTION public.valid(oid) RETURNS void LANGUAGE plpgsql AS $$
        BEGIN PERFORM public.attack('language-validator'); END $$;
    CREATE FUNCTION public.handler() RETURNS language_handler LANGUAGE c
        AS '$libdir/plpgsql', 'plpgsql_call_handler';
    CREATE FOREIGN DATA WRAPPER checked VALIDATOR public.valid;
    CREATE SERVER checked FOREIGN DATA WRAPPER checked;
    CREATE FOREIGN TABLE public.far (n int) SERVER checked;
    CREATE LANGUAGE checked HANDLER public.handler VALIDATOR public.valid;
    CREATE FUNCTION public.witness() RETURNS void LANGUAGE checked AS 'BEGIN END';
    ALTER FUNCTION public.valid(text[], oid) OWNER TO {owner};
    ALTER FUNCTION public.valid(oid) OWNER TO {owner};
"""

LOGIN = """
    CREATE FUNCTION public.logged_in() RETURNS event_trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM public.attack('login'); END $$;
    ALTER FUNCTION public.logged_in() OWNER TO {owner};
    CREATE EVENT TRIGGER logged_in ON login EXECUTE FUNCTION public.logged_in();
"""


@contextmanager
def planting_ground() -> Iterator[Path]:
    """Yield a directory where every user of this host may make files."""
    directory = Path(tempfile.mkdtemp(prefix="pgsalvo-test-planted-", dir="/tmp"))
    directory.chmod(0o777)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


@contextmanager
def hostile_database(server: PostgresServer, directory: Path) -> Iterator[str]:
    """Make the database, whose code plants its files in `directory`; yield its conninfo."""
    names = {"owner": sql.Identifier(OWNER), "directory": sql.Literal(str(directory))}
    server.create_database(DATABASE)
    try:
        with server.connect(DATABASE) as session:
            session.execute(sql.SQL(ATTACK).format(**names))
            session.execute(WAYS.encode())
            if server.major >= 17:
                session.execute(sql.SQL(LOGIN).format(**names))
        assert planted(directory) == set()
        yield server.conninfo(DATABASE)
    finally:
        server.drop_database(DATABASE)
        server.execute(f"DROP ROLE {OWNER}")


def check_definitions(server: PostgresServer) -> None:
    """Let functions of the owner's check what is defined in the database."""
    with server.connect(DATABASE) as session:
        session.execute(sql.SQL(CHECKING).format(owner=sql.Identifier(OWNER)))


def planted(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}
