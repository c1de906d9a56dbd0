"""The script of roles names them as a session of ours does, whatever the database's own encoding."""

from pydantic import SecretStr

from blocks import pgcommands
from blocks.identity import roles
from blocks.postgres import PostgresDatabase, pin
from blocks.process import run_checked
from tests.servers.postgres import PostgresServer

ROLE = "Señor de la Rosa"


def test_a_role_is_named_as_a_session_reads_it_in_a_database_of_another_encoding(
    postgres: PostgresServer,
) -> None:
    with postgres.database("latin", ENCODING="LATIN1", LC_COLLATE="C", LC_CTYPE="C") as conninfo:
        postgres.execute(f'CREATE ROLE "{ROLE}"', "latin")
        database = PostgresDatabase(conninfo=SecretStr(conninfo))
        with database.connect() as session:
            server, (named,) = pin(session), [name for name in roles(session) if name.startswith("Se")]
        with database.client_environment(server) as reached:
            connection = reached.with_environment({"LD_LIBRARY_PATH": str(postgres.programs.parent / "lib")})
            program = postgres.programs / "pg_dumpall"
            script = run_checked(pgcommands.dump_globals(program, connection, passwords=True))
        postgres.execute(f'DROP ROLE "{ROLE}"', "latin")
    assert f'CREATE ROLE "{named}";\n' in script.decode()
