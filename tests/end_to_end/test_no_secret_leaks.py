"""A password, a passphrase, a webhook's address and a row's value are planted, and found nowhere."""

import logging
import re
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from prefect.logging.configuration import setup_logging

from blocks.errors import ConfigurationError, ConnectionFailed, ProgramFailed, WorldError
from blocks.stores import LocalStore
from flows.core.errors import BackupError, Unverifiable, VerificationFailed
from flows.scrubbing import UnexpectedError
from tests.servers import keys
from tests.servers.disk import remove
from tests.servers.leaks import Watch, eventually_in, leaks, prefects_database, watched
from tests.servers.plan import PLANS_VARIABLE, PlanOnDisk
from tests.servers.postgres import PostgresServer
from tests.servers.programs import stubbed_programs
from tests.servers.slack import SECRET_PATH, SERVER_ERROR, SlackStub, slack_stub

DBNAME = "discreet"
ROLE = "discreet"
PASSWORD = "planted-password-93ab17"
ROW = "planted-row-value-5be0c2"
SECRETS = {"password": PASSWORD, "passphrase": keys.PASSPHRASE, "webhook": SECRET_PATH, "row": ROW}
TABLES = f"""
    CREATE TABLE people (id serial PRIMARY KEY, name text);
    INSERT INTO people (name) SELECT '{ROW}-' || n FROM generate_series(1, 2000) n;
"""
# Good at the source, bad wherever it is restored, and each error's text holds a row's value.
TROUBLE = f"""
    CREATE FUNCTION here(name text) RETURNS text IMMUTABLE LANGUAGE sql
        AS $$ SELECT CASE current_database() WHEN '{DBNAME}' THEN name ELSE left(name, 24) END $$;
    CREATE FUNCTION only_here(name text) RETURNS bool LANGUAGE plpgsql AS $$
        BEGIN
            IF current_database() <> '{DBNAME}' THEN RAISE EXCEPTION 'not %', name; END IF;
            RETURN true;
        END $$;
    CREATE TABLE checked (name text CHECK (current_database() = '{DBNAME}'));
    CREATE TABLE raised (name text CHECK (public.only_here(name)));
    INSERT INTO checked SELECT name FROM people LIMIT 2;
    INSERT INTO raised SELECT name FROM people LIMIT 2;
    CREATE UNIQUE INDEX people_here ON people (public.here(name));
"""


@dataclass(frozen=True)
class Discreet:
    """A plan whose secrets are planted, and the places to look at after a run."""

    plan: PlanOnDisk
    temporary: Path
    server: PostgresServer
    slack: SlackStub
    log: pytest.LogCaptureFixture
    output: "pytest.CaptureFixture[str]"

    def conninfo(self, conninfo: str) -> None:
        """Let the plan say another address of its database."""
        (self.plan.directory / "database-url").write_text(conninfo)

    def watched(self) -> AbstractContextManager[Watch]:
        return watched(self.temporary, self.plan.directory / "spool", self.plan.directory / "store")

    def assert_nothing_leaked(self, watch: Watch, told: str) -> None:
        """Look for each secret in each place.

        Args:
            told: Harmless words that Prefect's database and the logs do show.
        """
        printed = self.output.readouterr()
        places = {
            **watch.seen,
            "log": self.log.text.encode(),
            "terminal": (printed.out + printed.err).encode(),
            "messages": repr(self.slack.messages).encode(),
        }
        assert eventually_in(told)
        assert told in places["log"].decode()
        assert leaks(places | prefects_database(), SECRETS) == []
        assert list(self.temporary.glob("*")) == []

    def assert_failed(self, watch: Watch, cause: BaseException, kind: str) -> None:
        """The same for a run that failed: its cause, and the message that was sent, are in our own words."""
        assert isinstance(cause, WorldError | BackupError)
        told = cause.message.splitlines()[0]
        assert self.slack.texts[-1].startswith(f"{kind}: plan {self.plan.name}, ")
        self.assert_nothing_leaked(watch, told)


