"""What only Google Cloud Storage has: resumable uploads, checksums, generations, its credentials."""

import json
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import google.auth
import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.oauth2 import service_account
from prefect.blocks.core import Block
from pydantic import ValidationError

from blocks.errors import (
    ConfigurationError,
    ObjectExists,
    ObjectMissing,
    StoreError,
    StoreForbidden,
    StoreFull,
    StoreUnreachable,
)
from blocks.references import redact
from blocks.stores import GcsStore, extras, gcs, gcs_access, gcs_errors, gcs_reading, gcs_upload
from blocks.stores.extras import imported
from tests.blocks.stores.probes import kill_in_a_put
from tests.servers.gcs import GcsServer
from tests.servers.s3 import BrokenLine
from tests.servers.s3_script import Answer, ScriptedS3, scripted_s3

MIB = 1 << 20
USES: list[tuple[str, Callable[[GcsStore], object]]] = [
    ("put", lambda store: store.put("key", [b"x"])),
    ("create", lambda store: store.create("key", b"x")),
    ("get", lambda store: store.get("key")),
    ("stat", lambda store: store.stat("key")),
    ("list", lambda store: list(store.list())),
    ("delete", lambda store: store.delete("key")),
]
every_use = pytest.mark.parametrize("use", [pytest.param(use, id=name) for name, use in USES])


@pytest.fixture
def script() -> Iterator[ScriptedS3]:
    with scripted_s3() as script:
        yield script


