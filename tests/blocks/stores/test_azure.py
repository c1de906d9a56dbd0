"""What only Azure has: blocks, tiers, names, conditions, several kinds of credentials."""

import math
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import obstore
import pytest
from azure.core.credentials import AccessToken
from azure.storage.blob import (
    AccountSasPermissions,
    ContainerSasPermissions,
    ResourceTypes,
    generate_account_sas,
    generate_container_sas,
)
from prefect.blocks.core import Block
from prefect_azure import AzureBlobStorageCredentials
from pydantic import SecretStr, ValidationError

from blocks.errors import ConfigurationError, ObjectExists, ObjectMissing, StoreError, StoreForbidden
from blocks.references import redact
from blocks.stores import AzureStore, azure_access, azure_blocks, azure_writing, extras, upload_parts
from blocks.stores.azure_blocks import PLANNED_BLOCKS, blocks_for
from blocks.stores.azure_names import blob_name, key_of, name_prefix
from blocks.stores.upload_parts import MEMORY_BYTES
from tests.blocks.stores.probes import kill_in_a_put
from tests.servers.azure import ACCOUNT_KEY, ACCOUNT_NAME, AzureServer
from tests.servers.processes import eventually
from tests.servers.s3 import BrokenLine
from tests.servers.s3_script import Answer, ScriptedS3, scripted_s3

MIB = 1 << 20
GIB = 1 << 30
NO_KEY = {"account_key": ""}


@pytest.fixture
def script() -> Iterator[ScriptedS3]:
    with scripted_s3() as script:
        yield script


@pytest.mark.parametrize(
    ("expected_bytes", "block_mib", "at_once"),
    [
        pytest.param(0, 16, 4, id="nothing"),
        pytest.param(None, 32, 3, id="unknown"),
        pytest.param(703 * GIB, 16, 4, id="the-largest-of-smallest-blocks"),
        pytest.param(704 * GIB, 17, 4, id="just-larger"),
        pytest.param(5000 * GIB, 114, 1, id="large"),
    ],
)
def test_blocks_grow_with_the_expected_size(expected_bytes: int | None, block_mib: int, at_once: int) -> None:
    blocks = blocks_for(expected_bytes)
    assert (blocks.size_bytes, blocks.at_once) == (block_mib * MIB, at_once)
    assert blocks.size_bytes * PLANNED_BLOCKS >= (expected_bytes or 0)
    assert blocks.in_flight_bytes <= max(MEMORY_BYTES, 2 * blocks.size_bytes)


def test_an_upload_that_outgrows_its_blocks_says_so_and_leaves_nothing(
    azure_store: AzureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_parts, "SMALLEST_PART_BYTES", MIB)
    monkeypatch.setattr(azure_writing, "MOST_BLOCKS", 3)
    with pytest.raises(StoreError, match="more than 3 blocks of 1 MiB"):
        azure_store.put("key", [bytes(MIB)] * 4, expected_bytes=1)
    assert list(azure_store.list()) == []
    assert list(azure_store.pending()) == []


def test_what_a_kill_leaves_is_no_object_and_can_be_cleared(
    azure_store: AzureStore,
) -> None:
    kill_in_a_put(azure_store)
    assert list(azure_store.list()) == []
    (left,) = azure_store.pending()
    assert left.key == "killed"
    azure_store.abort_pending(left)
    assert list(azure_store.pending()) == []
    assert list(azure_store.list()) == []


