"""What a bucket that keeps versions or locks objects does to backups, on a server that enforces both."""

import pickle
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from pydantic import ValidationError

from blocks.errors import StoreError, StoreForbidden, StoreLocked
from blocks.stores import S3Store, s3_versions, upload_parts
from blocks.stores.base import NO_END
from tests.servers.ministack import MiniStack, start_ministack
from tests.servers.s3 import S3Server
from tests.servers.s3_script import Answer, scripted_s3

DAY = timedelta(days=1)
LOCK = {"object_lock_mode": "governance", "object_lock_days": 30}
WRITES: list[tuple[str, Callable[[S3Store], object]]] = [
    ("put", lambda store: store.put("key", [b"body"])),
    ("create", lambda store: store.create("key", b"body")),
]
every_write = pytest.mark.parametrize("write", [pytest.param(write, id=name) for name, write in WRITES])
_numbers = count()


@pytest.fixture(scope="session")
def ministack() -> Iterator[MiniStack]:
    server = start_ministack()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def connected(ministack: MiniStack) -> S3Store:
    """A store whose boto3 client the others share: making one takes longer than a test."""
    store = ministack.store(ministack.make_bucket("connected"))
    store.now()
    return store


@pytest.fixture
def locked(ministack: MiniStack, connected: S3Store) -> S3Store:
    """A store that locks what it writes for 30 days."""
    bucket = ministack.make_bucket(f"locked-{next(_numbers)}", lock=True)
    return connected.model_copy(update={"bucket": bucket, "prefix": "pg", **LOCK})


@pytest.fixture
def versioned(ministack: MiniStack, connected: S3Store) -> S3Store:
    """A store in a bucket that keeps old versions."""
    bucket = ministack.make_bucket(f"versioned-{next(_numbers)}", versions=True)
    return connected.model_copy(update={"bucket": bucket})


def retention(server: MiniStack, store: S3Store, key: str) -> dict[str, Any]:
    asked = server.client.get_object_retention(Bucket=store.bucket, Key=f"{store.prefix}/{key}")
    return dict(asked["Retention"])


@every_write
@pytest.mark.parametrize("mode", ["governance", "compliance"])
def test_an_object_is_locked_for_its_days_as_soon_as_it_is_written(
    ministack: MiniStack, locked: S3Store, mode: str, write: Callable[[S3Store], object]
) -> None:
    store = locked.model_copy(update={"object_lock_mode": mode})
    write(store)
    found = retention(ministack, store, "key")
    assert found["Mode"] == mode.upper()
    assert abs(found["RetainUntilDate"] - (datetime.now(UTC) + 30 * DAY)) < timedelta(minutes=1)
    until = store.locked_until("key")
    assert until is not None
    assert abs(until - found["RetainUntilDate"]) < timedelta(seconds=1)
    assert until.utcoffset() == timedelta(0)


def test_an_object_of_many_parts_is_locked_too(locked: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_parts, "SMALLEST_PART_BYTES", 5 << 20)
    locked.put("main", [bytes(1 << 20)] * 6, expected_bytes=1)
    assert locked.stat("main").size_bytes == 6 << 20
    assert locked.locked_until("main")


def test_a_locked_object_is_not_deleted_and_the_error_tells_until_when(
    ministack: MiniStack, locked: S3Store
) -> None:
    locked.put("key", [b"body"])
    with pytest.raises(StoreLocked) as caught:
        locked.delete("key")
    assert caught.value.until == locked.locked_until("key")
    assert f"{caught.value.until:%Y-%m-%d}" in caught.value.message
    assert locked.read("key") == b"body"
    # nor is it hidden by a marker
    assert ministack.versions(locked.bucket) == ["pg/key"]


def test_an_object_whose_lock_has_ended_is_deleted(ministack: MiniStack, locked: S3Store) -> None:
    locked.put("key", [b"body"])
    ministack.let_locks_end(locked.bucket)
    locked.delete("key")
    assert ministack.versions(locked.bucket) == []