@pytest.fixture
def scripted_store(script: ScriptedS3, monkeypatch: pytest.MonkeyPatch) -> GcsStore:
    # Google's library asks for the bucket beside the first question, and would take an answer out of turn
    monkeypatch.setenv("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    return GcsStore(bucket="backups", prefix="pg", endpoint_url=script.endpoint_url)


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The key of a service account that does not exist."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    words = {
        "type": "service_account",
        "project_id": "acme",
        "private_key_id": "1",
        "private_key": pem,
        "client_email": "backup@acme.iam.gserviceaccount.com",
        "token_uri": "http://127.0.0.1:9/token",
    }
    path = tmp_path_factory.mktemp("keys") / "account.json"
    path.write_text(json.dumps(words))
    return path


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up at once instead of after half a minute."""
    monkeypatch.setattr(gcs_access, "PATIENCE", timedelta(seconds=0.1))
    monkeypatch.setattr(gcs_upload, "ATTEMPTS", 1)
    monkeypatch.setattr(gcs, "SLOWEST_BYTES_PER_SECOND", 1 << 40)


impatiently = pytest.mark.usefixtures("impatient")


def test_what_a_kill_leaves_is_no_object(gcs_store: GcsStore) -> None:
    kill_in_a_put(gcs_store)
    assert list(gcs_store.list()) == []
    assert list(gcs_store.pending()) == []
    assert not gcs_store.exists("killed")


def test_an_upload_that_is_given_up_is_forgotten_by_the_server(
    scripted_store: GcsStore, script: ScriptedS3
) -> None:
    def source() -> Iterator[bytes]:
        yield b"x"
        raise KeyError("the first cause")

    session = f"{script.endpoint_url}/session?upload_id=secret-upload-id"
    script.answers = {"POST": [Answer(headers={"Location": session})], "DELETE": [Answer(499)]}
    with pytest.raises(KeyError, match="the first cause"):
        scripted_store.put("key", source())
    assert [request.method for request in script.requests] == ["POST", "DELETE"]
    assert "secret-upload-id" not in redact(f"PUT {session}")


@impatiently
def test_a_line_that_breaks_for_good_is_told_and_makes_nothing(
    gcs_line: tuple[GcsServer, BrokenLine],
) -> None:
    server, line = gcs_line
    server.make_bucket("backups")
    store = server.store("backups", endpoint_url=line.endpoint_url, timeout_seconds=30)
    line.break_after(up_bytes=20 * MIB)
    with pytest.raises(StoreUnreachable, match="cannot write key"):
        store.put("key", [bytes(MIB)] * 40)
    assert list(server.store("backups").list()) == []
    line.mend()
    server.store("backups").put("key", [bytes(MIB)] * 40)
    chunks = store.get("key")
    next(chunks)
    line.break_after(down_bytes=3 * MIB)
    with pytest.raises(StoreUnreachable, match="cannot read key"):
        list(chunks)


@every_use
@impatiently
def test_a_server_that_is_down_is_told(
    gcs_line: tuple[GcsServer, BrokenLine], use: Callable[[GcsStore], object]
) -> None:
    _, line = gcs_line
    line.refuse()
    with pytest.raises(StoreUnreachable, match="no answer") as caught:
        use(GcsStore(bucket="backups", endpoint_url=line.endpoint_url))
    assert "endpoint_url" in caught.value.hint


def test_an_answer_that_was_lost_is_asked_for_and_nothing_is_sent_twice(
    scripted_store: GcsStore, script: ScriptedS3
) -> None:
    session = f"{script.endpoint_url}/session"
    script.answers = {
        "POST": [Answer(headers={"Location": session})],
        "PUT": [Answer(503), Answer(308, headers={"Range": "bytes=0-3"}), _made(b"12345678")],
    }
    assert scripted_store.put("key", [b"12345678"]) == 8
    sent = [request for request in script.requests if request.method == "PUT"]
    assert [request.headers["Content-Range"] for request in sent] == [
        "bytes 0-7/8",
        "bytes */*",
        "bytes 4-7/8",
    ]
    assert [request.body for request in sent] == [b"12345678", b"", b"5678"]
    assert sent[2].headers["X-Goog-Hash"] == f"crc32c={_crc32c(b'12345678')}"


def test_an_object_that_was_made_though_its_answer_was_lost_is_a_success(
    scripted_store: GcsStore, script: ScriptedS3
) -> None:
    script.answers = {
        "POST": [Answer(headers={"Location": f"{script.endpoint_url}/session"})],
        "PUT": [Answer(503), _made(b"x")],
    }
    assert scripted_store.put("key", [b"x"]) == 1


@impatiently
def test_an_object_with_another_checksum_is_an_error(scripted_store: GcsStore, script: ScriptedS3) -> None:
    script.answers = {
        "POST": [Answer(headers={"Location": f"{script.endpoint_url}/session"})],
        "PUT": [_made(b"other")],
    }
    with pytest.raises(StoreUnreachable, match="its checksum is not that of the bytes"):
        scripted_store.put("key", [b"x"])


def test_what_is_read_is_held_against_the_checksum_and_the_size(
    gcs_store: GcsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    gcs_store.put("key", [b"12345678"])
    blob = imported("google.cloud.storage", "gcp").Blob
    for wrong, said in ((b"12345679", "checksum"), (b"1234", "4 bytes came where 8 were asked for")):
        monkeypatch.setattr(blob, "download_as_bytes", lambda *_, wrong=wrong, **__: wrong)
        with pytest.raises(StoreUnreachable, match=said):
            gcs_store.read("key")


def test_an_object_that_is_replaced_while_it_is_read_is_an_error_and_no_mixture(
    gcs_store: GcsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gcs_reading, "PIECE_BYTES", 4 * MIB)
    gcs_store.put("key", [bytes(MIB)] * 8)
    chunks = gcs_store.get("key")
    next(chunks)
    gcs_store.put("key", [b"x" * MIB] * 8)
    # this server gives what is there now, and Google's refuses
    with pytest.raises(StoreError, match="checksum"):
        list(chunks)


@pytest.mark.parametrize("status", [404, 412])
def test_only_the_generation_that_was_looked_at_is_read(
    scripted_store: GcsStore, script: ScriptedS3, status: int
) -> None:
    looked_at = {"size": "4", "generation": "17", "crc32c": _crc32c(b"1234")}
    known = Answer(body=json.dumps(looked_at).encode(), headers={"Content-Type": "application/json"})
    listed = Answer(body=b"{}", headers={"Content-Type": "application/json"})
    script.answers = {"GET": [known, Answer(status), listed]}
    with pytest.raises(StoreError, match="replaced or deleted meanwhile"):
        list(scripted_store.get("key"))
    assert "ifGenerationMatch=17" in script.requests[1].path


def test_a_part_of_an_object_is_read(gcs_store: GcsStore) -> None:
    gcs_store.put("key", [bytes(range(100))])
    for start, end in (
        (0, None),
        (10, 20),
        (90, None),
        (90, 1000),
        (0, 0),
        (100, None),
        (200, 300),
        (50, 10),
    ):
        assert b"".join(gcs_store.get("key", start=start, end=end)) == bytes(range(100))[start:end]
    with pytest.raises(ObjectMissing):
        gcs_store.get("missing", start=5)


def test_create_asks_the_server_to_refuse_what_came_meanwhile(
    gcs_store: GcsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = GcsStore.refuse_other_bytes

    def look_and_lose(store: GcsStore, key: str, body: bytes) -> bool:
        found = looked(store, key, body)
        if not found:
            store.put(key, [theirs])
        return found

    monkeypatch.setattr(GcsStore, "refuse_other_bytes", look_and_lose)
    theirs = b"ours"
    gcs_store.create("manifest.json", b"ours")
    gcs_store.delete("manifest.json")
    theirs = b"theirs"
    with pytest.raises(ObjectExists):
        gcs_store.create("manifest.json", b"ours")
    assert gcs_store.read("manifest.json") == b"theirs"


def _listed(*versions: tuple[str, str, str]) -> Answer:
    """Return Google's listing of versions: name, generation, and when it ceased to be the live one."""
    items = [
        {"name": name, "generation": generation} | ({"timeDeleted": ended} if ended else {})
        for name, generation, ended in versions
    ]
    body = json.dumps({"items": items}).encode()
    return Answer(body=body, headers={"Content-Type": "application/json"})


