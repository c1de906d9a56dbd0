"""What Azure's refusals, silences and broken lines become."""

import traceback
from collections.abc import Callable
from typing import Any

import pytest

from blocks.errors import (
    ObjectExists,
    ObjectMissing,
    StoreError,
    StoreForbidden,
    StoreFull,
    StoreLocked,
    StoreUnreachable,
)
from blocks.stores import AzureStore, azure_access, upload_parts
from blocks.stores.azure_errors import store_error
from tests.servers.azure import ACCOUNT_KEY, ACCOUNT_NAME, AzureServer
from tests.servers.ports import free_port
from tests.servers.s3 import BrokenLine
from tests.servers.s3_script import Answer, scripted_s3

MIB = 1 << 20
WRONG_KEY = "d3JvbmcgYWNjb3VudCBrZXkgb2YgdGhlIHRlc3Rz"
USES: list[tuple[str, Callable[[AzureStore], object]]] = [
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
    monkeypatch.setattr(azure_access, "RETRIES", 0)
    monkeypatch.setattr(azure_access, "ASKED_AGAIN", 0)
    monkeypatch.setattr(azure_access, "SLOWEST_BYTES_PER_SECOND", 1 << 40)


@pytest.fixture
def far_store(azure_server: AzureServer, azure_container: str, azure_line: BrokenLine) -> AzureStore:
    """A store behind a line that can break."""
    return azure_server.store(
        azure_container, endpoint_url=f"{azure_line.endpoint_url}/{ACCOUNT_NAME}", timeout_seconds=30
    )


@every_use
@pytest.mark.parametrize("secret", ["account_key", "sas_token"])
def test_refused_credentials_are_told_and_shown_nowhere(
    azure_server: AzureServer, azure_container: str, secret: str, use: Callable[[AzureStore], object]
) -> None:
    wrong = WRONG_KEY if secret == "account_key" else f"sv=2024-11-04&ss=b&srt=sco&sp=rwdl&sig={WRONG_KEY}%3D"
    store = azure_server.store(azure_container, **({"account_key": ""} | {secret: wrong}))
    with pytest.raises(StoreForbidden) as caught:
        use(store)
    assert "SAS token" in caught.value.hint
    shown = "".join(traceback.format_exception(caught.value))
    for text in (WRONG_KEY, "sig=", "<Error>", "RequestId"):
        assert text not in shown


@every_use
@impatiently
def test_a_server_that_is_down_is_told_from_one_that_refuses(use: Callable[[AzureStore], object]) -> None:
    store = AzureStore(
        account_name="shop", container="pg", account_key=ACCOUNT_KEY,
        endpoint_url=f"http://127.0.0.1:{free_port()}/shop",
    )  # fmt: skip
    with pytest.raises(StoreUnreachable, match="no answer") as caught:
        use(store)
    assert "endpoint_url" in caught.value.hint
    assert caught.value.transient


def test_a_server_that_drops_packets_is_given_up_within_a_minute() -> None:
    default = AzureStore.model_fields["timeout_seconds"].default
    asked = (azure_access.ASKED_AGAIN + 1) * max(azure_access.CONNECT_SECONDS, default)
    moved = (azure_access.RETRIES + 1) * azure_access.CONNECT_SECONDS
    assert max(asked, moved) <= 40


def test_a_download_goes_on_after_a_line_that_broke_once(
    azure_server: AzureServer, azure_container: str, far_store: AzureStore, azure_line: BrokenLine
) -> None:
    body = bytes(range(256)) * 4096 * 8
    azure_server.store(azure_container).put("key", [body])
    azure_line.break_after(down_bytes=3 * MIB, once=True)
    assert far_store.read("key") == body


@impatiently
def test_a_download_that_dies_half_way_is_an_error_and_no_end(
    azure_server: AzureServer, azure_container: str, far_store: AzureStore, azure_line: BrokenLine
) -> None:
    azure_server.store(azure_container).put("key", [bytes(MIB)] * 32)
    chunks = far_store.get("key")
    next(chunks)
    azure_line.break_after(down_bytes=3 * MIB)
    received: list[bytes] = []
    with pytest.raises(StoreUnreachable, match="cannot read key"):
        received.extend(chunks)
    assert sum(map(len, received)) < 31 * MIB


def test_an_upload_goes_on_after_a_line_that_broke_once(
    far_store: AzureStore, azure_line: BrokenLine
) -> None:
    azure_line.break_after(up_bytes=20 * MIB, once=True)
    assert far_store.put("key", [bytes(MIB)] * 40, expected_bytes=40 * MIB) == 40 * MIB
    assert far_store.stat("key").size_bytes == 40 * MIB
    assert list(far_store.pending()) == []


@impatiently
def test_an_upload_that_dies_half_way_stores_nothing_and_its_rest_can_be_cleared(
    azure_server: AzureServer,
    azure_container: str,
    far_store: AzureStore,
    azure_line: BrokenLine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upload_parts, "SMALLEST_PART_BYTES", MIB)
    azure_line.break_after(up_bytes=20 * MIB)
    with pytest.raises(StoreUnreachable, match="cannot write key"):
        far_store.put("key", [bytes(MIB)] * 60, expected_bytes=1)
    direct = azure_server.store(azure_container)
    assert list(direct.list()) == []
    (left,) = direct.pending()
    direct.abort_pending(left)
    assert list(direct.pending()) == []


@impatiently
def test_a_source_that_breaks_while_the_server_is_gone_keeps_its_own_error(
    far_store: AzureStore, azure_line: BrokenLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_parts, "SMALLEST_PART_BYTES", MIB)

    def source() -> Any:
        yield bytes(2 * MIB)
        azure_line.refuse()
        raise KeyError("the first cause")

    with pytest.raises(KeyError, match="the first cause"):
        far_store.put("key", source(), expected_bytes=1)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (403, "AuthenticationFailed", StoreForbidden),
        (403, "AuthorizationPermissionMismatch", StoreForbidden),
        (409, "BlobImmutableDueToPolicy", StoreLocked),
        (409, "BlobImmutableDueToLegalHold", StoreLocked),
        (401, "", StoreForbidden),
        (503, "ServerBusy", StoreUnreachable),
        (500, "InternalError", StoreUnreachable),
        (500, "OperationTimedOut", StoreUnreachable),
        (429, "", StoreUnreachable),
        (507, "", StoreFull),
        (409, "AccountLimitExceeded", StoreFull),
        (404, "BlobNotFound", ObjectMissing),
        (404, "ContainerNotFound", StoreError),
        (409, "BlobAlreadyExists", ObjectExists),
        (412, "ConditionNotMet", ObjectExists),
        (409, "BlobArchived", StoreForbidden),
        (400, "InvalidBlockList", StoreUnreachable),
        (400, "InvalidQueryParameterValue", StoreError),
    ],
)
@impatiently
def test_both_clients_errors_mean_the_same(status: int, code: str, expected: type[StoreError]) -> None:
    with scripted_s3() as script:
        told = {"x-ms-error-code": code} if code else {}
        script.answers = {"GET": [Answer(status, code, headers=told)]}
        store = AzureStore(
            account_name="shop", container="pg", account_key=ACCOUNT_KEY,
            endpoint_url=f"{script.endpoint_url}/shop",
        )  # fmt: skip
        for use in (lambda: store.get("key"), lambda: list(store.list())):
            with pytest.raises(expected) as caught:
                use()
            assert type(caught.value) is expected
            assert "private words" not in "".join(traceback.format_exception(caught.value))


def test_an_error_of_unknown_cause_is_no_answer() -> None:
    assert isinstance(store_error(TimeoutError("secret"), "cannot write key"), StoreUnreachable)