def test_a_legal_hold_has_no_end(ministack: MiniStack, locked: S3Store) -> None:
    locked.put("key", [b"body"])
    ministack.client.put_object_legal_hold(Bucket=locked.bucket, Key="pg/key", LegalHold={"Status": "ON"})
    assert locked.locked_until("key") == NO_END


def test_the_lock_of_another_key_that_begins_alike_does_not_count(locked: S3Store) -> None:
    unlocking = locked.model_copy(update={"object_lock_mode": "", "object_lock_days": 0})
    unlocking.put("plan/main", [b"x"])
    for key in ("plan/main.2", "plan/main/below"):
        locked.put(key, [b"x"])
    assert locked.locked_until("plan/main") is None
    assert locked.locked_until("plan/mai") is None
    locked.delete("plan/main")


def test_a_commit_that_died_before_its_lock_is_locked_when_it_is_repeated(
    ministack: MiniStack, locked: S3Store
) -> None:
    unlocking = locked.model_copy(update={"object_lock_mode": "", "object_lock_days": 0})
    unlocking.create("manifest.json", b"{}")
    assert unlocking.locked_until("manifest.json") is None
    locked.create("manifest.json", b"{}")
    assert locked.locked_until("manifest.json")
    assert ministack.versions(locked.bucket) == ["pg/manifest.json"]


@pytest.mark.parametrize("mode", ["governance", "compliance"])
def test_a_kill_leaves_no_commit_without_its_lock(
    ministack: MiniStack, locked: S3Store, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(s3_versions, "lock", die)
    store = locked.model_copy(update={"object_lock_mode": mode})
    with pytest.raises(KeyboardInterrupt):
        store.create("manifest.json", b"{}")
    assert store.read("manifest.json") == b"{}"
    assert retention(ministack, store, "manifest.json")["Mode"] == mode.upper()


@every_write
def test_a_bucket_without_object_lock_is_refused_before_anything_is_written(
    ministack: MiniStack, versioned: S3Store, write: Callable[[S3Store], object]
) -> None:
    with pytest.raises(StoreError, match="no Object Lock") as caught:
        write(versioned.model_copy(update=LOCK))
    assert "object_lock_mode" in caught.value.hint
    assert ministack.versions(versioned.bucket) == []


@every_write
def test_a_server_that_would_take_the_lock_for_the_objects_bytes_is_refused(
    s3_server: S3Server, bucket: str, write: Callable[[S3Store], object]
) -> None:
    with pytest.raises(StoreError, match="no Object Lock"):
        write(s3_server.store(bucket, **LOCK))
    assert list(s3_server.store(bucket).list()) == []


@every_write
@pytest.mark.parametrize("mode", ["GOVERNANCE", "COMPLIANCE"])
def test_a_bucket_that_locks_for_longer_by_itself_is_content(
    ministack: MiniStack, locked: S3Store, mode: str, write: Callable[[S3Store], object]
) -> None:
    ministack.client.put_object_lock_configuration(
        Bucket=locked.bucket,
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": mode, "Days": 90}},
        },
    )
    write(locked)
    assert retention(ministack, locked, "key")["RetainUntilDate"] > datetime.now(UTC) + 29 * DAY