@pytest.fixture(scope="module")
def database(postgres15: PostgresServer) -> Iterator[PostgresServer]:
    with postgres15.database(DBNAME):
        postgres15.execute(f"CREATE ROLE {ROLE} LOGIN SUPERUSER PASSWORD '{PASSWORD}'")
        postgres15.execute(TABLES, DBNAME)
        yield postgres15
    postgres15.execute(f"DROP ROLE {ROLE}")


@pytest.fixture
def discreet(
    prefect: None,  # noqa: ARG001 - its API must be there
    database: PostgresServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: "pytest.CaptureFixture[str]",
) -> Iterator[Discreet]:
    keys.with_passphrase()  # made before temporary files go elsewhere
    caplog.set_level(logging.DEBUG)
    setup_logging()
    logger = logging.getLogger("prefect")  # which does not pass its records on to the root's handlers
    logger.addHandler(caplog.handler)
    for name in ("spool", "store"):
        (tmp_path / name).mkdir()
    temporary = Path(tempfile.mkdtemp())  # short, for the scratch server's socket lies in it
    temporary.chmod(0o711)
    with slack_stub() as slack:
        (tmp_path / "webhook").write_text(slack.url)
        monkeypatch.setenv("TEST_PASSPHRASE", keys.PASSPHRASE)
        monkeypatch.setenv("TMPDIR", str(temporary))
        monkeypatch.setattr(tempfile, "tempdir", str(temporary))
        plan = PlanOnDisk.for_database(
            tmp_path,
            database.conninfo(DBNAME, user=ROLE, password=PASSWORD),
            recipients=[str(keys.with_passphrase().public_file)],
            alerts=[{"kind": "slack", "webhook_url": "file:webhook"}],
        )
        plan.secret_keys["ops"] = {
            "key_file": str(keys.with_passphrase().secret_file),
            "passphrase": "env:TEST_PASSPHRASE",
        }
        plan.write()
        monkeypatch.setenv(PLANS_VARIABLE, str(plan.file))
        yield Discreet(plan, temporary, database, slack, caplog, capsys)
    logger.removeHandler(caplog.handler)
    remove(temporary)


@pytest.fixture
def target(discreet: Discreet) -> Iterator[str]:
    """Where the conninfo of an empty database lies, whose role has the planted password."""
    with discreet.server.database("target"):
        conninfo = discreet.server.conninfo("target", user=ROLE, password=PASSWORD)
        (discreet.plan.directory / "target-url").write_text(conninfo)
        yield f"file:{discreet.plan.directory / 'target-url'}"


def test_a_whole_round_lets_nothing_out(discreet: Discreet, target: str, tmp_path: Path) -> None:
    lingering = stubbed_programs(
        tmp_path / "lingering", discreet.server.programs, pg_dump='$REAL "$@"; code=$?; sleep 1; exit $code'
    )  # or a busy machine's watch may miss it
    discreet.plan.write(database={"conninfo": "file:database-url", "client_directory": str(lingering)})
    with discreet.watched() as watch:
        backup_id = discreet.plan.back_up()
        discreet.plan.verify()
        discreet.plan.restore(target)
        discreet.plan.prune()
    programs = {word.rpartition(b"/")[2] for argv in watch.seen.values() for word in argv.split(b"\0")[:2]}
    assert {b"pg_dump", b"gpg", b"pg_restore"} <= programs
    assert any(str(discreet.plan.spool) in place for place in watch.seen)
    discreet.assert_nothing_leaked(watch, backup_id)


@pytest.mark.parametrize(
    ("address", "kind", "told"),
    [
        pytest.param("{role}:{secret}-wrong", ConnectionFailed, "password authentication", id="wrong"),
        pytest.param("{role}:half@{secret}", ConfigurationError, "for a host or port", id="with an @"),
        pytest.param("{role}:half/{secret}", WorldError, "conn", id="with a slash"),
        pytest.param("{role}:%zz{secret}", ConfigurationError, "conninfo", id="badly encoded"),
    ],
)
def test_a_password_in_a_url_that_does_not_work_is_not_shown(
    discreet: Discreet, address: str, kind: type[WorldError], told: str
) -> None:
    filled = f"{address.format(role=ROLE, secret=PASSWORD)}@127.0.0.1:{discreet.server.port}"
    discreet.conninfo(f"postgresql://{filled}/{DBNAME}")
    with discreet.watched() as watch, pytest.raises(kind, match=told) as caught:
        discreet.plan.back_up()
    discreet.assert_failed(watch, caught.value, "BACKUP_FAILED")


