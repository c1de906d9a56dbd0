"""The bad night: a backup comes back on an empty server, by hand as RESTORE.md says, and with pgsalvo."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from blocks.errors import ConfigurationError
from flows.core.errors import VerificationFailed
from flows.core.naming import BackupId
from tests.servers import keys
from tests.servers.contents import contents
from tests.servers.disk import remove
from tests.servers.plan import PlanOnDisk
from tests.servers.postgres import PASSWORD, SUPERUSER, PostgresServer, programs, start_postgres

Planned = Callable[..., PlanOnDisk]

ROLES = ("bank_owner", '"bank teller"')
BANK = """
    CREATE SCHEMA bank AUTHORIZATION bank_owner;
    SET ROLE bank_owner;
    CREATE TABLE bank.accounts (
        id serial PRIMARY KEY, owner text NOT NULL, balance numeric CHECK (balance >= 0)
    );
    INSERT INTO bank.accounts (owner, balance)
        SELECT 'customer ' || n, n / 3.0 FROM generate_series(1, 5000) n;
    CREATE INDEX ON bank.accounts (lower(owner));
    CREATE VIEW bank.rich AS SELECT * FROM bank.accounts WHERE balance > 1000;
    CREATE FUNCTION bank.total() RETURNS numeric LANGUAGE sql AS 'SELECT sum(balance) FROM bank.accounts';
    GRANT SELECT ON bank.accounts TO "bank teller";
    GRANT USAGE ON SCHEMA bank TO "bank teller";
    RESET ROLE;
    CREATE TABLE bank.transfers (
        id bigserial PRIMARY KEY, account int REFERENCES bank.accounts, at timestamptz
    );
    INSERT INTO bank.transfers (account, at)
        SELECT 1 + n % 5000, '2026-01-01'::timestamptz + n * interval '1 min'
        FROM generate_series(1, 20000) n;
    SELECT lo_from_bytea(4711, decode('00ff10', 'hex')), lo_from_bytea(4712, convert_to('Ünïcode', 'UTF8'));
    GRANT SELECT ON LARGE OBJECT 4711 TO "bank teller";
    ALTER DATABASE bank SET work_mem = '7MB';
    ALTER DATABASE bank SET search_path = bank, "$user", public;
    ALTER ROLE "bank teller" IN DATABASE bank SET search_path = '';
    REVOKE ALL ON DATABASE bank FROM PUBLIC;
    GRANT CONNECT ON DATABASE bank TO "bank teller";
    GRANT CREATE ON DATABASE bank TO bank_owner WITH GRANT OPTION;
