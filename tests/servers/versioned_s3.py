"""What tests ask of an S3 server that has versioning and enforces Object Lock, whichever it is."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import boto3

from blocks.stores import S3Store

KEYS = ("tests-key-id", "tests-secret-access-key")
REGION = "us-east-1"


@dataclass
class VersionedS3:
    """A server on this host."""

    port: int

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @cached_property
    def client(self) -> Any:
        """Return a boto3 client with all rights."""
        return boto3.Session(*KEYS, region_name=REGION).client("s3", endpoint_url=self.endpoint_url)

    def make_bucket(self, name: str, *, versions: bool = False, lock: bool = False) -> str:
        """Create a bucket, with versioning or with Object Lock and versioning; return its name."""
        self.client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=lock)
        if versions:
            enabled = {"Status": "Enabled"}
            self.client.put_bucket_versioning(Bucket=name, VersioningConfiguration=enabled)
        return name

    def versions(self, bucket: str) -> list[str]:
        """Return the key of every version and every delete marker that a bucket keeps."""
        found = self.client.list_object_versions(Bucket=bucket)
        return sorted(each["Key"] for kind in ("Versions", "DeleteMarkers") for each in found.get(kind, ()))

    def let_locks_end(self, bucket: str) -> None:
        """End every lock of a bucket, as somebody with the right to it may; its clock tells seconds only."""
        until = datetime.now(UTC) + timedelta(seconds=1)
        for key in self.versions(bucket):
            self.client.put_object_retention(
                Bucket=bucket,
                Key=key,
                Retention={"Mode": "GOVERNANCE", "RetainUntilDate": until},
                BypassGovernanceRetention=True,
            )
        time.sleep(max(0.0, (until - datetime.now(UTC)).total_seconds()) + 1.1)

    def store(self, bucket: str, **fields: Any) -> S3Store:
        """Return a store on this server; `fields` are the block's, and replace those given here."""
        given = {"endpoint_url": self.endpoint_url, "access_key_id": KEYS[0], "secret_access_key": KEYS[1]}
        return S3Store(bucket=bucket, **(given | fields))