ENDED = "2026-11-24T02:00:00.123Z"
VERSIONED = _listed(
    ("pg/key", "13", ""),
    ("pg/key", "11", ENDED),
    ("pg/key", "12", ENDED),
    ("pg/key/of/another", "21", ENDED),
    ("pg/key2", "31", ENDED),
)


def _deleted(script: ScriptedS3) -> list[str]:
    requests = [request.path for request in script.requests if request.method == "DELETE"]
    return [path.removeprefix("/storage/v1/b/backups/o/pg%2F").partition("&")[0] for path in requests]


def test_a_deletion_takes_every_version_of_its_key_and_the_live_one_last(
    scripted_store: GcsStore, script: ScriptedS3
) -> None:
    script.answers = {"GET": [VERSIONED], "DELETE": [Answer(204)]}
    scripted_store.delete("key")
    asked = parse_qs(urlsplit(script.requests[0].path).query)
    assert (asked["versions"], asked["prefix"]) == (["True"], ["pg/key"])
    assert _deleted(script) == [f"key?generation={number}" for number in (11, 12, 13)]


def test_versions_that_are_gone_meanwhile_are_a_success(scripted_store: GcsStore, script: ScriptedS3) -> None:
    script.answers = {"GET": [VERSIONED], "DELETE": [Answer(404), Answer(404), Answer(204)]}
    scripted_store.delete("key")
    assert len(_deleted(script)) == 3


def test_a_version_that_is_kept_is_told_and_keeps_the_live_one(
    scripted_store: GcsStore, script: ScriptedS3
) -> None:
    body = json.dumps({"error": {"errors": [{"reason": "retentionPolicyNotMet"}]}}).encode()
    kept = Answer(403, body=body, headers={"Content-Type": "application/json"})
    script.answers = {"GET": [VERSIONED], "DELETE": [Answer(204), kept]}
    with pytest.raises(StoreForbidden, match=r"cannot delete key on .* retentionPolicyNotMet") as caught:
        scripted_store.delete("key")
    assert "policy or a hold" in caught.value.hint
    assert _deleted(script) == ["key?generation=11", "key?generation=12"]


def test_a_deletion_leaves_keys_that_begin_like_its_own(gcs_store: GcsStore) -> None:
    for key in ("key", "key", "key/of/another", "key2"):
        gcs_store.put(key, [b"x"])
    for _ in range(2):
        gcs_store.delete("key")
    assert [stored.key for stored in gcs_store.list()] == ["key/of/another", "key2"]


