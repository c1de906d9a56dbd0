"""On the way in: whatever happened to a backup on its store is told, and the other backups go on."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL

from blocks.compression import compressed
from blocks.errors import DecryptionFailed, KeyUnusable
from flows.catalogue import Backup
from flows.core import verification
from flows.core.errors import BackupError, Unverifiable, VerificationFailed
from flows.core.naming import FACTS_ARCHIVE, GLOBALS_ARCHIVE, MAIN_ARCHIVE, BackupId
from flows.core.verification import Verdict
from flows.documents import LARGEST_BYTES
from tests.servers import keys
from tests.servers.forgery import ARCHIVES, StoredBackup, opened
from tests.servers.plan import PLANS_VARIABLE, PlanOnDisk
from tests.servers.postgres import PostgresServer

DBNAME = "inbound"
TABLES = """
    CREATE TABLE accounts (id serial PRIMARY KEY, owner text);
    INSERT INTO accounts (owner) SELECT 'owner ' || n FROM generate_series(1, 500) n;
"""
OTHER_ID = "20260101T000000Z-000000"


@dataclass(frozen=True)
class Inbound:
    """A plan whose store holds two good backups of two states of a database."""

    plan: PlanOnDisk
    older: StoredBackup
    newer: StoredBackup

    def backup(self, identifier: BackupId) -> Backup:
        return next(backup for backup in self.plan.backups() if backup.backup_id == identifier)

    def failed(self, stored: StoredBackup) -> str:
        """Verify a backup that must fail, and return why it did, as the run tells it."""
        with pytest.raises(VerificationFailed) as caught:
            self.plan.verify(stored.backup_id)
        before = f"backup {stored.backup_id} on local failed: "
        assert caught.value.message.startswith(before)
        assert not list(self.plan.spool.glob("*"))
        return caught.value.message.removeprefix(before)

    def unverifiable(self, stored: StoredBackup) -> tuple[str, str]:
        """Try to verify a backup that cannot be looked at; return why, and what to do."""
        with pytest.raises(Unverifiable) as caught:
            self.plan.verify(stored.backup_id)
        before = f"backup {stored.backup_id} could not be verified here: "
        assert caught.value.message.startswith(before)
        return caught.value.message.removeprefix(before), caught.value.hint

    def refused(self, stored: StoredBackup, into: str) -> str:
        """Restore a backup that must be refused, as the command does: without Prefect; return why it was."""
        from flows.restore import restore

        with pytest.raises(BackupError) as caught:
            restore.fn(self.plan.name, into, stored.backup_id)
        assert stored.backup_id in caught.value.message
        return caught.value.message

    def command(self, *arguments: str) -> tuple[int, str]:
        """Run `pgsalvo` beside this process's API; return its exit status and what stands on stderr."""
        home = str(self.plan.directory / "home")
        done = self.plan.command(*arguments, PREFECT_API_URL=PREFECT_API_URL.value() or "", PREFECT_HOME=home)
        return done.returncode, done.stderr


@dataclass(frozen=True)
class Target:
    """An empty database to restore into; `reference` tells the file that its conninfo lies in."""

    server: PostgresServer
    reference: str

    def relations(self) -> list[tuple[Any, ...]]:
        return self.query("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace")

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        return self.server.query(statement, "target")


