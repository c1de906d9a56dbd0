"""README's fenced `sh` commands, executed literally and in order, in a fresh clone with an empty HOME.

Only the names of the outside world are replaced by those of servers that this test starts.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.conftest import SHOP
from tests.servers.postgres import PASSWORD, SUPERUSER, PostgresServer
from tests.servers.prefect import prefect_server
from tests.servers.s3 import S3Server, start_s3
from tests.servers.slack import slack_stub

ROOT = Path(__file__).parents[2]
FENCED = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BUCKET = "acme-backups"
AUTHORISATION = "admin:change-me"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The files that a clone would have, the uncommitted ones too."""
    listed = subprocess.run(
        ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"),
        cwd=ROOT, capture_output=True, check=True,
    ).stdout  # fmt: skip
    clone = tmp_path / "clone"
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).exists():
            target = clone / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
            target.chmod((ROOT / name).stat().st_mode)
    subprocess.run(("git", "init", "--quiet"), cwd=clone, check=True)
    return clone


@pytest.fixture
def home(tmp_path: Path, postgres15: PostgresServer) -> Iterator[Path]:
    """A HOME that is empty but for the password that README speaks of."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".pgpass").touch(mode=0o600)
    (home / ".pgpass").write_text(
        f"127.0.0.1:{postgres15.port}:*:backup:backup-password\n"
        f"127.0.0.1:{postgres15.port}:*:{SUPERUSER}:{PASSWORD}\n"
    )
    yield home
    for name in ("by_hand", "restored"):
        postgres15.drop_database(name)
    postgres15.execute("DROP ROLE IF EXISTS backup")


@pytest.fixture
def bucket() -> Iterator[S3Server]:
    server = start_s3(BUCKET)
    yield server
    server.stop()


@pytest.mark.timeout(900)
def test_readmes_commands_work_as_they_stand(
    clone: Path, home: Path, bucket: S3Server, postgres15: PostgresServer
) -> None:
    with (
        postgres15.database("shop"),
        slack_stub() as slack,
        prefect_server(auth=AUTHORISATION) as server,
    ):
        postgres15.execute(SHOP, "shop")
        postgres15.execute("CREATE ROLE backup LOGIN BYPASSRLS PASSWORD 'backup-password'")
        postgres15.execute("GRANT pg_read_all_data TO backup")
        place = f"127.0.0.1:{postgres15.port}"
        environment = {
            "HOME": str(home),
            "PATH": f"{postgres15.programs}:{os.environ['PATH']}",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(postgres15.port),
            "PGUSER": SUPERUSER,
            "AWS_ACCESS_KEY_ID": bucket.access_key_id,
            "AWS_SECRET_ACCESS_KEY": bucket.secret_access_key,
            "SLACK_WEBHOOK_URL": slack.url,
            "TERM": "dumb",
        }
        script = _script(
            {
                "db.example.com:5432": place,
                "https://s3.example.com": bucket.endpoint_url,
                "http://prefect.example.com:4200/api": server.api_url,
            }
        )
        for pool in ("backup", "verify"):
            server.start_worker(pool, environment | {"DATABASE_URL": f"postgresql://backup@{place}/shop"})
        finished = subprocess.run(
            ("bash", "-euo", "pipefail", "-c", script),
            cwd=clone, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=840,
        )  # fmt: skip
        assert finished.returncode == 0, finished.stdout[-8000:]
        for name in ("by_hand", "restored"):
            assert postgres15.query("SELECT count(*) FROM orders", name) == [(20_000,)]
        assert not slack.messages, "an alert was sent although everything went well"


def _script(names: dict[str, str]) -> str:
    blocks = FENCED.findall((ROOT / "README.md").read_text())
    script = "".join(f"echo '--- {number}'\n{block}" for number, block in enumerate(blocks))
    for example, real in names.items():
        assert example in script, f"README no longer speaks of {example}"
        script = script.replace(example, real)
    return script
