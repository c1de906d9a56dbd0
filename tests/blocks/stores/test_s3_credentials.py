"""Where an S3 store's credentials come from, and how temporary ones are renewed."""

import asyncio
import re
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.blocks.core import Block
from prefect.blocks.system import Secret
from prefect_aws import AwsCredentials, MinIOCredentials
from prefect_aws.assume_role_parameters import AssumeRoleParameters
from pydantic import SecretStr

from blocks.errors import ConfigurationError, StoreForbidden, StoreUnreachable
from blocks.references import redact
from blocks.stores import S3Store, upload_parts
from tests.servers.s3 import BrokenLine, S3Server

MIB = 1 << 20
NO_KEYS = {"access_key_id": "", "secret_access_key": ""}


@pytest.fixture(autouse=True)
def no_credentials_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def saved_blocks(monkeypatch: pytest.MonkeyPatch) -> dict[str, Block]:
    """What Prefect's API holds, by name."""

    def load(name: str, *, _sync: bool) -> Block:
        assert _sync, "a coroutine would come back inside an event loop"
        try:
            return blocks[name]
        except KeyError:
            raise ValueError(f"Unable to find block document named {name}") from None

    blocks: dict[str, Block] = {}
    monkeypatch.setattr(Block, "load", load)
    return blocks


