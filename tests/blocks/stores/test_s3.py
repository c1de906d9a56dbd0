"""What only S3 has: addresses, parts, headers, conditions, the server's clock."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import urlsplit

import boto3
import obstore
import pytest
from obstore.store import S3Store as MovingClient
from prefect.blocks.core import Block
from pydantic import Field, ValidationError

from blocks.errors import ObjectExists, ObjectMissing, StoreError, StoreUnreachable
from blocks.stores import LocalStore, S3Store, s3_writing, upload_parts
from blocks.stores.s3 import ARCHIVE_CLASSES
from blocks.stores.s3_access import asking_client, moving_client
from blocks.stores.s3_writing import PLANNED_PARTS, parts_for
from blocks.stores.upload_parts import MEMORY_BYTES
from tests.servers.s3 import BrokenLine, S3Server
from tests.servers.s3_script import Answer, ScriptedS3, scripted_s3

MIB = 1 << 20
_MINUTE = timedelta(minutes=1)
GIB = 1 << 30
TIB = 1 << 40
FREE = Answer(404, "NoSuchKey")


@pytest.fixture
def script() -> Iterator[ScriptedS3]:
    with scripted_s3() as script:
        yield script


@pytest.fixture
def scripted_store(script: ScriptedS3) -> S3Store:
    return S3Store(
        bucket="backups",
        prefix="pg",
        endpoint_url=script.endpoint_url,
        access_key_id="key-id",
        secret_access_key="the-secret-key",
    )


@pytest.mark.parametrize(
    ("expected_bytes", "part_mib", "at_once"),
    [
        pytest.param(0, 16, 4, id="nothing"),
        pytest.param(GIB, 16, 4, id="small"),
        pytest.param(None, 32, 3, id="unknown"),
        pytest.param(140 * GIB, 16, 4, id="the-largest-of-smallest-parts"),
        pytest.param(141 * GIB, 17, 4, id="just-larger"),
        pytest.param(562 * GIB, 64, 1, id="the-last-within-memory"),
        pytest.param(5 * TIB, 583, 1, id="the-largest-object-of-s3"),
    ],
)
def test_parts_grow_with_the_expected_size(expected_bytes: int | None, part_mib: int, at_once: int) -> None:
    parts = parts_for(expected_bytes)
    assert (parts.size_bytes, parts.at_once) == (part_mib * MIB, at_once)
    assert parts.size_bytes * PLANNED_PARTS >= (expected_bytes or 0)
    assert parts.in_flight_bytes <= max(MEMORY_BYTES, 2 * parts.size_bytes)


def test_an_upload_that_outgrows_its_parts_says_so_and_leaves_nothing(
    s3_store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_parts, "SMALLEST_PART_BYTES", MIB)
    monkeypatch.setattr(s3_writing, "MOST_PARTS", 3)
    with pytest.raises(StoreError, match="more than 3 parts of 1 MiB"):
        s3_store.put("key", [bytes(MIB)] * 4, expected_bytes=1)
    assert list(s3_store.list()) == []
    assert list(s3_store.pending()) == []


@pytest.mark.parametrize(
    ("endpoint_url", "location", "on_this_host"),
    [
        (None, "s3://backups/pg", False),
        ("https://minio.example:9000/", "s3://backups/pg at minio.example:9000", False),
        ("http://127.0.0.1:9000", "s3://backups/pg at 127.0.0.1:9000", True),
        ("http://127.8.8.8", "s3://backups/pg at 127.8.8.8", True),
        ("http://[::1]:9000", "s3://backups/pg at [::1]:9000", True),
        ("http://localhost", "s3://backups/pg at localhost", True),
        ("http://198.51.100.7", "s3://backups/pg at 198.51.100.7", False),
    ],
)
def test_a_store_knows_where_it_lies(endpoint_url: str | None, location: str, on_this_host: bool) -> None:
    store = S3Store(bucket="backups", prefix="/pg/", endpoint_url=endpoint_url)
    assert (store.location, store.on_this_host) == (location, on_this_host)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"endpoint_url": "minio.example:9000"}, "must be http"),
        ({"endpoint_url": "ftp://minio.example"}, "must be http"),
        ({"endpoint_url": "https://key:secret@minio.example"}, "without credentials"),
        ({"endpoint_url": "https://minio.example/backups"}, "must end with the host"),
        ({"prefix": "../other"}, "must be a folder"),
        ({"bucket": ""}, "at least 1 character"),
        ({"access_key_id": "id"}, "go together"),
        ({"secret_access_key": "secret"}, "go together"),
        ({"credentials": "aws-credentials/a", "access_key_id": "b", "secret_access_key": "c"}, "not both"),
        ({"storage_class": "DEEP_ARCHIVE"}, "cannot be read back, verified or restored"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_what_cannot_work_is_refused_when_it_is_configured(fields: dict[str, str], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        S3Store(**({"bucket": "backups"} | fields))


@pytest.mark.parametrize("storage_class", [*ARCHIVE_CLASSES, "glacier"])
def test_a_class_that_cannot_be_read_at_once_is_refused_with_the_reason(storage_class: str) -> None:
    with pytest.raises(ValidationError, match="cannot be read back, verified or restored for hours"):
        S3Store(bucket="b", storage_class=storage_class)


def test_the_archive_class_that_can_be_read_at_once_is_taken() -> None:
    assert S3Store(bucket="b", storage_class="GLACIER_IR").storage_class == "GLACIER_IR"


@pytest.mark.parametrize(
    ("bucket", "region", "host"),
    [
        ("backups", "us-east-1", "backups.s3.amazonaws.com"),
        ("backups", "eu-west-1", "backups.s3.eu-west-1.amazonaws.com"),
        ("backups", "cn-north-1", "backups.s3.cn-north-1.amazonaws.com.cn"),
        ("dotted.bucket", "eu-west-1", "s3.eu-west-1.amazonaws.com"),
    ],
)
def test_both_clients_use_the_same_address_at_amazon(
    monkeypatch: pytest.MonkeyPatch, bucket: str, region: str, host: str
) -> None:
    class HeldBackError(Exception):
        pass

    def hold_back(request: Any, **_: Any) -> None:
        asked.append(request.url)
        raise HeldBackError

    asked: list[str] = []
    # the block alone says where the bucket is
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://elsewhere.example")
    monkeypatch.setenv("AWS_ENDPOINT", "http://elsewhere.example")
    session = boto3.Session("key-id", "secret", region_name=region)
    asking = asking_client(session, None, None)
    asking.meta.events.register("before-send.s3", hold_back)
    with pytest.raises(HeldBackError):
        asking.head_object(Bucket=bucket, Key="pg/a b")
    moved = obstore.sign(moving_client(session, asking, bucket), "GET", "pg/a b", expires_in=_MINUTE)
    assert urlsplit(asked[0])[:3] == urlsplit(moved)[:3]
    assert urlsplit(moved).netloc == host


def test_storage_class_and_encryption_are_asked_for(
    s3_server: S3Server, bucket: str, line: BrokenLine
) -> None:
    store = s3_server.store(
        bucket,
        endpoint_url=line.endpoint_url,
        storage_class="STANDARD_IA",
        server_side_encryption="AES256",
    )
    store.put("archive", [bytes(MIB)] * 20, expected_bytes=20 * MIB)
    store.create("manifest.json", b"{}")
    begun = _request(line, b"POST", b"/archive?uploads")
    assert b"x-amz-storage-class: standard_ia" in begun
    assert b"x-amz-server-side-encryption: aes256" in begun
    created = _request(line, b"PUT", b"/manifest.json")
    assert b"x-amz-server-side-encryption: aes256" in created
    assert b"storage-class" not in created


def test_create_asks_the_server_to_refuse_what_came_meanwhile(
    scripted_store: S3Store, script: ScriptedS3
) -> None:
    script.answers = {
        "GET": [FREE, Answer(body=b"theirs")],
        "PUT": [Answer(412, "PreconditionFailed")],
    }
    with pytest.raises(ObjectExists):
        scripted_store.create("manifest.json", b"ours")
    asked = next(request for request in script.requests if request.method == "PUT")
    assert asked.headers["If-None-Match"] == "*"


def test_a_repeated_create_whose_first_answer_was_lost_is_a_success(
    scripted_store: S3Store, script: ScriptedS3
) -> None:
    script.answers = {"GET": [FREE, Answer(body=b"ours")], "PUT": [Answer(412, "PreconditionFailed")]}
    scripted_store.create("manifest.json", b"ours")


def test_create_works_on_a_server_that_knows_no_conditions(
    scripted_store: S3Store, script: ScriptedS3
) -> None:
    script.answers = {"GET": [FREE], "PUT": [Answer(501, "NotImplemented"), Answer()]}
    scripted_store.create("manifest.json", b"ours")
    conditions = [
        request.headers.get("If-None-Match") for request in script.requests if request.method == "PUT"
    ]
    assert conditions == ["*", None]


def test_the_servers_clock_counts_not_ours(scripted_store: S3Store, script: ScriptedS3) -> None:
    told = {"Date": "Sun, 04 Mar 2001 05:06:07 GMT"}
    for answer in (Answer(headers=told), Answer(403, headers=told)):
        script.answers = {"HEAD": [answer]}
        assert scripted_store.now() == datetime(2001, 3, 4, 5, 6, 7, tzinfo=UTC)


def test_a_server_without_a_clock_is_given_ours(scripted_store: S3Store, script: ScriptedS3) -> None:
    script.answers = {"HEAD": [Answer()]}
    assert abs(scripted_store.now() - datetime.now(UTC)).total_seconds() < 5


def test_folder_markers_and_what_is_no_key_are_passed_over(
    scripted_store: S3Store, script: ScriptedS3
) -> None:
    names = ("pg/", "pg/shop/", "pg/shop//odd", "pg/shop/main")
    script.answers = {"GET": [Answer(body=_listing(names))]}
    assert [stored.key for stored in scripted_store.list()] == ["shop/main"]


def test_an_object_that_ends_before_its_size_is_an_error(
    s3_store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Short:
        meta = {"size": 10}  # noqa: RUF012

        def stream(self, _: int) -> Iterator[bytes]:
            return iter([b"1234", b"567"])

    monkeypatch.setattr(obstore, "get", lambda *_: Short())
    with pytest.raises(StoreUnreachable, match="ended 3 bytes before its end"):
        s3_store.read("key")


def test_an_upload_is_as_old_as_its_newest_part(scripted_store: S3Store, script: ScriptedS3) -> None:
    uploads = "".join(
        f"<Upload><Key>pg/{key}</Key><UploadId>{key}</UploadId><Initiated>2026-01-01T00:00:00Z</Initiated></Upload>"
        for key in ("slow", "dead", "ended")
    )
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><LastModified>2026-01-0{day}T00:00:00Z</LastModified></Part>"
        for number, day in ((1, 2), (2, 4), (3, 3))
    )
    script.answers = {
        "GET": [
            Answer(body=f"<ListMultipartUploadsResult>{uploads}</ListMultipartUploadsResult>".encode()),
            Answer(body=f"<ListPartsResult>{parts}</ListPartsResult>".encode()),
            Answer(body=b"<ListPartsResult/>"),
            Answer(404, "NoSuchUpload"),
        ]
    }
    found = {upload.key: upload.started_at for upload in scripted_store.pending()}
    assert found == {"slow": datetime(2026, 1, 4, tzinfo=UTC), "dead": datetime(2026, 1, 1, tzinfo=UTC)}


def test_a_missing_bucket_is_told_from_a_missing_object(s3_server: S3Server, s3_store: S3Store) -> None:
    elsewhere = s3_server.store("no-such-bucket")
    uses: list[Callable[[S3Store], object]] = [
        lambda store: store.put("key", [b"x"]),
        lambda store: store.create("key", b"x"),
        lambda store: store.get("key"),
        lambda store: store.stat("key"),
        lambda store: store.exists("key"),
        lambda store: list(store.list()),
        lambda store: store.delete("key"),
        lambda store: list(store.pending()),
    ]
    for use in uses:
        with pytest.raises(StoreError, match="there is no such bucket") as caught:
            use(elsewhere)
        assert type(caught.value) is StoreError
        assert "make the bucket" in caught.value.hint
    with pytest.raises(ObjectMissing):
        s3_store.stat("key")


def test_a_plans_stores_are_told_apart_by_their_kind_and_compared_by_their_fields() -> None:
    class Plan(Block):
        stores: list[Annotated[LocalStore | S3Store, Field(discriminator="kind")]]

    given: list[dict[str, Any]] = [
        {"kind": "local", "path": "/backups"},
        {"kind": "s3", "bucket": "b", "access_key_id": "key-id", "secret_access_key": "the-secret-key"},
    ]
    plan, again = Plan(stores=given), Plan(stores=given)
    assert [type(store) for store in plan.stores] == [LocalStore, S3Store]
    assert plan == again
    assert isinstance(plan.stores[1], S3Store)
    assert isinstance(plan.stores[1]._downloads, MovingClient)
    assert plan == again
    for text in (repr(plan), str(plan), plan.model_dump_json()):
        assert "the-secret-key" not in text


def _request(line: BrokenLine, method: bytes, path: bytes) -> bytes:
    """Return the head, in lower case, of a request that went over the line."""
    heads = [head for head in line.requests if head.startswith(method) and path in head.split(b"\r\n")[0]]
    return heads[0].lower()


def _listing(names: tuple[str, ...]) -> bytes:
    entries = "".join(
        f"<Contents><Key>{name}</Key><Size>0</Size><LastModified>2026-01-02T03:04:05.000Z</LastModified></Contents>"
        for name in names
    )
    return f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>".encode()