@pytest.mark.parametrize(
    ("there", "mode", "expected"),
    [
        pytest.param(("COMPLIANCE", 10), "governance", ("COMPLIANCE", 30), id="firmer-but-shorter"),
        pytest.param(("GOVERNANCE", 90), "compliance", ("COMPLIANCE", 90), id="longer-but-weaker"),
        pytest.param(("COMPLIANCE", 90), "governance", None, id="firmer-and-longer"),
        pytest.param(("GOVERNANCE", 30), "governance", None, id="the-same"),
        pytest.param(None, "governance", ("GOVERNANCE", 30), id="none"),
    ],
)
def test_a_lock_that_is_there_only_becomes_longer_and_firmer(
    there: tuple[str, int] | None, mode: str, expected: tuple[str, int] | None
) -> None:
    now = datetime(2026, 1, 28, tzinfo=UTC)

    def told(days: int) -> str:
        return f"{now + days * DAY:%Y-%m-%dT%H:%M:%SZ}"

    headers = {}
    if there:
        headers = {
            "x-amz-object-lock-mode": there[0],
            "x-amz-object-lock-retain-until-date": told(there[1]),
        }
    with scripted_s3() as script:
        script.answers = {"HEAD": [Answer(headers=headers)]}
        keys = {"access_key_id": "a", "secret_access_key": "b"}
        store = S3Store(bucket="b", endpoint_url=script.endpoint_url, **keys, **LOCK)
        s3_versions.lock(store._asking, "b", "key", mode, now + 30 * DAY)
        sent = [request.body.decode() for request in script.requests if request.method == "PUT"]
    found = [re.findall(r"<(?:Mode|RetainUntilDate)>([^<]+)<", text) for text in sent]
    assert found == ([[expected[0], told(expected[1])]] if expected else [])


def test_a_bucket_that_locks_more_firmly_but_shorter_by_itself_is_content(
    ministack: MiniStack, locked: S3Store
) -> None:
    ministack.client.put_object_lock_configuration(
        Bucket=locked.bucket,
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 10}},
        },
    )
    locked.put("key", [b"body"])
    found = retention(ministack, locked, "key")
    assert found["Mode"] == "COMPLIANCE"
    assert found["RetainUntilDate"] > datetime.now(UTC) + 29 * DAY


@every_write
def test_a_lock_that_fails_fails_the_write(write: Callable[[S3Store], object]) -> None:
    enabled = (
        b"<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>"
    )
    with scripted_s3() as script:
        script.answers = {
            "GET": [Answer(body=enabled), Answer(404, "NoSuchKey")],
            "PUT": [Answer(headers={"ETag": '"1"'}), Answer(403, "AccessDenied")],
        }
        keys = {"access_key_id": "a", "secret_access_key": "b"}
        store = S3Store(bucket="b", endpoint_url=script.endpoint_url, **keys, **LOCK)
        with pytest.raises(StoreForbidden, match="cannot lock key") as caught:
            write(store)
        assert "s3:PutObjectRetention" in caught.value.hint
        assert script.requests[-1].path == "/b/key?retention"


def test_a_deletion_leaves_no_version_behind(ministack: MiniStack, versioned: S3Store) -> None:
    for number in range(3):
        versioned.put("plan/main", [bytes([number])])
    for key in ("plan/main.2", "plan/main/below", "other"):
        versioned.put(key, [b"x"])
    versioned.delete("plan/main")
    versioned.delete("plan/main")
    versioned.delete("never/there")
    assert ministack.versions(versioned.bucket) == ["other", "plan/main.2", "plan/main/below"]


def test_what_a_plain_deletion_left_is_cleared_with_its_marker(
    ministack: MiniStack, versioned: S3Store
) -> None:
    versioned.put("key", [b"old"])
    ministack.client.delete_object(Bucket=versioned.bucket, Key="key")
    assert ministack.versions(versioned.bucket) == ["key", "key"]
    versioned.delete("key")
    assert ministack.versions(versioned.bucket) == []