def test_the_storage_class_is_asked_for(script: ScriptedS3) -> None:
    store = GcsStore(bucket="backups", endpoint_url=script.endpoint_url, storage_class="ARCHIVE")
    script.answers = {
        "POST": [Answer(headers={"Location": f"{script.endpoint_url}/session"})],
        "PUT": [_made(b"x")],
    }
    store.put("key", [b"x"])
    assert json.loads(script.requests[0].body) == {"storageClass": "ARCHIVE"}


@impatiently
def test_an_upload_that_the_server_has_forgotten_can_be_tried_again(
    scripted_store: GcsStore, script: ScriptedS3
) -> None:
    script.answers = {
        "POST": [Answer(headers={"Location": f"{script.endpoint_url}/session"})],
        "PUT": [Answer(410)],
    }
    with pytest.raises(StoreUnreachable, match="forgotten the upload"):
        scripted_store.put("key", [b"x"])


@pytest.mark.parametrize(
    ("begun", "sent"),
    [
        pytest.param({}, Answer(), id="no-address"),
        pytest.param({"Location": "/session"}, Answer(body=b"<html>"), id="a-page"),
        pytest.param({"Location": "/session"}, Answer(body=b"[]"), id="no-object"),
        pytest.param({"Location": "/session"}, Answer(308, headers={"Range": "all"}), id="no-range"),
    ],
)
@impatiently
def test_an_answer_that_is_not_googles_is_no_answer(
    scripted_store: GcsStore, script: ScriptedS3, begun: dict[str, str], sent: Answer
) -> None:
    headers = {name: script.endpoint_url + path for name, path in begun.items()}
    script.answers = {"POST": [Answer(headers=headers)], "PUT": [sent]}
    with pytest.raises(StoreUnreachable, match="not one of Google's") as caught:
        scripted_store.put("key", [b"x"])
    assert "html" not in "".join(traceback.format_exception(caught.value))


def test_a_missing_bucket_is_told_from_a_missing_object(gcs_server: GcsServer, gcs_store: GcsStore) -> None:
    for _, use in USES:
        with pytest.raises(StoreError, match="there is no such bucket") as caught:
            use(gcs_server.store("no-such-bucket"))
        assert type(caught.value) is StoreError
    with pytest.raises(ObjectMissing):
        gcs_store.stat("key")