def test_a_source_that_breaks_after_blocks_have_arrived_leaves_none(
    azure_store: AzureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def source() -> Iterator[bytes]:
        yield bytes(2 * MIB)
        eventually(lambda: list(azure_store.pending()), "a block arrives")
        raise KeyError("the first cause")

    monkeypatch.setattr(upload_parts, "SMALLEST_PART_BYTES", MIB)
    with pytest.raises(KeyError, match="the first cause"):
        azure_store.put("key", source(), expected_bytes=1)
    assert list(azure_store.pending()) == []
    assert list(azure_store.list()) == []


def test_clearing_an_upload_spares_an_object_that_came_meanwhile(
    azure_server: AzureServer, azure_store: AzureStore
) -> None:
    azure_server.client.get_blob_client(azure_store.container, "some/folder/key").stage_block("0" * 20, b"x")
    (left,) = azure_store.pending()
    azure_store.put("key", [b"whole"])
    azure_store.abort_pending(left)
    assert azure_store.read("key") == b"whole"


def test_blocks_are_left_where_what_replaces_them_could_not_be_deleted(
    azure_server: AzureServer, azure_store: AzureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    azure_server.client.get_blob_client(azure_store.container, "some/folder/key").stage_block("0" * 20, b"x")
    (left,) = azure_store.pending()
    with monkeypatch.context() as patch:
        patch.setattr(azure_blocks, "_keeps_all", lambda *_: True)
        azure_store.abort_pending(left)
    assert list(azure_store.pending()) == [left]
    writer = _store_of_sas(azure_server, azure_store.container, AccountSasPermissions(True, True, list=True))
    writer.abort_pending(left)
    assert list(azure_store.pending()) == [left]
    assert list(azure_store.list()) == []


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("shop/20260128T020000Z-4f9c2a/main-1-of-4.dump.zst.gpg",) * 2,
        ("back\\slash", "back%5Cslash"),
        ("dots./a..", "dots%2E/a%2E%2E"),
        ("50%", "50%25"),
        ("%5C", "%255C"),
        ("a.b/.c", "a.b/.c"),
    ],
)
def test_only_what_azure_would_change_is_written_otherwise(key: str, name: str) -> None:
    assert blob_name(key) == name
    assert key_of(name) == key
    for end in range(len(key)):
        assert name.startswith(name_prefix(key[:end]))


def test_what_azure_would_change_is_found_by_every_beginning(azure_store: AzureStore) -> None:
    key = "a\\b./c.."
    azure_store.put(key, [b"x"])
    for end in range(len(key) + 1):
        assert [stored.key for stored in azure_store.list(key[:end])] == [key]
    assert list(azure_store.list("a\\b./c...")) == list(azure_store.list("a/")) == []


def test_the_access_tier_is_the_archives_alone(azure_server: AzureServer, azure_container: str) -> None:
    store = azure_server.store(azure_container, access_tier="Cool")
    store.put("small", [b"x"])
    store.put("large", [bytes(MIB)] * 20, expected_bytes=20 * MIB)
    store.create("manifest.json", b"{}")
    blobs = azure_server.client.get_container_client(azure_container).list_blobs()
    assert {blob.name: blob.blob_tier for blob in blobs} == {
        "small": "Cool", "large": "Cool", "manifest.json": "Hot"
    }  # fmt: skip


def test_an_archived_object_is_told_with_the_way_out(
    azure_server: AzureServer, azure_store: AzureStore
) -> None:
    azure_store.put("key", [b"x"])
    blob = azure_server.client.get_blob_client(azure_store.container, "some/folder/key")
    blob.set_standard_blob_tier("Archive")
    with pytest.raises(StoreError, match="archive tier") as caught:
        azure_store.get("key")
    assert "rehydrate" in caught.value.hint


def test_directories_of_a_hierarchical_account_are_no_objects(
    azure_server: AzureServer, azure_store: AzureStore
) -> None:
    folder = azure_server.client.get_blob_client(azure_store.container, "some/folder/shop")
    folder.upload_blob(b"", metadata={"hdi_isfolder": "true"})
    azure_store.put("shop/main", [b"x"])
    assert [stored.key for stored in azure_store.list()] == ["shop/main"]
    assert not azure_store.exists("shop")