"""
PROPERTIES = """
    SELECT d.datacl::text, r.rolname, setting
    FROM pg_database d
    JOIN pg_db_role_setting s ON s.setdatabase = d.oid CROSS JOIN unnest(s.setconfig) setting
    LEFT JOIN pg_roles r ON r.oid = s.setrole
    WHERE d.datname = current_database()
    ORDER BY 2, 3"""
PASSWORDS = "SELECT rolname, rolpassword FROM pg_authid WHERE rolname LIKE 'bank%' ORDER BY 1"


@pytest.fixture
def bank(postgres: PostgresServer) -> Iterator[str]:
    """The conninfo of a database with owners, rights, settings and large objects, on both majors."""
    for number, role in enumerate(ROLES):
        postgres.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'secret {number}'")
    with postgres.database("bank") as conninfo:
        postgres.execute(BANK, "bank")
        yield conninfo
    for role in ROLES:
        postgres.execute(f"DROP ROLE {role}")


@pytest.fixture
def plan(planned: Planned, bank: str) -> PlanOnDisk:
    return planned(bank)


@pytest.fixture
def rescue(postgres: PostgresServer) -> Iterator[PostgresServer]:
    """Another server of the same major, with nothing on it."""
    server = start_postgres(postgres.major, programs(postgres.major))
    yield server
    server.stop()


class BadNight:
    """A terminal in a copy of a backup's folder: PostgreSQL's programs, gpg and zstd, and no pgsalvo."""

    def __init__(self, folder: Path, server: PostgresServer, home: Path) -> None:
        self.folder = folder
        self.environment = {
            "PATH": f"{server.programs}{os.pathsep}/usr/bin{os.pathsep}/bin",
            "HOME": str(home),
            "GNUPGHOME": str(home / "gnupg"),
            "PGHOST": "127.0.0.1",
            "PGPORT": str(server.port),
            "PGUSER": SUPERUSER,
            "PGPASSWORD": PASSWORD,
        }
        (home / "gnupg").mkdir(mode=0o700)

    def run(self, script: str) -> str:
        """Run a script in the folder; it must end well, and gpg must not have warned."""
        done = subprocess.run(
            ("bash", "-c", script), cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "WARNING" not in done.stderr
        return done.stdout


@pytest.fixture
def bad_night(rescue: PostgresServer) -> Iterator[Callable[[PlanOnDisk, BackupId], BadNight]]:
    """Copy a backup from its store and the secret key to a machine that knows nothing of pgsalvo."""
    home = Path(tempfile.mkdtemp(prefix="pgsalvo-night-"))  # short, for the socket of gpg's agent

    def copied(plan: PlanOnDisk, backup_id: BackupId) -> BadNight:
        folder = Path(shutil.copytree(Path(plan.store.location) / plan.name / backup_id, home / backup_id))
        shutil.copy(keys.normal().secret_file, folder / "ops.secret.asc")
        return BadNight(folder, rescue, home)

    yield copied
    subprocess.run(("gpgconf", "--homedir", home / "gnupg", "--kill", "gpg-agent"), check=True)
    remove(home)


def test_a_backup_is_restored_by_hand_as_the_guide_and_its_manifest_say(
    plan: PlanOnDisk,
    postgres: PostgresServer,
    rescue: PostgresServer,
    bad_night: Callable[[PlanOnDisk, BackupId], BadNight],
) -> None:
    backup_id = plan.back_up()
    night = bad_night(plan, backup_id)
    guide = plan.store.read(f"{plan.name}/RESTORE.md").decode()
    sums, unlock, see, roles, restore = re.findall(r"^```sh\n(.*?)^```$", guide, re.DOTALL | re.MULTILINE)

    told = {name: sha256 for sha256, name in (line.split() for line in night.run(sums).splitlines())}
    assert told == {archive.name: archive.sha256 for archive in plan.manifest(backup_id).archives}
    night.run(unlock)
    facts = json.loads(night.run(see))
    assert {setting["name"] for setting in facts["settings"]} == {"work_mem", "search_path"}
    assert len(facts["properties"]["access_privileges"]) == 3
    night.run(roles)
    assert "exit status: 0" in night.run(restore)

    assert contents(rescue, "target") == contents(postgres, "bank")
    assert rescue.query(PASSWORDS) == postgres.query(PASSWORDS)

    rescue.drop_database("target")
    for command in json.loads((night.folder / "manifest.json").read_text())["restore"]:
        night.run(command)
    assert contents(rescue, "target") == contents(postgres, "bank")


def test_pgsalvo_brings_back_roles_rights_and_settings_too(
    plan: PlanOnDisk, postgres: PostgresServer, rescue: PostgresServer
) -> None:
    backup_id = plan.back_up()
    rescue.create_database("bank")
    assert plan.restore(_url(plan, rescue, "bank"), with_globals=True) == backup_id
    assert contents(rescue, "bank") == contents(postgres, "bank")
    assert rescue.query(PROPERTIES, "bank") == postgres.query(PROPERTIES, "bank")
    assert rescue.query(PASSWORDS) == postgres.query(PASSWORDS)


@pytest.mark.parametrize("postgres", ["postgres15"], indirect=True)
def test_a_restore_without_the_roles_fails_and_says_how_to_get_them(
    plan: PlanOnDisk, rescue: PostgresServer
) -> None:
    plan.back_up()
    rescue.create_database("bank")
    with pytest.raises(VerificationFailed, match="pg_restore reported") as caught:
        plan.restore(_url(plan, rescue, "bank"))
    assert "--globals creates them" in caught.value.hint
    (kept,) = re.findall(r"gpg --decrypt (\S+) shows them", caught.value.hint)
    decrypt = ("gpg", "--homedir", keys.normal().homedir, "--batch", "--decrypt", kept)
    errors = subprocess.run(decrypt, capture_output=True, text=True, check=True).stdout
    assert 'role "bank_owner" does not exist' in errors


@pytest.mark.parametrize("postgres", ["postgres15"], indirect=True)
def test_nothing_is_restored_over_what_is_there(plan: PlanOnDisk, postgres: PostgresServer) -> None:
    plan.back_up()
    before = contents(postgres, "bank")
    with pytest.raises(ConfigurationError, match=r"not empty: it has \d+ tables") as caught:
        plan.restore("file:" + str(plan.directory / "database-url"))
    assert "createdb" in caught.value.hint
    assert contents(postgres, "bank") == before


@pytest.mark.parametrize("postgres", ["postgres15"], indirect=True)
@pytest.mark.parametrize(
    ("statement", "told"),
    [
        pytest.param("CREATE VIEW v AS SELECT 1", "1 tables, views or sequences", id="view"),
        pytest.param(
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "1 functions", id="function"
        ),
        pytest.param("CREATE TYPE mood AS ENUM ('good')", "1 types", id="type"),
        pytest.param("SELECT lo_create(1)", "1 large objects", id="large-object"),
    ],
)
def test_a_target_is_empty_only_without_anything(
    plan: PlanOnDisk, postgres: PostgresServer, statement: str, told: str
) -> None:
    plan.back_up()
    with postgres.database("target"):
        postgres.execute(statement, "target")
        with pytest.raises(ConfigurationError, match=told):
            plan.restore(_url(plan, postgres, "target"))


def _url(plan: PlanOnDisk, server: PostgresServer, dbname: str) -> str:
    path = plan.directory / "target-url"
    path.write_text(server.conninfo(dbname))
    return f"file:{path}"