def test_keys_are_looked_up_where_they_lie_and_redacted(
    s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BACKUP_KEY_ID", s3_server.access_key_id)
    (tmp_path / "secret").write_text(f"{s3_server.secret_access_key}\n")
    store = s3_server.store(
        bucket, access_key_id="env:BACKUP_KEY_ID", secret_access_key=f"file:{tmp_path / 'secret'}"
    )
    store.put("key", [b"x"])
    assert store.read("key") == b"x"
    assert redact(f"leaked {s3_server.secret_access_key}") == "leaked ***"


def test_a_key_that_is_not_there_is_named(s3_server: S3Server, bucket: str) -> None:
    store = s3_server.store(bucket, access_key_id="env:NOT_SET_ANYWHERE")
    with pytest.raises(ConfigurationError, match="NOT_SET_ANYWHERE is not set"):
        store.put("key", [b"x"])


def test_the_aws_environment_is_used_when_nothing_is_given(
    s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_access_key)
    store = s3_server.store(bucket, **NO_KEYS)
    store.put("key", [b"x"])
    assert store.read("key") == b"x"


def test_no_credentials_at_all_are_told(s3_server: S3Server, bucket: str) -> None:
    store = s3_server.store(bucket, **NO_KEYS)
    with pytest.raises(StoreForbidden, match="no credentials") as caught:
        store.put("key", [b"x"])
    assert "role" in caught.value.hint
    with pytest.raises(StoreForbidden, match="no credentials"):
        store.get("key")


def test_a_role_whose_credentials_end_is_asked_again_during_an_upload(
    s3_server: S3Server, bucket: str, line: BrokenLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_parts, "SMALLEST_PART_BYTES", MIB)
    _write_expiring_role(tmp_path, s3_server)
    store = s3_server.store(bucket, endpoint_url=line.endpoint_url, **NO_KEYS)

    def source() -> Iterator[bytes]:
        for _ in range(12):
            # obstore keeps what it got for a tenth of a second
            time.sleep(0.03)
            yield bytes(MIB)

    assert store.put("key", source(), expected_bytes=1) == 12 * MIB
    parts = b"".join(head for head in line.requests if b"partNumber=" in head)
    assert len(set(re.findall(rb"x-amz-security-token: (\S+)", parts))) > 1


def test_credentials_blocks_are_loaded_by_their_name(
    s3_server: S3Server, bucket: str, saved_blocks: dict[str, Block]
) -> None:
    saved_blocks["aws-credentials/prod"] = AwsCredentials(
        aws_access_key_id=s3_server.access_key_id,
        aws_secret_access_key=SecretStr(s3_server.secret_access_key),
        region_name="eu-west-1",
    )
    saved_blocks["minio-credentials/site"] = MinIOCredentials(
        minio_root_user=s3_server.access_key_id,
        minio_root_password=SecretStr(s3_server.secret_access_key),
    )
    for number, name in enumerate(saved_blocks):
        store = s3_server.store(bucket, credentials=name, **NO_KEYS)
        store.put(f"key-{number}", [b"x"])
        assert store.read(f"key-{number}") == b"x"


def test_a_credentials_block_is_loaded_inside_an_event_loop_too(
    s3_server: S3Server, bucket: str, saved_blocks: dict[str, Block]
) -> None:
    saved_blocks["aws-credentials/prod"] = AwsCredentials(
        aws_access_key_id=s3_server.access_key_id,
        aws_secret_access_key=SecretStr(s3_server.secret_access_key),
    )

    async def put() -> int:
        return s3_server.store(bucket, credentials="aws-credentials/prod", **NO_KEYS).put("key", [b"x"])

    assert asyncio.run(put()) == 1


def test_a_credentials_block_that_is_not_there_is_named(
    s3_server: S3Server, bucket: str, saved_blocks: dict[str, Block]
) -> None:
    saved_blocks["secret/word"] = Secret[str](value=SecretStr("not-aws"))
    for name, said in (("aws-credentials/prdo", "there is no block"), ("secret/word", "no AWS credentials")):
        with pytest.raises(ConfigurationError, match=said) as caught:
            s3_server.store(bucket, credentials=name, **NO_KEYS).put("key", [b"x"])
        assert name in caught.value.message


def test_an_api_that_cannot_be_reached_is_told(
    s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: Any, **__: Any) -> Block:
        raise httpx.ConnectError("refused")

    monkeypatch.setattr(Block, "load", load)
    with pytest.raises(StoreUnreachable, match="Prefect's API"):
        s3_server.store(bucket, credentials="aws-credentials/prod", **NO_KEYS).put("key", [b"x"])


def test_a_blocks_role_is_assumed_again_before_it_ends(
    s3_server: S3Server, bucket: str, saved_blocks: dict[str, Block], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = _Sts(("127.0.0.1", 0), _StsHandler)
    server.keys = (s3_server.access_key_id, s3_server.secret_access_key)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{server.server_port}")
    saved_blocks["aws-credentials/role"] = AwsCredentials(
        aws_access_key_id="base-key",
        aws_secret_access_key=SecretStr("base-secret"),
        region_name="us-east-1",
        assume_role_arn="arn:aws:iam::123456789012:role/backup",
        # as short as AWS allows: it is to be renewed from the beginning
        assume_role_kwargs=AssumeRoleParameters(DurationSeconds=900),
    )
    try:
        store = s3_server.store(bucket, credentials="aws-credentials/role", **NO_KEYS)
        store.put("key", [b"x"])
        assumed = server.assumed
        assert store.read("key") == b"x"
        assert server.assumed > assumed > 0
    finally:
        server.shutdown()
        server.server_close()


def test_no_secret_is_shown() -> None:
    one = S3Store(bucket="b", access_key_id="id", secret_access_key=SecretStr("the-secret-key"))
    other = S3Store(bucket="b", access_key_id="id", secret_access_key=SecretStr("another-secret"))
    for text in (repr(one), str(one), one.model_dump_json(), one.location):
        assert "the-secret-key" not in text
    assert one == one.model_copy()
    assert one != other


def _write_expiring_role(directory: Path, server: S3Server) -> None:
    """Make an AWS profile whose program gives credentials that end soon, with a new token each time."""
    end = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    program = directory / "role.sh"
    keys = f'"AccessKeyId": "{server.access_key_id}", "SecretAccessKey": "{server.secret_access_key}"'
    program.write_text(
        f"""#!/bin/sh
echo asked >> {directory}/asked
token=token-$(wc -l < {directory}/asked)
echo '{{"Version": 1, {keys},' "\\"SessionToken\\": \\"$token\\", \\"Expiration\\": \\"{end}\\"}}"
"""
    )
    program.chmod(0o700)
    (directory / "config").write_text(f"[default]\ncredential_process = {program}\n")


class _Sts(ThreadingHTTPServer):
    keys: tuple[str, str]
    assumed = 0


class _StsHandler(BaseHTTPRequestHandler):
    server: _Sts

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.assumed += 1
        access_key, secret_key = self.server.keys
        end = (datetime.now(UTC) + timedelta(seconds=900)).isoformat()
        body = (
            '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>'
            f"<AccessKeyId>{access_key}</AccessKeyId><SecretAccessKey>{secret_key}</SecretAccessKey>"
            f"<SessionToken>token-{self.server.assumed}</SessionToken><Expiration>{end}</Expiration>"
            "</Credentials></AssumeRoleResult></AssumeRoleResponse>"
        ).encode()
        self.send_response_only(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return