def test_an_error_of_the_restore_shows_no_row(discreet: Discreet, target: str) -> None:
    """pg_restore's own words are kept encrypted: of a check, a raised text, and a duplicate key."""
    discreet.server.execute(TROUBLE, DBNAME)
    with discreet.watched() as watch:
        discreet.plan.back_up()
        with pytest.raises(VerificationFailed) as caught:
            discreet.plan.verify()
        discreet.assert_failed(watch, caught.value, "VERIFY_FAILED")
    with discreet.watched() as watch:
        with pytest.raises(VerificationFailed) as caught:
            discreet.plan.restore(target)
        discreet.assert_failed(watch, caught.value, "RESTORE_FAILED")
    (file,) = re.findall(r"gpg --decrypt (\S+)", caught.value.hint)
    assert Path(file).stat().st_mode & 0o077 == 0
    said = keys.decrypted(Path(file).read_bytes(), keys.with_passphrase()).decode()
    for words in ("Failing row contains", f"not {ROW}", "is duplicated"):
        assert words in said
    assert said.count(ROW) >= 3


def test_a_program_that_tells_its_password_is_not_repeated(discreet: Discreet, tmp_path: Path) -> None:
    script = 'echo "pg_dump: error: this is $(cat $PGPASSFILE)" >&2; exit 1'
    programs = stubbed_programs(tmp_path / "stubs", discreet.server.programs, pg_dump=script)
    database = {"conninfo": "file:database-url", "client_directory": str(programs)}
    discreet.plan.write(database=database)
    with (
        discreet.watched() as watch,
        pytest.raises(ProgramFailed, match=r"error: this is .*\*\*\*") as caught,
    ):
        discreet.plan.back_up()
    discreet.assert_failed(watch, caught.value, "BACKUP_FAILED")


def test_a_wrong_passphrase_is_not_shown(discreet: Discreet, monkeypatch: pytest.MonkeyPatch) -> None:
    discreet.plan.back_up()
    monkeypatch.setenv("TEST_PASSPHRASE", keys.PASSPHRASE + "-wrong")
    with discreet.watched() as watch, pytest.raises(Unverifiable, match="wrong passphrase") as caught:
        discreet.plan.verify()
    discreet.assert_failed(watch, caught.value, "VERIFY_UNVERIFIABLE")


class _Refused(psycopg.errors.CheckViolation):
    """As the server words it: the row is in the text."""

    def __str__(self) -> str:
        return f"new row violates check constraint\nDETAIL:  Failing row contains ({ROW})."


@pytest.mark.parametrize(
    ("unforeseen", "told"),
    [
        pytest.param(
            RuntimeError(f"cannot use {PASSWORD}"), r"RuntimeError: cannot use \*\*\*", id="a secret"
        ),
        pytest.param(_Refused(), "_Refused", id="a row"),
    ],
)
def test_an_error_that_nobody_foresaw_is_told_in_our_words(
    discreet: Discreet, monkeypatch: pytest.MonkeyPatch, unforeseen: Exception, told: str
) -> None:
    """In a task, whose own state and log tell of it before the flow does."""

    def put(*_: object, **__: object) -> int:
        raise unforeseen

    monkeypatch.setattr(LocalStore, "put", put)
    with discreet.watched() as watch, pytest.raises(UnexpectedError, match=told) as caught:
        discreet.plan.back_up()
    discreet.assert_failed(watch, caught.value, "BACKUP_FAILED")


def test_a_message_that_is_not_delivered_does_not_show_where_to(discreet: Discreet) -> None:
    discreet.slack.default = SERVER_ERROR
    discreet.conninfo(f"host=127.0.0.1 port=1 dbname={DBNAME} password={PASSWORD}")
    with discreet.watched() as watch, pytest.raises(ConnectionFailed):
        discreet.plan.back_up()
    assert discreet.slack.requests
    discreet.assert_nothing_leaked(watch, "the alert BACKUP_FAILED of plan shop was not delivered")