def test_a_blob_with_snapshots_is_deleted(azure_server: AzureServer, azure_store: AzureStore) -> None:
    azure_store.put("key", [b"x"])
    azure_server.client.get_blob_client(azure_store.container, "some/folder/key").create_snapshot()
    azure_store.delete("key")
    assert list(azure_store.list()) == []


@pytest.mark.parametrize(
    ("endpoint_url", "location", "on_this_host"),
    [
        ("", "azure://shopbackups/pg/prod", False),
        ("https://shopbackups.blob.core.chinacloudapi.cn/",
         "azure://shopbackups/pg/prod at shopbackups.blob.core.chinacloudapi.cn", False),
        ("http://127.0.0.1:10000/shopbackups", "azure://shopbackups/pg/prod at 127.0.0.1:10000", True),
        ("http://localhost:10000/shopbackups", "azure://shopbackups/pg/prod at localhost:10000", True),
    ],
)  # fmt: skip
def test_a_store_knows_where_it_lies(endpoint_url: str, location: str, on_this_host: bool) -> None:
    store = AzureStore(account_name="shopbackups", container="pg", prefix="/prod/", endpoint_url=endpoint_url)
    assert (store.location, store.on_this_host) == (location, on_this_host)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"access_tier": "Archive"}, "cannot be verified or restored for hours"),
        ({"account_name": "Shop_Backups"}, "should match pattern"),
        ({"container": ""}, "at least 1 character"),
        ({"prefix": "../other"}, "must be a folder"),
        ({"endpoint_url": "ftp://shop"}, "must be http"),
        ({"endpoint_url": "https://shop.blob.core.windows.net/?sv=1&sig=x"}, "must end with the account"),
        ({"account_key": "env:A", "sas_token": "env:B"}, "only one of"),
        ({"credentials": "azure-blob-storage-credentials/a", "connection_string": "env:B"}, "only one of"),
        ({"timeout_seconds": 0}, "greater than 0"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_what_cannot_work_is_refused_when_it_is_configured(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        AzureStore(**({"account_name": "shopbackups", "container": "pg"} | fields))


def test_a_token_is_not_sent_in_clear() -> None:
    store = AzureStore(
        account_name="shop", container="pg", sas_token="sv=1&sig=x", endpoint_url="http://shop.example/shop"
    )
    with pytest.raises(ConfigurationError, match="not sent over http://"):
        store.stat("key")


def test_the_access_does_not_show_its_credentials(azure_store: AzureStore) -> None:
    assert "account_key" not in repr(azure_store._access)


def test_create_asks_the_server_to_refuse_what_came_meanwhile(
    azure_server: AzureServer, azure_store: AzureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = azure_server.client.get_blob_client(azure_store.container, "some/folder/manifest.json")
    looked = azure_store.refuse_other_bytes

    def look_and_lose(key: str, body: bytes) -> bool:
        found = looked(key, body)
        if not found:
            blob.upload_blob(theirs, overwrite=True)
        return found

    monkeypatch.setattr(AzureStore, "refuse_other_bytes", lambda _, *given: look_and_lose(*given))
    theirs = b"ours"
    azure_store.create("manifest.json", b"ours")
    blob.delete_blob()
    theirs = b"theirs"
    with pytest.raises(ObjectExists):
        azure_store.create("manifest.json", b"ours")
    assert azure_store.read("manifest.json") == b"theirs"


def test_a_missing_container_is_told_from_a_missing_object(
    azure_server: AzureServer, azure_store: AzureStore
) -> None:
    elsewhere = azure_server.store("no-such-container")
    uses: list[Callable[[AzureStore], object]] = [
        lambda store: store.put("key", [b"x"]),
        lambda store: store.create("key", b"x"),
        lambda store: store.get("key"),
        lambda store: store.stat("key"),
        lambda store: list(store.list()),
        lambda store: store.delete("key"),
        lambda store: list(store.pending()),
    ]
    for use in uses:
        with pytest.raises(StoreError, match="there is no such container") as caught:
            use(elsewhere)
        assert type(caught.value) is StoreError
    with pytest.raises(ObjectMissing):
        azure_store.stat("key")


def test_the_servers_clock_counts_not_ours(script: ScriptedS3) -> None:
    store = AzureStore(
        account_name="shop",
        container="pg",
        endpoint_url=f"{script.endpoint_url}/shop",
        account_key=ACCOUNT_KEY,
    )
    told = {"Date": "Sun, 04 Mar 2001 05:06:07 GMT"}
    for answer in (Answer(headers=told), Answer(403, "AuthorizationPermissionMismatch", headers=told)):
        script.answers = {"GET": [answer]}
        assert store.now() == datetime(2001, 3, 4, 5, 6, 7, tzinfo=UTC)


def test_a_part_of_an_object_is_read(azure_store: AzureStore) -> None:
    azure_store.put("key", [bytes(range(100))])
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
        assert b"".join(azure_store.get("key", start=start, end=end)) == bytes(range(100))[start:end]
    with pytest.raises(ObjectMissing):
        azure_store.get("missing", start=5)


def test_the_accounts_connection_string_and_block_give_access(
    azure_server: AzureServer, azure_container: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_CONNECTION", azure_server.connection_string)
    block = AzureBlobStorageCredentials(connection_string=SecretStr(azure_server.connection_string))
    monkeypatch.setattr(Block, "load", lambda *_, **__: block)
    for number, fields in enumerate(
        (
            {"connection_string": "env:AZURE_CONNECTION"},
            {"credentials": "azure-blob-storage-credentials/prod"},
        )
    ):
        store = azure_server.store(azure_container, **(NO_KEY | fields))
        store.put(f"key-{number}", [b"x"])
        assert store.read(f"key-{number}") == b"x"
    assert ACCOUNT_KEY not in redact(f"leaked {ACCOUNT_KEY} of {azure_server.connection_string}")


def test_a_container_s_sas_token_is_enough(azure_server: AzureServer, azure_container: str) -> None:
    token = generate_container_sas(
        ACCOUNT_NAME,
        azure_container,
        account_key=ACCOUNT_KEY,
        permission=ContainerSasPermissions(read=True, write=True, delete=True, list=True),
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )
    store = azure_server.store(azure_container, sas_token=f"?{token}", **NO_KEY)
    store.put("large", [bytes(MIB)] * 20, expected_bytes=1)
    store.create("small", b"x")
    assert [stored.key for stored in store.list()] == ["large", "small"]
    assert store.read("small") == b"x"
    assert store.locked_until("large") is None
    store.delete("large")
    assert abs(store.now() - datetime.now(UTC)) < timedelta(seconds=3)


def test_what_a_sas_token_does_not_allow_is_told_without_it(
    azure_server: AzureServer, azure_container: str
) -> None:
    azure_server.store(azure_container).put("key", [b"x"])
    reader = _store_of_sas(azure_server, azure_container, AccountSasPermissions(read=True))
    token = reader.sas_token.get_secret_value()
    uses: list[Callable[[], object]] = [
        lambda: reader.put("new", [b"x"]),
        lambda: reader.delete("key"),
        lambda: list(reader.list()),
    ]
    for use in uses:
        with pytest.raises(StoreForbidden) as caught:
            use()
        assert "allow reading, listing, writing and deleting" in caught.value.hint
        assert "sig=" not in str(caught.value)
    assert reader.read("key") == b"x"
    assert token.rpartition("sig=")[2] not in redact(f"leaked {token}")


def test_an_identitys_token_is_sent_and_renewed(script: ScriptedS3) -> None:
    class Identity:
        asked: list[str] = []  # noqa: RUF012

        def get_token(self, scope: str) -> AccessToken:
            self.asked.append(scope)
            return AccessToken(f"token-{len(self.asked)}", math.floor(datetime.now(UTC).timestamp()) + 60)

    access = azure_access._token_access(Identity(), f"{script.endpoint_url}/shop")
    client = azure_access.moving_client(access, "shop", "pg", 5)
    script.answers = {
        "GET": [Answer(headers={"ETag": "x", "Last-Modified": "Sun, 04 Mar 2001 05:06:07 GMT"})]
    }
    for _ in range(2):
        obstore.get(client, "key")
        # obstore keeps what it got for a tenth of a second
        time.sleep(0.15)
    sent = [{name.lower(): text for name, text in request.headers.items()} for request in script.requests]
    assert [request["authorization"] for request in sent] == ["Bearer token-1", "Bearer token-2"]
    assert set(Identity.asked) == {"https://storage.azure.com/.default"}


@pytest.mark.parametrize(
    ("fields", "said", "hint"),
    [
        ({"account_key": "no base64!"}, "is not one", "base64"),
        ({"connection_string": "AccountName=other;AccountKey=eA=="}, "not of the storage account", "other"),
        ({"connection_string": "AccountName=testsaccount"}, "holds no credentials", "AccountKey"),
        ({"connection_string": "AccountKey=eA==;BlobEndpoint=http://127.0.0.1:1/testsaccount",
          "endpoint_url": ""},
         "emulator on this host", "endpoint_url"),
        ({"connection_string": "AccountKey=eA==;BlobEndpoint=https://other.blob.core.windows.net",
          "endpoint_url": ""}, "not of the storage account", "account_name"),
        ({"sas_token": "env:NOT_SET_ANYWHERE"}, "NOT_SET_ANYWHERE is not set", "set NOT_SET_ANYWHERE"),
    ],
)  # fmt: skip
def test_credentials_of_something_else_are_refused(
    azure_server: AzureServer, fields: dict[str, str], said: str, hint: str
) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        list(azure_server.store("pg", **(NO_KEY | fields)).list())
    assert hint in caught.value.hint


def test_a_connection_string_tells_the_address_of_a_national_cloud() -> None:
    text = (
        "DefaultEndpointsProtocol=https;AccountName=shop;AccountKey=eA==;EndpointSuffix=core.chinacloudapi.cn"
    )
    access = azure_access.connection_string_access(text, "shop", "")
    assert access.endpoint_url == "https://shop.blob.core.chinacloudapi.cn"


def test_a_missing_extra_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(extras, "import_module", refuse)
    with pytest.raises(ConfigurationError) as caught:
        AzureStore(account_name="shop", container="pg", account_key="eA==").put("key", [b"x"])
    assert caught.value.hint == "pip install 'pgsalvo[azure]'"


def test_no_secret_is_shown() -> None:
    fields = {"account_name": "shop", "container": "pg"}
    for field in ("account_key", "sas_token", "connection_string"):
        store = AzureStore(**fields, **{field: "the-secret-itself"})
        for text in (repr(store), str(store), store.model_dump_json(), store.location):
            assert "the-secret-itself" not in text


def test_the_condition_goes_over_the_line(
    azure_server: AzureServer, azure_container: str, azure_line: BrokenLine
) -> None:
    store = azure_server.store(azure_container, endpoint_url=f"{azure_line.endpoint_url}/{ACCOUNT_NAME}")
    store.create("manifest.json", b"{}")
    (asked,) = [head.lower() for head in azure_line.requests if head.startswith(b"PUT ")]
    assert b"if-none-match: *" in asked


def _store_of_sas(server: AzureServer, azure_container: str, permission: AccountSasPermissions) -> AzureStore:
    token = generate_account_sas(
        ACCOUNT_NAME,
        ACCOUNT_KEY,
        ResourceTypes(service=True, container=True, object=True),
        permission,
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )
    return server.store(
        azure_container, sas_token=token, prefix="some/folder" if permission.write else "", **NO_KEY
    )
