"""Statistics are gathered as far as they can be, for whoever asks next."""

from pydantic import SecretStr

from blocks.asking import analyse
from blocks.postgres import PostgresDatabase
from tests.servers.postgres import PostgresServer

BROKEN = """
    CREATE TABLE t AS SELECT generate_series(0, 9) AS n;
    CREATE STATISTICS inverse ON (1 / n) FROM t;
"""


def test_statistics_that_cannot_be_gathered_end_nothing(postgres: PostgresServer) -> None:
    """An expression that fails for some row is worked out by ANALYZE alone."""
    with postgres.database("analysed") as conninfo:
        postgres.execute(BROKEN, "analysed")
        with PostgresDatabase(conninfo=SecretStr(conninfo)).connect() as session:
            analyse(session, 60)
            assert session.execute("SELECT count(*) FROM public.t").fetchone() == (10,)
