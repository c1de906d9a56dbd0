"""Whether an S3 server checks its parts: asked of one that does, of one that does not, and of broken ones."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest

from blocks.errors import StoreError, StoreForbidden, StoreUnreachable
from blocks.stores import S3Store
from tests.servers.s3_script import Answer, scripted_s3

KEY = "shop/20260128T020000Z-4f9c2a/main.dump.zst.gpg"
BEGUN = Answer(body=b"<InitiateMultipartUploadResult><UploadId>7</UploadId></InitiateMultipartUploadResult>")
TAKEN = Answer(headers={"ETag": '"0"'})
KEYS: dict[str, Any] = {"access_key_id": "key-id", "secret_access_key": "secret", "region": "eu-west-1"}


class _Checking(BaseHTTPRequestHandler):
    """Does with a part what Amazon does: compares it with the SHA-256 that was signed."""

    protocol_version = "HTTP/1.1"
    aborted: list[str]

    def do_POST(self) -> None:
        self._answer(200, BEGUN.body)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        is_right = hashlib.sha256(body).hexdigest() == self.headers["x-amz-content-sha256"]
        refusal = Answer(400, "XAmzContentSHA256Mismatch").content
        self._answer(200 if is_right else 400, b"" if is_right else refusal)

    def do_DELETE(self) -> None:
        self.aborted.append(self.path)
        self._answer(204, b"")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response_only(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"0"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def checking_server() -> Iterator[tuple[S3Store, list[str]]]:
    """Yield a store on a server that checks parts, and the uploads that were aborted there."""
    aborted: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Checking", (_Checking,), {"aborted": aborted}))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield S3Store(bucket="b", endpoint_url=f"http://127.0.0.1:{server.server_port}", **KEYS), aborted
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_server_that_compares_what_arrives_with_what_was_signed_checks_parts() -> None:
    with checking_server() as (store, aborted):
        assert store.checks_parts(KEY)
        assert [urlsplit(path).path for path in aborted] == [f"/b/{KEY}"]


def test_a_question_that_was_answered_changes_no_later_part() -> None:
    with checking_server() as (store, _):
        store.checks_parts(KEY)
        for number in (2, 20):
            store._asking.upload_part(Bucket="b", Key=KEY, UploadId="7", PartNumber=number, Body=b"part")


def test_the_question_may_be_asked_by_several_at_once() -> None:
    with checking_server() as (store, aborted):
        told: list[bool] = []
        threads = [threading.Thread(target=lambda: told.append(store.checks_parts(KEY))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert told == [True] * 4
        assert len(aborted) == 4


def test_a_server_that_does_not_look_is_found_out_and_keeps_nothing(
    s3_store: S3Store,
) -> None:
    assert not s3_store.checks_parts(KEY)
    assert list(s3_store.pending()) == []
    assert list(s3_store.list()) == []


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param([TAKEN, Answer(400, "BadDigest")], True, id="another-word-for-it"),
        pytest.param([TAKEN, Answer(400, "IncompleteBody")], True, id="takes-it-for-a-broken-one"),
        pytest.param([TAKEN, Answer(400, "RequestTimeout")], StoreUnreachable, id="got-no-bytes"),
        pytest.param([TAKEN, Answer(403, "SignatureDoesNotMatch")], True, id="the-signature-is-the-bytes"),
        pytest.param([Answer(400, "InvalidRequest")], False, id="refuses-the-right-one-as-well"),
        pytest.param([TAKEN, Answer(503, "SlowDown")], StoreUnreachable, id="overloaded"),
        pytest.param([TAKEN, Answer(404, "NoSuchUpload")], StoreError, id="lost-the-upload"),
    ],
)
def test_only_a_refusal_of_the_changed_part_alone_tells_that_parts_are_checked(
    parts: list[Answer], expected: bool | type[StoreError]
) -> None:
    with scripted_s3() as server:
        server.answers = {"POST": [BEGUN], "PUT": parts, "DELETE": [Answer(204)]}
        store = S3Store(bucket="b", endpoint_url=server.endpoint_url, **KEYS)
        if isinstance(expected, bool):
            assert store.checks_parts(KEY) is expected
        else:
            with pytest.raises(expected):
                store.checks_parts(KEY)
        assert [request.method for request in server.requests][-1] == "DELETE"


def test_an_upload_that_may_not_be_begun_is_forbidden() -> None:
    with scripted_s3() as server:
        server.answers = {"POST": [Answer(403, "AccessDenied")]}
        with pytest.raises(StoreForbidden):
            S3Store(bucket="b", endpoint_url=server.endpoint_url, **KEYS).checks_parts(KEY)


def test_parts_are_signed_over_tls_as_well() -> None:
    store = S3Store(bucket="b", endpoint_url="https://127.0.0.1:1", **KEYS)
    signed: list[bytes] = []

    def look(request: Any, **_: Any) -> None:
        signed.append(request.headers["X-Amz-Content-SHA256"])
        raise OSError("as if there were no line")

    store._asking.meta.events.register("before-send.s3.UploadPart", look)
    with pytest.raises(OSError, match="as if"):
        store._asking.upload_part(Bucket="b", Key=KEY, UploadId="7", PartNumber=1, Body=b"part")
    assert signed == [hashlib.sha256(b"part").hexdigest().encode()]