def test_the_servers_clock_counts_not_ours(scripted_store: GcsStore, script: ScriptedS3) -> None:
    told = {"Date": "Sun, 04 Mar 2001 05:06:07 GMT"}
    for answer in (Answer(headers=told), Answer(403, headers=told)):
        script.answers = {"GET": [answer]}
        assert scripted_store.now() == datetime(2001, 3, 4, 5, 6, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("endpoint_url", "location", "on_this_host"),
    [
        ("", "gs://backups/pg", False),
        ("https://storage.me-central2.rep.googleapis.com/",
         "gs://backups/pg at storage.me-central2.rep.googleapis.com", False),
        ("http://127.0.0.1:4443", "gs://backups/pg at 127.0.0.1:4443", True),
    ],
)  # fmt: skip
def test_a_store_knows_where_it_lies(endpoint_url: str, location: str, on_this_host: bool) -> None:
    store = GcsStore(bucket="backups", prefix="/pg/", endpoint_url=endpoint_url)
    assert (store.location, store.on_this_host) == (location, on_this_host)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"endpoint_url": "storage.example"}, "must be http"),
        ({"endpoint_url": "https://storage.example/storage/v1"}, "must end with the host"),
        ({"prefix": "../other"}, "must be a folder"),
        ({"bucket": ""}, "at least 1 character"),
        ({"credentials": "gcp-credentials/a", "service_account_key": "env:B"}, "not both"),
        ({"storage_class": "GLACIER"}, "Input should be"),
        ({"credentials": "gcp-credentials/a", "endpoint_url": "http://storage.example"}, "not sent over"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_what_cannot_work_is_refused_when_it_is_configured(fields: dict[str, str], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        GcsStore(**({"bucket": "backups"} | fields))


def test_credentials_come_from_a_key_file_or_a_block(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = imported("prefect_gcp", "gcp").GcpCredentials(
        service_account_info=json.loads(key_file.read_text())
    )
    monkeypatch.setattr(Block, "load", lambda *_, **__: block)
    for fields in ({"service_account_key": f"file:{key_file}"}, {"credentials": "gcp-credentials/prod"}):
        found = GcsStore(bucket="backups", **fields)._credentials
        assert isinstance(found, service_account.Credentials)
        assert found.service_account_email == "backup@acme.iam.gserviceaccount.com"
    secret = json.loads(key_file.read_text())["private_key"]
    assert secret not in redact(f"leaked {secret}")


@impatiently
def test_an_account_whose_token_cannot_be_had_is_told_without_the_key(key_file: Path) -> None:
    store = GcsStore(bucket="backups", service_account_key=f"file:{key_file}")
    for _, use in USES:
        with pytest.raises(StoreUnreachable, match="no answer") as caught:
            use(store)
        assert "PRIVATE KEY" not in "".join(traceback.format_exception(caught.value))


def test_the_hosts_own_account_is_used_when_nothing_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise imported("google.auth.exceptions", "gcp").DefaultCredentialsError("long text")

    monkeypatch.setattr(google.auth, "default", refuse)
    with pytest.raises(StoreForbidden, match="no credentials") as caught:
        GcsStore(bucket="backups").put("key", [b"x"])
    assert "service account" in caught.value.hint


def test_a_key_that_is_none_is_refused_without_being_shown(tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text('{"private_key": "the-secret-itself"}')
    store = GcsStore(bucket="backups", service_account_key=f"file:{tmp_path / 'key.json'}")
    with pytest.raises(ConfigurationError, match="is not one") as caught:
        store.put("key", [b"x"])
    assert "the-secret-itself" not in "".join(traceback.format_exception(caught.value))
    assert "the-secret-itself" not in repr(GcsStore(bucket="b", service_account_key="the-secret-itself"))


def test_a_missing_extra_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(extras, "import_module", refuse)
    with pytest.raises(ConfigurationError) as caught:
        GcsStore(bucket="backups").put("key", [b"x"])
    assert caught.value.hint == "pip install 'pgsalvo[gcp]'"


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        (401, "authError", StoreForbidden),
        (403, "forbidden", StoreForbidden),
        (403, "accountDisabled", StoreForbidden),
        (403, "retentionPolicyNotMet", StoreForbidden),
        (403, "rateLimitExceeded", StoreUnreachable),
        (403, "quotaExceeded", StoreFull),
        (429, "", StoreUnreachable),
        (503, "backendError", StoreUnreachable),
        (412, "conditionNotMet", ObjectExists),
        (400, "invalid", StoreError),
    ],
)
@impatiently
def test_every_refusal_means_the_same_whoever_met_it(
    scripted_store: GcsStore, script: ScriptedS3, status: int, reason: str, expected: type[StoreError]
) -> None:
    body = json.dumps({"error": {"message": "private words", "errors": [{"reason": reason}]}}).encode()
    answer = Answer(status, body=body, headers={"Content-Type": "application/json"})
    script.answers = {"GET": [answer], "POST": [answer]}
    uses: list[Callable[[], object]] = [
        lambda: scripted_store.stat("key"),
        lambda: list(scripted_store.list()),
        lambda: scripted_store.put("key", [b"x"]),
    ]
    for use in uses:
        with pytest.raises(expected) as caught:
            use()
        assert type(caught.value) is expected
        assert "private words" not in "".join(traceback.format_exception(caught.value))


def test_a_reason_that_is_no_word_is_not_repeated() -> None:
    answer = httpx.Response(403, json={"error": {"errors": [{"reason": "https://x/?upload_id=secret"}]}})
    assert "secret" not in str(gcs_errors.answered(answer, "cannot write key"))


def _made(body: bytes) -> Answer:
    return Answer(body=json.dumps({"crc32c": _crc32c(body)}).encode())


def _crc32c(body: bytes) -> str:
    return gcs_upload.written(imported("google_crc32c", "gcp").Checksum(body))
