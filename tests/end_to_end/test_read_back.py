"""What is read back of a backup that was stored, and what manifest, report and records say of it."""

from collections.abc import Iterator

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from blocks.stores import Store
from flows.catalogue import read_store
from flows.core.errors import ChecksumMismatch
from flows.core.read_back import ReadBack
from flows.scrub_records import records_on
from flows.tasks import reading_back
from tests.servers.gcs import GcsServer, start_gcs
from tests.servers.plan import PlanOnDisk
from tests.servers.s3 import S3Server

REHASHED = "read back and re-hashed"
BY_PARTS = "each part was checked by the store, nothing was read back"
UNCHECKED = "does not check the parts of an upload: what it holds was read back"


@pytest.fixture(scope="module")
def gcs() -> Iterator[GcsServer]:
    server = start_gcs()
    server.make_bucket("backups")
    yield server
    server.stop()


@pytest.fixture
def plan(plan: PlanOnDisk, s3: S3Server, gcs: GcsServer, request: pytest.FixtureRequest) -> PlanOnDisk:
    """A plan with a directory, an S3 server that checks no parts, and one that checks whole objects."""
    prefix = f"read-back-{abs(hash(request.node.name)):x}"
    google = {"name": "google", "kind": "gcs", "bucket": "backups", "prefix": prefix}
    plan.write(
        stores=[
            *plan.settings["stores"],
            plan.s3_store(s3, "backups", prefix),
            google | {"endpoint_url": gcs.endpoint_url},
        ]
    )
    return plan


@pytest.mark.parametrize(
    ("way", "told"),
    [
        pytest.param("always", [REHASHED] * 3, id="always"),
        pytest.param("sample", ["a sample of 3 of 3 blocks was re-hashed"] * 3, id="sample"),
        pytest.param("parts", [REHASHED, REHASHED, BY_PARTS], id="parts"),
    ],
)
def test_the_report_and_the_manifest_say_what_was_read_back(
    plan: PlanOnDisk, way: ReadBack, told: list[str]
) -> None:
    plan.write(read_back=way)
    made = plan.back_up()
    assert plan.manifest(made).read_back == way
    report = newest_report()
    for name, how in zip(("local", "offsite", "google"), told, strict=True):
        assert f"- {name}: {how}\n" in report
    assert [name in report for name in (f"local {UNCHECKED}", f"offsite {UNCHECKED}")] == [way == "parts"] * 2
    assert plan.verify(destination="google") == made


@pytest.mark.parametrize(("way", "reads"), [("always", 3), ("sample", 3), ("parts", 0)])
def test_a_sync_reads_back_no_more_than_the_plan_says_and_notes_only_what_it_read(
    plan: PlanOnDisk, way: ReadBack, reads: int
) -> None:
    made = plan.back_up()
    google = plan.loaded.store("google")
    for found in list(google.list()):
        google.delete(found.key)
    plan.write(read_back=way)
    plan.sync()
    records = records_on(plan.loaded.store("google"), plan.name).values()
    looks = [look for record in records for look in record.looks]
    assert len(looks) == reads
    assert plan.verify(destination="google") == made


def test_what_replaces_a_damaged_copy_is_read_back_whole(plan: PlanOnDisk) -> None:
    made = plan.back_up()
    google = plan.loaded.store("google")
    key = next(found.key for found in google.list() if "main.dump" in found.key)
    google.put(key, [bytes(reversed(google.read(key)))])
    with pytest.raises(ChecksumMismatch):
        plan.scrub(everything=True)
    plan.write(read_back="parts")
    plan.sync()
    (copy,) = (copy for copy in read_store(google, plan.name) if copy.committed)
    assert (copy.backup_id, copy.problem) == (made, "")


@pytest.mark.parametrize("way", ["always", "sample"])
def test_a_store_that_changes_a_byte_is_caught_before_the_backup_counts(
    plan: PlanOnDisk, monkeypatch: pytest.MonkeyPatch, way: ReadBack
) -> None:
    plan.write(read_back=way, required=2)
    checked = reading_back.check_stored

    def after_damage(archive: object, key: str, store: Store, *rest: object) -> object:
        if store.name == "google" and "main.dump" in key:
            store.put(key, [bytes(reversed(store.read(key)))])
        return checked(archive, key, store, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("flows.tasks.outbound.check_stored", after_damage)
    made = plan.back_up()
    assert made not in {copy.backup_id for copy in read_store(plan.loaded.store("google"), plan.name)}
    assert "google does not hold what was written to it" in newest_report()


def newest_report() -> str:
    """Return the report of the newest backup as Prefect's UI shows it."""
    with get_client(sync_client=True) as client:
        of_backup = ArtifactFilter(key=ArtifactFilterKey(any_=["shop-backup"]))
        found = client.read_artifacts(artifact_filter=of_backup)
        return str(max(found, key=lambda artifact: str(artifact.created)).data)