def test_no_older_version_comes_back_while_a_key_is_deleted(
    versioned: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for body in (b"old", b"new"):
        versioned.put("key", [body])
    seen: list[bytes] = []
    real = versioned._asking.delete_object

    def look_and_delete(**asked: str) -> None:
        seen.append(versioned.read("key"))
        real(**asked)

    monkeypatch.setattr(versioned._asking, "delete_object", look_and_delete)
    versioned.delete("key")
    assert seen == [b"new", b"new"]


def test_where_versions_cannot_be_asked_for_the_key_alone_is_deleted() -> None:
    with scripted_s3() as script:
        script.answers = {"GET": [Answer(501, "NotImplemented")], "DELETE": [Answer(204)]}
        store = S3Store(
            bucket="b", endpoint_url=script.endpoint_url, access_key_id="a", secret_access_key="b"
        )
        store.delete("key")
        assert store.locked_until("key") is None
        (problem,) = store.problems()
        deleted = [request.path for request in script.requests if request.method == "DELETE"]
    assert deleted == ["/b/key"]
    assert problem.severity == "warning"
    assert "s3:GetBucketVersioning" in problem.remedy


def test_where_objects_are_locked_versions_are_kept_also_if_that_cannot_be_asked() -> None:
    versions = (
        b"<ListVersionsResult><Version><Key>key</Key><VersionId>v1</VersionId></Version></ListVersionsResult>"
    )
    end = {"x-amz-object-lock-retain-until-date": "2001-03-04T05:06:07Z"}
    with scripted_s3() as script:
        script.answers = {
            "GET": [Answer(403, "AccessDenied"), Answer(body=versions)] * 2,
            "HEAD": [Answer(headers=end)],
            "DELETE": [Answer(204)],
        }
        keys = {"access_key_id": "a", "secret_access_key": "b"}
        store = S3Store(bucket="b", endpoint_url=script.endpoint_url, **keys, **LOCK)
        assert store.locked_until("key") == datetime(2001, 3, 4, 5, 6, 7, tzinfo=UTC)
        store.delete("key")
        deleted = [request.path for request in script.requests if request.method == "DELETE"]
    assert deleted == ["/b/key?versionId=v1"]


@pytest.mark.parametrize(
    ("bucket", "fields", "said"),
    [
        pytest.param({}, {}, [], id="plain"),
        pytest.param({"versions": True}, {}, [], id="versions"),
        pytest.param({"lock": True}, LOCK, [], id="locks"),
        pytest.param({}, LOCK, ["no Object Lock"], id="lock-missing"),
        pytest.param({"versions": True}, LOCK, ["no Object Lock"], id="lock-missing-on-versions"),
    ],
)
def test_a_bucket_that_cannot_lock_is_told_with_the_remedy(
    ministack: MiniStack, connected: S3Store, bucket: dict[str, bool], fields: dict[str, Any], said: list[str]
) -> None:
    name = ministack.make_bucket(f"asked-{next(_numbers)}", **bucket)
    found = list(connected.model_copy(update={"bucket": name, **fields}).problems())
    assert len(found) == len(said)
    for problem, words in zip(found, said, strict=True):
        assert words in problem.message
        assert problem.severity == "error"
        assert "put-object-lock-configuration" in problem.remedy


def test_a_bucket_with_object_lock_whose_versioning_is_off_is_told() -> None:
    enabled = (
        b"<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>"
    )
    status = b"<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>"
    with scripted_s3() as script:
        script.answers = {"GET": [Answer(body=status), Answer(body=enabled)]}
        keys = {"access_key_id": "a", "secret_access_key": "b"}
        (problem,) = S3Store(bucket="b", endpoint_url=script.endpoint_url, **keys, **LOCK).problems()
    assert "no versioning" in problem.message
    assert "put-bucket-versioning" in problem.remedy


@pytest.mark.parametrize(
    "fields",
    [
        {"object_lock_mode": "governance"},
        {"object_lock_days": 3},
        {"object_lock_mode": "governance", "object_lock_days": -1},
        {"object_lock_mode": "legal", "object_lock_days": 3},
    ],
    ids=str,
)
def test_a_lock_without_days_or_of_an_unknown_mode_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="object_lock"):
        S3Store(bucket="b", **fields)


def test_what_is_locked_can_be_told_by_another_process() -> None:
    error = StoreLocked("cannot delete key", "wait", NO_END)
    told = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (str(told), told.until, told.transient) == (str(error), NO_END, False)
