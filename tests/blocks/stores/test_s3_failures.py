"""What an S3 server's refusals, silences and broken lines become."""

import socket
import traceback
from collections.abc import Callable, Iterator

import pytest
from botocore.exceptions import ClientError, IncompleteReadError

from blocks.errors import ObjectExists, ObjectMissing, StoreError, StoreForbidden, StoreFull, StoreUnreachable
from blocks.stores import S3Store, s3_access, upload_parts
from blocks.stores.s3_errors import store_error
from tests.servers.ports import free_port
from tests.servers.s3 import BrokenLine, S3Server
from tests.servers.s3_script import Answer, scripted_s3

MIB = 1 << 20
USES: list[tuple[str, Callable[[S3Store], object]]] = [
    ("put", lambda store: store.put("key", [b"x"])),
    ("create", lambda store: store.create("key", b"x")),
    ("get", lambda store: store.get("key")),
    ("stat", lambda store: store.stat("key")),
    ("list", lambda store: list(store.list())),
    ("delete", lambda store: store.delete("key")),
    ("pending", lambda store: list(store.pending())),
]
impatiently = pytest.mark.usefixtures("impatient")
every_use = pytest.mark.parametrize("use", [pytest.param(use, id=name) for name, use in USES])


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up at once instead of after half a minute."""
    monkeypatch.setattr(s3_access, "RETRIES", 0)
    monkeypatch.setattr(s3_access, "ASKED_TIMES", 1)
    monkeypatch.setattr(s3_access, "CONNECT_SECONDS", 1)


@every_use
@pytest.mark.parametrize(
    ("fields", "said"),
    [
        pytest.param({"access_key_id": "unknown-key-id"}, "access_key_id", id="unknown-key"),
        pytest.param({"secret_access_key": "wrong-secret-key"}, "secret_access_key", id="wrong-secret"),
    ],
)
def test_refused_credentials_are_told_and_shown_nowhere(
    s3_server: S3Server,
    connected_s3_store: S3Store,
    fields: dict[str, str],
    said: str,
    use: Callable[[S3Store], object],
) -> None:
    store = s3_server.store(connected_s3_store.bucket, **fields)
    with pytest.raises(StoreForbidden) as caught:
        use(store)
    # the answer to a HEAD bears no code
    assert said in caught.value.hint or "credentials" in caught.value.hint
    shown = "".join(traceback.format_exception(caught.value))
    for secret in (store.secret_access_key.get_secret_value(), store.access_key_id, "Signature=", "<Error>"):
        assert secret not in shown


@every_use
@impatiently
def test_a_server_that_is_down_is_told_from_one_that_refuses(use: Callable[[S3Store], object]) -> None:
    store = S3Store(
        bucket="backups",
        endpoint_url=f"http://127.0.0.1:{free_port()}",
        access_key_id="key-id",
        secret_access_key="the-secret-key",
    )
    with pytest.raises(StoreUnreachable, match="no answer") as caught:
        use(store)
    assert "endpoint_url" in caught.value.hint
    assert caught.value.transient


def test_a_server_that_drops_packets_is_given_up_within_half_a_minute() -> None:
    asked = s3_access.ASKED_TIMES * s3_access.CONNECT_SECONDS
    moved = (s3_access.RETRIES + 1) * s3_access.CONNECT_SECONDS
    assert max(asked, moved) <= 20
    assert s3_access.ASKED_TIMES * s3_access.ANSWER_SECONDS <= 30


@impatiently
def test_a_name_that_does_not_resolve_is_told() -> None:
    store = S3Store(
        bucket="backups", endpoint_url="http://no-such-host.invalid", access_key_id="a", secret_access_key="b"
    )
    with pytest.raises(StoreUnreachable, match=r"s3://backups at no-such-host.invalid: no answer"):
        store.put("key", [b"x"])


def test_a_download_goes_on_after_a_line_that_broke_once(
    s3_server: S3Server, bucket: str, line: BrokenLine
) -> None:
    body = bytes(range(256)) * 4096 * 8
    s3_server.store(bucket).put("key", [body])
    line.break_after(down_bytes=3 * MIB, once=True)
    assert s3_server.store(bucket, endpoint_url=line.endpoint_url).read("key") == body


@impatiently
def test_a_download_that_dies_half_way_is_an_error_and_no_end(
    s3_server: S3Server, bucket: str, line: BrokenLine
) -> None:
    s3_server.store(bucket).put("key", [bytes(MIB)] * 8)
    chunks = s3_server.store(bucket, endpoint_url=line.endpoint_url).get("key")
    line.break_after(down_bytes=3 * MIB)
    received: list[bytes] = []
    with pytest.raises(StoreUnreachable, match="cannot read key"):
        received.extend(chunks)
    assert sum(map(len, received)) < 8 * MIB


def test_an_upload_goes_on_after_a_line_that_broke_once(
    s3_server: S3Server, bucket: str, line: BrokenLine
) -> None:
    store = s3_server.store(bucket, endpoint_url=line.endpoint_url)
    line.break_after(up_bytes=20 * MIB, once=True)
    assert store.put("key", [bytes(MIB)] * 40, expected_bytes=40 * MIB) == 40 * MIB
    assert store.stat("key").size_bytes == 40 * MIB
    assert list(store.pending()) == []


@impatiently
def test_an_upload_that_dies_half_way_stores_nothing_and_its_rest_can_be_cleared(
    s3_server: S3Server, bucket: str, line: BrokenLine
) -> None:
    line.break_after(up_bytes=20 * MIB)
    with pytest.raises(StoreUnreachable, match="cannot write key"):
        s3_server.store(bucket, endpoint_url=line.endpoint_url).put(
            "key", [bytes(MIB)] * 40, expected_bytes=40 * MIB
        )
    direct = s3_server.store(bucket)
    assert list(direct.list()) == []
    (left,) = direct.pending()
    direct.abort_pending(left)
    assert list(direct.pending()) == []


@impatiently
def test_an_upload_whose_last_answer_was_lost_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_access, "RETRIES", 1)
    monkeypatch.setattr(upload_parts, "SMALLEST_PART_BYTES", MIB)
    begun = Answer(
        body=b"<InitiateMultipartUploadResult><UploadId>7</UploadId></InitiateMultipartUploadResult>"
    )
    made = Answer(body=b"<CompleteMultipartUploadResult><ETag>1</ETag></CompleteMultipartUploadResult>")
    lost, forgotten = Answer(502), Answer(404, "NoSuchUpload")
    with scripted_s3() as script:
        script.answers = {
            "PUT": [Answer(headers={"ETag": '"1"'})],
            "POST": [begun, lost, forgotten, begun, made],
        }
        store = S3Store(
            bucket="b", endpoint_url=script.endpoint_url, access_key_id="a", secret_access_key="b"
        )
        body = [bytes(MIB)] * 3
        with pytest.raises(StoreUnreachable, match=r"cannot write key .* has forgotten the upload") as caught:
            store.put("key", body, expected_bytes=1)
        assert caught.value.transient
        assert store.put("key", body, expected_bytes=1) == 3 * MIB


@impatiently
def test_a_source_that_breaks_while_the_server_is_gone_keeps_its_own_error(
    s3_server: S3Server, bucket: str, line: BrokenLine
) -> None:
    def source() -> Iterator[bytes]:
        for _ in range(20):
            yield bytes(MIB)
        line.refuse()
        raise KeyError("the first cause")

    store = s3_server.store(bucket, endpoint_url=line.endpoint_url)
    with pytest.raises(KeyError, match="the first cause"):
        store.put("key", source(), expected_bytes=1)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (403, "AccessDenied", StoreForbidden),
        (400, "ExpiredToken", StoreForbidden),
        (403, "RequestTimeTooSkewed", StoreForbidden),
        (401, "", StoreForbidden),
        (503, "SlowDown", StoreUnreachable),
        (500, "InternalError", StoreUnreachable),
        (400, "RequestTimeout", StoreUnreachable),
        (429, "", StoreUnreachable),
        (409, "ConditionalRequestConflict", StoreUnreachable),
        (400, "BadDigest", StoreUnreachable),
        (400, "XAmzContentSHA256Mismatch", StoreUnreachable),
        (400, "IncompleteBody", StoreUnreachable),
        (507, "XMinioStorageFull", StoreFull),
        (403, "QuotaExceeded", StoreFull),
        (404, "NoSuchKey", ObjectMissing),
        (412, "PreconditionFailed", ObjectExists),
        (404, "NoSuchBucket", StoreError),
        (301, "PermanentRedirect", StoreError),
        (400, "InvalidArgument", StoreError),
        (403, "InvalidObjectState", StoreForbidden),
    ],
)
@impatiently
def test_both_clients_errors_mean_the_same(status: int, code: str, expected: type[StoreError]) -> None:
    details = {"Error": {"Code": code or str(status)}, "ResponseMetadata": {"HTTPStatusCode": status}}
    asked = store_error(ClientError(details, "PutObject"), "cannot write key")
    assert type(asked) is expected
    with scripted_s3() as script:
        script.answers = {"GET": [Answer(status, code)]}
        store = S3Store(
            bucket="backups", endpoint_url=script.endpoint_url, access_key_id="a", secret_access_key="b"
        )
        with pytest.raises(expected) as caught:
            store.get("key")
    assert type(caught.value) is expected
    assert caught.value.hint == asked.hint
    assert "private words" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("code", ["InvalidArgument", "InvalidRequest", "InvalidStorageClass"])
@pytest.mark.parametrize(
    ("fields", "hint"),
    [
        ({}, ""),
        ({"storage_class": "STANDARD_IA"}, "empty them"),
        ({"server_side_encryption": "aws:kms"}, "empty them"),
    ],
)
def test_options_that_a_server_may_not_have_are_named_where_one_is_set(
    code: str, fields: dict[str, str], hint: str
) -> None:
    with scripted_s3() as script:
        refused = Answer(400, code)
        script.answers = {"POST": [refused], "PUT": [refused], "GET": [Answer(404, "NoSuchKey")]}
        store = S3Store(
            bucket="b", endpoint_url=script.endpoint_url, access_key_id="a", secret_access_key="b", **fields
        )
        for write in (lambda: store.put("key", [b"x"]), lambda: store.create("key", b"x")):
            with pytest.raises(StoreError, match=code) as caught:
                write()
            assert caught.value.hint.endswith(hint)
            assert bool(caught.value.hint) == bool(hint)


def test_an_object_in_an_archive_class_is_not_forbidden_but_to_be_restored() -> None:
    details = {"Error": {"Code": "InvalidObjectState"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
    error = store_error(ClientError(details, "GetObject"), "cannot read key")
    assert error.hint == "restore it from its archive class first"


def test_a_part_that_ends_too_early_can_be_read_again() -> None:
    error = store_error(IncompleteReadError(actual_bytes=1, expected_bytes=2), "cannot read key")
    assert type(error) is StoreUnreachable


@impatiently
def test_a_connection_that_nobody_accepts_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(address)
        store = S3Store(
            bucket="backups",
            endpoint_url=f"http://127.0.0.1:{address[1]}",
            access_key_id="a",
            secret_access_key="b",
        )
        with pytest.raises(StoreUnreachable, match="no answer"):
            store.put("key", [b"x"])
        for client in waiting:
            client.close()
