"""What every test may ask for: real PostgreSQL servers, one of each major for the whole session."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from multiprocessing.util import Finalize
from pathlib import Path

import pytest

from blocks import references
from tests.servers.postgres import PostgresServer, programs, start_postgres

SETTINGS = {"max_prepared_transactions": "2"}
AFTER_ITS_OWN = -101  # multiprocessing clears its own files in there at -100
LONGEST_FIRST = ("test_demo.py", "test_deployed.py")


def pytest_configure() -> None:
    """Give each of several processes temporary files of its own: a scratch server sweeps what others left."""
    if name := os.environ.get("PYTEST_XDIST_WORKER"):
        directory = Path(tempfile.mkdtemp(prefix=f"pgsalvo-{name}-"))
        directory.chmod(0o755)  # servers of other users lie in it
        Finalize(None, shutil.rmtree, [directory], {"ignore_errors": True}, exitpriority=AFTER_ITS_OWN)
        os.environ["TMPDIR"] = tempfile.tempdir = str(directory)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no process waits for another at the end."""
    order = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    """Each test begins without the secrets of others, whose words would be taken out of its texts.

    Nor is a late answer of Prefect remembered, after which nothing would be published for five minutes.
    """
    _forget_late_answers()
    yield
    references._remembered.clear()
    _forget_late_answers()  # before the next module's fixtures


def _forget_late_answers() -> None:
    if beside := sys.modules.get("flows.beside"):  # which most tests need not import, nor Prefect with it
        beside._Api.asked_again_at = 0.0


@pytest.fixture(scope="session")
def postgres15() -> Iterator[PostgresServer]:
    """PostgreSQL 15: the system's, else the wheel's."""
    yield from _server(15)


@pytest.fixture(scope="session")
def postgres17() -> Iterator[PostgresServer]:
    """PostgreSQL 17: the system's, else the wheel's."""
    yield from _server(17)


@pytest.fixture(params=["postgres15", "postgres17"])
def postgres(request: pytest.FixtureRequest) -> PostgresServer:
    """Both majors, one after the other."""
    server = request.getfixturevalue(request.param)
    assert isinstance(server, PostgresServer)
    return server


@pytest.fixture(scope="session")
def prefect() -> Iterator[None]:
    """One Prefect server for the whole session, which flows of this process talk to."""
    from prefect.settings import PREFECT_SERVER_ANALYTICS_ENABLED, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    # telemetry, which cannot be sent here, would write to its database at the worst of times
    with (
        temporary_settings({PREFECT_SERVER_ANALYTICS_ENABLED: False}),
        prefect_test_harness(server_startup_timeout=90),
    ):
        yield


def _server(major: int) -> Iterator[PostgresServer]:
    server = start_postgres(major, programs(major), SETTINGS)
    yield server
    server.stop()