@pytest.fixture(scope="module")
def source(
    prefect: None,  # noqa: ARG001 - its API must be there
    postgres15: PostgresServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[PlanOnDisk]:
    """The plan of the database, and two backups of it."""
    with postgres15.database(DBNAME) as conninfo, pytest.MonkeyPatch.context() as patch:
        plan = PlanOnDisk.for_database(tmp_path_factory.mktemp("source"), conninfo)
        patch.setenv(PLANS_VARIABLE, str(plan.file))
        postgres15.execute(TABLES, DBNAME)
        plan.back_up()
        postgres15.execute("INSERT INTO accounts (owner) VALUES ('late comer')", DBNAME)
        plan.back_up()
        yield plan


@pytest.fixture
def inbound(
    source: PlanOnDisk, postgres15: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Inbound:
    """The same two backups on a store of its own."""
    plan = PlanOnDisk.for_database(tmp_path, postgres15.conninfo(DBNAME))
    monkeypatch.setenv(PLANS_VARIABLE, str(plan.file))
    shutil.copytree(source.directory / "store", tmp_path / "store")
    older, newer = (StoredBackup(path) for path in sorted((tmp_path / "store" / plan.name).glob("2*")))
    return Inbound(plan, older, newer)


@pytest.fixture
def target(postgres15: PostgresServer, tmp_path: Path) -> Iterator[Target]:
    with postgres15.database("target") as conninfo:
        (tmp_path / "target-url").touch(mode=0o600)
        (tmp_path / "target-url").write_text(conninfo)
        yield Target(postgres15, f"file:{tmp_path / 'target-url'}")


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_flipped_byte_anywhere_is_found(inbound: Inbound, target: Target, name: str) -> None:
    body = inbound.newer.path(name).read_bytes()
    place = f"{name} of backup {inbound.newer.backup_id} on local"
    for position in (*range(0, len(body), len(body) // 5), len(body) - 1):
        flipped = bytes((body[position] ^ 1,))
        inbound.newer.path(name).write_bytes(body[:position] + flipped + body[position + 1 :])
        said = inbound.refused(inbound.newer, target.reference)
        assert said == f"{place} is damaged: its checksum is not the manifest's"
    assert inbound.failed(inbound.newer) == said
    assert inbound.backup(inbound.newer.backup_id).verdict is Verdict.FAILED
    assert inbound.backup(inbound.older.backup_id).verdict is None
    assert target.relations() == []


def _edited(stored: StoredBackup, **changes: object) -> None:
    """Edit the manifest as by hand, with its checksum left alone."""
    document = json.loads(stored.manifest_file.read_bytes())
    stored.manifest_file.write_text(json.dumps(document | changes))


def _resized(path: Path, by: int) -> None:
    os.truncate(path, path.stat().st_size + by)


Damage = Callable[[StoredBackup], object]
DAMAGES: list[tuple[Damage, str]] = [
    (lambda b: _resized(b.path(MAIN_ARCHIVE), -1), rf"{MAIN_ARCHIVE} has \d+ bytes instead of \d+"),
    (lambda b: b.manifest_file.write_bytes(b""), "the manifest is not JSON"),
    (lambda b: b.path(MAIN_ARCHIVE).unlink(), f"{MAIN_ARCHIVE} is missing"),
    (lambda b: _edited(b, label="x"), "the manifest was edited or damaged"),
    (lambda b: _resized(b.path(FACTS_ARCHIVE), 1), rf"{FACTS_ARCHIVE} has \d+ bytes instead of \d+"),
    (lambda b: b.path(GLOBALS_ARCHIVE).write_bytes(b""), rf"{GLOBALS_ARCHIVE} has 0 bytes instead of \d+"),
    (lambda b: b.manifest_file.write_text("{"), "the manifest is not JSON"),
    (lambda b: b.manifest_file.write_text("[1]"), "the manifest is not one of pgsalvo's"),
    (lambda b: b.edit_manifest(lambda d: d.update(backup_id=OTHER_ID)), f"is of backup {OTHER_ID}"),
    (lambda b: b.edit_manifest(lambda d: d["archives"].pop()), "lists 0 facts archives"),
    (lambda b: _resized(b.manifest_file, LARGEST_BYTES), r"has \d+ bytes, which none of ours has"),
    (lambda b: _edited(b, format_version=2), "the manifest is of format version 2"),
]  # fmt: skip
VERIFIED_TOO = 4
INCOMPLETE = ("is missing", r"instead of \d+")  # the manifest is understood


@pytest.fixture
def damaged(inbound: Inbound) -> dict[StoredBackup, str]:
    """Put a backup of each damage, years old, beside the good ones; return what is wrong with each."""
    found = {}
    for day, (damage, words) in enumerate(DAMAGES, start=1):
        copy = inbound.older.under_another_id(f"202001{day:02d}T000000Z-00000a")
        damage(copy)
        found[copy] = words
    return found


def test_verify_fails_a_damaged_backup_and_says_what_is_wrong(
    inbound: Inbound, damaged: dict[StoredBackup, str]
) -> None:
    for stored in list(damaged)[:VERIFIED_TOO]:
        assert re.search(damaged[stored], inbound.failed(stored))
        assert inbound.backup(stored.backup_id).verdict is Verdict.FAILED


def test_restore_refuses_a_damaged_backup_and_says_what_is_wrong(
    inbound: Inbound, damaged: dict[StoredBackup, str], target: Target
) -> None:
    for stored, words in damaged.items():
        assert re.search(words, inbound.refused(stored, target.reference))
    assert target.relations() == []


def test_list_says_which_and_shows_the_others(inbound: Inbound, damaged: dict[StoredBackup, str]) -> None:
    done = inbound.plan.command("list", inbound.plan.name, "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["backup_id"]: row for row in json.loads(done.stdout)["backups"]}
    assert len(rows) == len(damaged) + 2
    for stored, words in damaged.items():
        (problem,) = rows[stored.backup_id]["problems"]
        assert re.search(f"local: .*{words}", problem)
        verdict = "unverifiable" if "version 2" in words else "failed"
        assert rows[stored.backup_id]["verdict"] == verdict
    for good in (inbound.older, inbound.newer):
        row = rows[good.backup_id]
        assert (row["problems"], row["verdict"], row["size_bytes"] > 0) == ([], None, True)


def test_prune_never_deletes_what_it_does_not_understand(
    inbound: Inbound, damaged: dict[StoredBackup, str]
) -> None:
    unwanted = inbound.older.under_another_id("20200301T000000Z-00000a")
    for path in (inbound.plan.directory / "store").rglob("*"):
        os.utime(path, (0, 0))
    keep = {"keep_last": 1, "keep_daily": 0, "keep_weekly": 0, "keep_monthly": 0, "min_keep": 1}
    inbound.plan.write(retention=keep)
    inbound.plan.prune()
    left = {backup.backup_id for backup in inbound.plan.backups()}
    misread = [stored for stored, words in damaged.items() if not words.endswith(INCOMPLETE)]
    assert left == {inbound.newer.backup_id, *(stored.backup_id for stored in misread)}
    assert not unwanted.folder.exists()


@pytest.mark.usefixtures("damaged")
def test_a_backup_is_made_beside_damaged_ones(inbound: Inbound) -> None:
    made = inbound.plan.back_up()
    assert inbound.plan.backups()[0].backup_id == made


def test_a_manifest_of_a_later_release_is_no_damage(inbound: Inbound) -> None:
    _edited(inbound.newer, format_version=2)
    said, hint = inbound.unverifiable(inbound.newer)
    assert said == "the manifest is of format version 2, this release knows 1"
    assert "install a newer pgsalvo" in hint
    assert inbound.backup(inbound.newer.backup_id).verdict is Verdict.UNVERIFIABLE


def _swap(one: StoredBackup, other: StoredBackup, *names: str) -> None:
    for name in names:
        body = one.path(name).read_bytes()
        shutil.copyfile(other.path(name), one.path(name))
        other.path(name).write_bytes(body)


def test_two_backups_objects_swapped_fit_neither_manifest(inbound: Inbound, target: Target) -> None:
    for name in ARCHIVES:
        _swap(inbound.older, inbound.newer, name)
        for stored in (inbound.older, inbound.newer):
            said = inbound.refused(stored, target.reference)
            assert re.search(f"{name} (has|of backup .* is damaged)", said)
        _swap(inbound.older, inbound.newer, name)
    assert target.relations() == []


@pytest.mark.parametrize(
    ("names", "differing"),
    [
        pytest.param([MAIN_ARCHIVE], "archives", id="main"),
        pytest.param([GLOBALS_ARCHIVE], "archives", id="globals"),
        pytest.param([FACTS_ARCHIVE], "backup_id, snapshot_at, archives", id="facts"),
        pytest.param(ARCHIVES, "backup_id, snapshot_at", id="all"),
    ],
)
def test_two_backups_objects_swapped_are_told_by_the_facts_if_the_manifests_were_made_to_fit(
    inbound: Inbound, target: Target, names: list[str], differing: str
) -> None:
    _swap(inbound.older, inbound.newer, *names)
    inbound.older.tell()
    inbound.newer.tell()
    words = f"does not hold what its manifest says: {differing} differ"
    assert inbound.failed(inbound.newer) == f"backup {inbound.newer.backup_id} {words}"
    assert inbound.refused(inbound.older, target.reference) == f"backup {inbound.older.backup_id} {words}"
    assert target.relations() == []


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_message_that_was_never_encrypted_proves_nothing(
    inbound: Inbound, target: Target, name: str
) -> None:
    """Also if manifest and facts were made to fit it; and not a byte of it is restored."""
    plain = b"".join(compressed([opened(inbound.newer.path(name))]))
    inbound.newer.path(name).write_bytes(keys.never_encrypted(plain))
    inbound.newer.tell()
    if name != FACTS_ARCHIVE:
        inbound.newer.bind()
    assert inbound.failed(inbound.newer) == "the message was never encrypted"
    if name != GLOBALS_ARCHIVE:  # which a restore does not need
        with pytest.raises(DecryptionFailed, match="never encrypted"):
            inbound.plan.restore(target.reference, backup=inbound.newer.backup_id)
        assert target.relations() == []


def test_a_damaged_message_is_told_if_every_checksum_was_made_to_fit(inbound: Inbound) -> None:
    body = bytearray(inbound.newer.path(GLOBALS_ARCHIVE).read_bytes())
    body[len(body) // 2] ^= 1
    inbound.newer.path(GLOBALS_ARCHIVE).write_bytes(body)
    inbound.newer.tell()
    inbound.newer.bind()
    assert re.search("(message|stream) is damaged", inbound.failed(inbound.newer))


def test_a_verdict_counts_for_the_very_manifest_that_was_verified(inbound: Inbound) -> None:
    inbound.plan.verify(inbound.older.backup_id)
    assert inbound.backup(inbound.older.backup_id).verdict is Verdict.VERIFIED
    shutil.copytree(inbound.older.path("verifications"), inbound.newer.path("verifications"))
    assert inbound.backup(inbound.newer.backup_id).verdict is None
    inbound.older.edit_manifest(lambda document: document.update(label="another"))
    assert inbound.backup(inbound.older.backup_id).verdict is None


def test_another_secret_key_says_nothing_about_the_backup(inbound: Inbound, target: Target) -> None:
    inbound.plan.verify(inbound.newer.backup_id)
    inbound.plan.secret_keys["ops"] = {"key_file": str(keys.second().secret_file)}
    inbound.plan.write()
    said, hint = inbound.unverifiable(inbound.newer)
    assert said.startswith("the message is encrypted for another key")
    assert "secret key of one of its recipients" in hint
    assert _verdicts(inbound.newer) == [Verdict.VERIFIED, Verdict.UNVERIFIABLE]
    assert inbound.backup(inbound.newer.backup_id).verdict is Verdict.VERIFIED
    with pytest.raises(KeyUnusable, match="for another key"):
        inbound.plan.restore(target.reference)
    assert target.relations() == []


@pytest.mark.parametrize(
    ("passphrase", "words"),
    [
        pytest.param("not-" + keys.PASSPHRASE, "wrong passphrase for the secret key", id="wrong"),
        pytest.param("", "needs a passphrase and none was given", id="none"),
    ],
)
def test_a_passphrase_that_does_not_open_the_key_says_nothing_about_the_backup(
    inbound: Inbound, monkeypatch: pytest.MonkeyPatch, passphrase: str, words: str
) -> None:
    inbound.newer.encrypt_for(keys.with_passphrase())
    monkeypatch.setenv("TEST_PASSPHRASE", passphrase)
    inbound.plan.secret_keys["ops"] = {"key_file": str(keys.with_passphrase().secret_file)}
    if passphrase:
        inbound.plan.secret_keys["ops"]["passphrase"] = "env:TEST_PASSPHRASE"
    inbound.plan.write()
    said, _ = inbound.unverifiable(inbound.newer)
    assert words in said
    assert inbound.backup(inbound.newer.backup_id).verdict is Verdict.UNVERIFIABLE


def test_the_command_restores_nothing_of_a_damaged_backup_and_all_of_another(
    inbound: Inbound, target: Target
) -> None:
    into = ("--into", target.reference)
    body = bytearray(inbound.newer.path(MAIN_ARCHIVE).read_bytes())
    body[len(body) // 2] ^= 1
    inbound.newer.path(MAIN_ARCHIVE).write_bytes(body)
    status, said = inbound.command("restore", inbound.plan.name, inbound.newer.backup_id, *into)
    assert status == 1
    assert f"{MAIN_ARCHIVE} of backup {inbound.newer.backup_id} on local is damaged" in said
    assert target.relations() == []

    status, said = inbound.command("restore", inbound.plan.name, inbound.older.backup_id, *into)
    assert (status, "error" in said) == (0, False)
    assert target.query("SELECT count(*) FROM accounts") == [(500,)]


def test_the_commands_status_tells_the_unverifiable_from_the_unknown(inbound: Inbound) -> None:
    verify = ("verify", inbound.plan.name)
    status, said = inbound.command(*verify, OTHER_ID)
    assert (status, OTHER_ID in said) == (2, True)
    inbound.plan.secret_keys["ops"] = {"key_file": str(keys.second().secret_file)}
    inbound.plan.write()
    status, said = inbound.command(*verify, "latest")
    assert status == 3
    assert f"backup {inbound.newer.backup_id} could not be verified here: the message is encrypted" in said


def _verdicts(stored: StoredBackup) -> list[Verdict]:
    """Return the verdicts beside a backup, the oldest first."""
    records = [verification.decode(path.read_bytes()) for path in stored.folder.glob("verifications/*.json")]
    return [record.verdict for record in sorted(records, key=lambda record: record.verified_at)]
