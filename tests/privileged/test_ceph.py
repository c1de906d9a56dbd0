"""What only an S3 server as strict as Amazon's shows: refusals, quotas, rights, locks that nobody breaks."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from blocks.errors import ObjectExists, StoreError, StoreForbidden, StoreFull, StoreLocked
from blocks.stores import S3Store, upload_parts
from tests.privileged.subject_ceph import connected_ceph_store, store, subject  # noqa: F401
from tests.servers.ceph import CephServer
from tests.servers.s3 import broken_line
from tests.servers.versioned_s3 import KEYS

MIB = 1 << 20
STRANGER = ("strangers-key-id", "strangers-secret-access-key")
USES: dict[str, Callable[[S3Store], object]] = {
    "put": lambda place: place.put("key", [b"x"]),
    "create": lambda place: place.create("key", b"x"),
    "get": lambda place: place.get("kept"),
    "stat": lambda place: place.stat("kept"),
    "list": lambda place: list(place.list()),
    "delete": lambda place: place.delete("kept"),
    "pending": lambda place: list(place.pending()),
}
every_use = pytest.mark.parametrize("use", [pytest.param(use, id=name) for name, use in USES.items()])


@pytest.fixture(scope="module")
def stranger(ceph_server: CephServer) -> dict[str, str]:
    """The keys of a user whom no bucket lets in."""
    ceph_server.add_user("stranger", *STRANGER)
    return {"access_key_id": STRANGER[0], "secret_access_key": STRANGER[1]}


@pytest.fixture(scope="module")
def locking_bucket(ceph_server: CephServer) -> str:
    return ceph_server.make_bucket("locking", lock=True)


def test_a_name_that_was_taken_meanwhile_is_refused_by_the_server(
    store: S3Store,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def too_late(key: str, body: bytes) -> bool:
        answers.append(body)
        if len(answers) == 1:
            store.put(key, [b"theirs"])
            return False
        return store.read(key) == body

    answers: list[bytes] = []
    monkeypatch.setattr(type(store), "refuse_other_bytes", lambda _, key, body: too_late(key, body))
    with pytest.raises(ObjectExists, match="PreconditionFailed"):
        store.create("manifest.json", b"ours")
    assert store.read("manifest.json") == b"theirs"


def test_parts_that_are_too_small_are_refused_and_leave_nothing(
    store: S3Store,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upload_parts, "SMALLEST_PART_BYTES", MIB)
    with pytest.raises(StoreError, match="EntityTooSmall"):
        store.put("main", [bytes(MIB)] * 3, expected_bytes=1)
    assert list(store.list()) == []
    assert list(store.pending()) == []


def test_the_server_checks_parts_and_keeps_nothing_of_the_question(
    ceph_server: CephServer,
    locking_bucket: str,
    store: S3Store,  # noqa: F811
) -> None:
    assert store.checks_parts("main")
    assert _locking(ceph_server, locking_bucket, "governance").checks_parts("main")
    assert list(store.pending()) == []
    assert list(store.list()) == []


def test_a_large_object_is_stored_in_parts_and_read_across_them(
    ceph_server: CephServer,
    store: S3Store,  # noqa: F811
) -> None:
    sent, received, blocks = hashlib.sha256(), hashlib.sha256(), [os.urandom(MIB) for _ in range(3)]

    def source() -> Iterator[bytes]:
        for number in range(112):
            sent.update(blocks[number % 3])
            yield blocks[number % 3]

    assert store.put("large", source(), expected_bytes=112 * MIB) == 112 * MIB
    found = ceph_server.client.head_object(Bucket=store.bucket, Key=f"{store.prefix}/large")
    assert found["ETag"].endswith('-7"')
    for chunk in store.get("large"):
        received.update(chunk)
    assert received.hexdigest() == sent.hexdigest()
    border = b"".join(store.get("large", start=16 * MIB - 3, end=16 * MIB + 3))
    assert border == blocks[15 % 3][-3:] + blocks[16 % 3][:3]


def test_a_kill_leaves_an_upload_that_pending_lists_and_nothing_else(store: S3Store) -> None:  # noqa: F811
    store.put("shop/main", [b"older"])
    writer = subprocess.Popen(
        (sys.executable, "-c", _PUT_SLOWLY, store.endpoint_url or "", store.bucket, store.prefix),
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        env=os.environ | dict(zip(("TESTS_KEY_ID", "TESTS_SECRET"), KEYS, strict=True)),
    )
    with writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"half-way\n"
        os.kill(writer.pid, signal.SIGKILL)
    assert store.read("shop/main") == b"older"
    assert [stored.key for stored in store.list()] == ["shop/main"]
    (left,) = store.pending("shop/")
    assert left.key == "shop/main"
    assert abs(store.now() - left.started_at) < timedelta(seconds=60)
    store.abort_pending(left)
    assert list(store.pending()) == []


_PUT_SLOWLY = """
import sys, time
from blocks.stores import S3Store

def chunks():
    for _ in range(40):
        yield bytes(1 << 20)
    print("half-way", flush=True)
    time.sleep(60)

store = S3Store(endpoint_url=sys.argv[1], bucket=sys.argv[2], prefix=sys.argv[3],
                access_key_id="env:TESTS_KEY_ID", secret_access_key="env:TESTS_SECRET")
