"""Several destinations: any two of three may be lost, damage is healed, and a late one catches up."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from blocks.errors import ConfigurationError, StoreError
from blocks.stores import Store
from flows import cli, progress, terminal
from flows.catalogue import Copy, read_store
from flows.core import naming
from flows.core.errors import ChecksumMismatch
from flows.core.naming import BackupId
from flows.core.verification import Verdict
from tests.servers.plan import PlanOnDisk
from tests.servers.postgres import PostgresServer
from tests.servers.s3 import S3Server
from tests.servers.slack import SlackStub, slack_stub

Command = Callable[..., str]
NAMES = ("local", "second", "offsite")


@dataclass(frozen=True)
class Site:
    """A plan with three destinations, two on this host and one on an S3 server, and whoever is alerted."""

    plan: PlanOnDisk
    slack: SlackStub

    def store(self, name: str) -> Store:
        return self.plan.loaded.store(name)

    def copies(self, name: str) -> dict[BackupId, Copy]:
        return {copy.backup_id: copy for copy in read_store(self.store(name), self.plan.name)}

    def lose(self, name: str) -> None:
        store = self.store(name)
        for found in list(store.list("")):
            store.delete(found.key)

    def flip(self, name: str, identifier: BackupId) -> None:
        key = naming.object_key(self.plan.name, identifier, naming.MAIN_ARCHIVE)
        body = bytearray(self.store(name).read(key))
        body[len(body) // 2] ^= 1
        self.store(name).put(key, [bytes(body)])


@pytest.fixture
def site(plan: PlanOnDisk, s3: S3Server, request: pytest.FixtureRequest) -> Iterator[Site]:
    with slack_stub() as slack:
        (plan.directory / "webhook").write_text(slack.url)
        (plan.directory / "webhook").chmod(0o600)
        plan.write(
            stores=[
                {"name": "local", "kind": "local", "path": "store"},
                {"name": "second", "kind": "local", "path": "second"},
                plan.s3_store(s3, "backups", f"several-{abs(hash(request.node.name)):x}"),
            ],
            alerts=[{"kind": "slack", "webhook_url": "file:webhook"}],
        )
        yield Site(plan, slack)


@pytest.fixture
def pgsalvo(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the command in this process, to its good end, and return what it says on stdout."""
    monkeypatch.setattr(terminal, "quiet_prefect", lambda: None)
    monkeypatch.setattr(progress, "_listeners", [])
    for variable in cli.EPHEMERAL_SERVER:
        monkeypatch.setenv(variable, "")

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["pgsalvo", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        assert not ended.value.code, said.err
        return said.out

    return run


@pytest.mark.parametrize("left", NAMES)
def test_a_plan_with_three_destinations_survives_the_loss_of_any_two(
    site: Site, postgres15: PostgresServer, left: str
) -> None:
    made = site.plan.back_up()
    lost = [name for name in NAMES if name != left]
    for name in lost:
        site.lose(name)
    assert site.plan.verify(destination=left) == made
    with postgres15.database("survivor") as conninfo:
        (site.plan.directory / "target-url").write_text(conninfo)
        assert site.plan.restore(f"file:{site.plan.directory / 'target-url'}") == made
        assert postgres15.query("SELECT count(*) FROM orders", "survivor") == [(20_000,)]
    site.plan.sync()
    assert [site.copies(name)[made].verdict for name in NAMES] == [
        Verdict.VERIFIED if name == left else None for name in NAMES
    ]
    assert site.plan.verify(destination=lost[-1]) == made
    assert len({site.copies(name)[made].manifest_sha256 for name in NAMES}) == 1
    assert site.slack.texts == []


@pytest.mark.parametrize("broken", ["second", "offsite"])
def test_a_flipped_byte_is_found_by_scrub_and_healed_by_sync(site: Site, broken: str) -> None:
    made = site.plan.back_up()
    site.flip(broken, made)
    with pytest.raises(ChecksumMismatch) as found:
        site.plan.scrub(everything=True)
    assert f"backup {made} on {broken} is damaged: main.dump.zst.gpg: its checksum" in found.value.message
    assert {name: site.copies(name)[made].verdict for name in NAMES} == {
        name: Verdict.FAILED if name == broken else None for name in NAMES
    }
    (text,) = site.slack.texts
    assert text.startswith("SCRUB_FAILED: plan shop, ")

    site.plan.sync()
    site.plan.scrub(everything=True)
    assert [site.copies(name)[made].problem for name in NAMES] == ["", "", ""]
    assert site.plan.verify(destination=broken) == made
    assert len(site.slack.texts) == 1


def test_a_destination_that_is_late_is_an_alert_and_catches_up(site: Site) -> None:
    site.plan.write(required=2)
    with in_the_way(site, "second"):
        made = site.plan.back_up()
    (text,) = site.slack.texts
    assert text.startswith("COPY_MISSING: plan shop, ")
    assert f"backup {made} is committed, but 1 destinations lack it: second: " in text
    assert made not in site.copies("second")

    with in_the_way(site, "second"), pytest.raises(StoreError):
        site.plan.sync()
    site.plan.sync()
    assert site.copies("second")[made].problem == ""
    assert [text.partition(":")[0] for text in site.slack.texts] == ["COPY_MISSING", "SYNC_FAILED"]


def test_a_destination_that_this_host_has_no_credentials_of_costs_its_own_copy_only(
    site: Site, postgres15: PostgresServer, pgsalvo: Command
) -> None:
    first, _, offsite = site.plan.settings["stores"]
    site.plan.write(required=1, stores=[offsite | {"secret_access_key": "env:NOT_SET_HERE"}, first])
    made = site.plan.back_up()
    (text,) = site.slack.texts
    assert text.startswith("COPY_MISSING: plan shop, ")
    assert "NOT_SET_HERE" in text
    assert made in pgsalvo("list", "shop")
    with postgres15.database("rescued") as conninfo:
        (site.plan.directory / "target-url").write_text(conninfo)
        assert site.plan.restore(f"file:{site.plan.directory / 'target-url'}") == made
    with pytest.raises(ConfigurationError, match="NOT_SET_HERE"):
        site.plan.sync()


@contextmanager
def in_the_way(site: Site, name: str) -> Iterator[None]:
    """Let a file lie where a local destination's directory belongs."""
    directory = site.plan.directory / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.write_text("in the way")
    try:
        yield
    finally:
        directory.unlink()


def test_the_commands_say_what_they_did(site: Site, pgsalvo: Command) -> None:
    made = site.plan.back_up()
    site.lose("second")
    synced = pgsalvo("sync", "shop")
    assert "copied" in synced
    assert made in synced
    assert "nothing is lacking" in synced
    assert "3 of 3" in pgsalvo("scrub", "shop", "--all")
    (offsite,) = json.loads(pgsalvo("scrub", "shop", "--destination", "offsite", "--json"))["destinations"]
    assert (offsite["destination"], offsite["archives"], offsite["damaged"]) == ("offsite", 3, {})
    again = json.loads(pgsalvo("sync", "shop", "--json"))
    assert [each["copied"] for each in again["destinations"]] == [[], [], []]