store.put("shop/main", chunks(), expected_bytes=1)
"""


def test_a_bucket_is_named_in_the_path_of_every_request(ceph_server: CephServer) -> None:
    bucket = ceph_server.make_bucket("dotted.bucket")
    with broken_line(ceph_server.port) as line:
        reached = ceph_server.store(bucket, endpoint_url=line.endpoint_url)
        reached.put("main", [bytes(MIB)] * 20, expected_bytes=1)
        reached.create("kept", b"x")
        for use in USES.values():
            use(reached)
        targets = [head.split(b" ")[1] for head in line.requests]
    assert targets
    assert [target for target in targets if not target.startswith(b"/dotted.bucket")] == []


def test_a_bucket_without_room_is_told_and_keeps_what_it_holds(ceph_server: CephServer) -> None:
    store = ceph_server.store(ceph_server.make_bucket("small-bucket"))  # noqa: F811
    ceph_server.limit(store.bucket, 8 * MIB)
    store.put("kept", [bytes(MIB)])
    uses: list[Callable[[], object]] = [
        lambda: store.put("parts", [bytes(MIB)] * 40, expected_bytes=1),
        lambda: store.put("one", [bytes(MIB)] * 10, expected_bytes=1),
        lambda: store.create("manifest.json", bytes(8 * MIB)),
    ]
    for use in uses:
        with pytest.raises(StoreFull, match="QuotaExceeded") as caught:
            use()
        assert "raise the quota" in caught.value.hint
    assert [stored.key for stored in store.list()] == ["kept"]
    assert list(store.pending()) == []


@every_use
def test_a_user_without_rights_is_forbidden(
    store: S3Store,  # noqa: F811
    stranger: dict[str, Any],
    ceph_server: CephServer,
    use: Callable[[S3Store], object],
) -> None:
    store.put("kept", [b"x"])
    with pytest.raises(StoreForbidden) as caught:
        use(ceph_server.store(store.bucket, prefix=store.prefix, **stranger))
    assert "on the bucket" in caught.value.hint
    assert [stored.key for stored in store.list()] == ["kept"]


@pytest.mark.parametrize("name", ["put", "list"])
@pytest.mark.parametrize("field", ["access_key_id", "secret_access_key"])
def test_refused_credentials_are_told(
    ceph_server: CephServer,
    store: S3Store,  # noqa: F811
    name: str,
    field: str,
) -> None:
    with pytest.raises(StoreForbidden) as caught:
        USES[name](ceph_server.store(store.bucket, **{field: "wrong"}))
    assert f"correct {field}" in caught.value.hint


def test_a_lock_of_compliance_is_broken_by_nobody_and_told_by_the_store(
    ceph_server: CephServer, locking_bucket: str
) -> None:
    store = _locking(ceph_server, locking_bucket, "compliance")  # noqa: F811
    store.put("compliance", [b"x"])
    until = store.locked_until("compliance")
    place = {"Bucket": locking_bucket, "Key": "compliance", "BypassGovernanceRetention": True}
    end = datetime.now(UTC) + timedelta(minutes=1)
    for shorter in ("COMPLIANCE", "GOVERNANCE"):
        with pytest.raises(ClientError, match="AccessDenied"):
            ceph_server.client.put_object_retention(
                **place, Retention={"Mode": shorter, "RetainUntilDate": end}
            )
    with pytest.raises(ClientError, match="AccessDenied"):
        ceph_server.client.delete_object(**place, VersionId=_version(ceph_server, store, "compliance"))
    with pytest.raises(StoreLocked) as caught:
        store.delete("compliance")
    assert caught.value.until == until
    assert store.read("compliance") == b"x"


def test_a_lock_of_governance_is_broken_by_its_special_right_which_a_deletion_never_uses(
    ceph_server: CephServer, locking_bucket: str
) -> None:
    store = _locking(ceph_server, locking_bucket, "governance")  # noqa: F811
    store.put("governance", [b"x"])
    with pytest.raises(StoreLocked):
        store.delete("governance")
    version = _version(ceph_server, store, "governance")
    ceph_server.client.delete_object(
        Bucket=locking_bucket, Key="governance", VersionId=version, BypassGovernanceRetention=True
    )
    assert not store.exists("governance")


def test_an_older_version_that_is_locked_for_longer_counts(
    ceph_server: CephServer, locking_bucket: str
) -> None:
    longer = _locking(ceph_server, locking_bucket, "governance", days=30)
    shorter = _locking(ceph_server, locking_bucket, "governance", days=1)
    longer.put("twice", [b"older"])
    until = longer.locked_until("twice")
    shorter.put("twice", [b"newer"])
    assert shorter.locked_until("twice") == until
    with pytest.raises(StoreLocked) as caught:
        shorter.delete("twice")
    assert caught.value.until == until
    assert shorter.read("twice") == b"newer"


def _locking(server: CephServer, bucket: str, mode: str, days: int = 1) -> S3Store:
    return server.store(bucket, object_lock_mode=mode, object_lock_days=days)


def _version(server: CephServer, store: S3Store, key: str) -> str:  # noqa: F811
    (version,) = server.client.list_object_versions(Bucket=store.bucket, Prefix=key)["Versions"]
    return str(version["VersionId"])
