"""Uploads of one file to one S3 server, by pgsalvo's store and by what one would take without it."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from blocks.stores.rclone_access import find_program
from tests.benchmarks.measure import Cost, cost
from tests.servers.s3 import S3Server

BUCKET = "bench"
KEY = "uploaded"
MIB = 1 << 20


@dataclass(frozen=True)
class Uploads:
    """A file, a server, and those who upload it there in turn."""

    file: Path
    server: S3Server

    @property
    def contestants(self) -> dict[str, Callable[[], Cost]]:
        """Who runs in a round, in this order."""
        return {
            "rclone": lambda: self._upload(find_program(), "copyto", str(self.file), f"bench:{BUCKET}/{KEY}"),
            "boto3-file": lambda: self._timed("upload_by_boto3", "file"),
            "boto3-pipe": lambda: self._timed("upload_by_boto3", "pipe"),
            "store-pipe": lambda: self._timed("upload_by_store", "pipe"),
            "store-spool": lambda: self._timed("upload_by_store", "spool"),
        }

    def _timed(self, module: str, source: str) -> Cost:
        """Return the cost of one of our programs; its work is the seconds that it prints."""
        whole = self._upload(sys.executable, "-m", f"tests.benchmarks.{module}", source)
        return replace(whole, work_seconds=float(self._log.read_text().split()[-1]))

    def _upload(self, *argv: str) -> Cost:
        """Return the cost of a command that uploads the file, which must be there as a whole then."""
        self.server.client.delete_object(Bucket=BUCKET, Key=KEY)
        spent = cost(argv, self._environment, log=self._log)
        stored = self.server.client.head_object(Bucket=BUCKET, Key=KEY)["ContentLength"]
        assert stored == self.file.stat().st_size, f"{argv} stored {stored} bytes"
        return spent

    @property
    def _log(self) -> Path:
        return self.file.with_name("last.log")

    @property
    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "FILE": str(self.file),
            "BUCKET": BUCKET,
            "KEY": KEY,
            "AWS_ENDPOINT_URL": self.server.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.server.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.server.secret_access_key,
            "AWS_DEFAULT_REGION": self.server.region,
            "RCLONE_CONFIG": os.devnull,
            "RCLONE_CONFIG_BENCH_TYPE": "s3",
            "RCLONE_CONFIG_BENCH_PROVIDER": "Rclone",
            "RCLONE_CONFIG_BENCH_ENV_AUTH": "true",
            "RCLONE_CONFIG_BENCH_ENDPOINT": self.server.endpoint_url,
        }


@contextmanager
def uploads(server: S3Server, mebibytes: int) -> Iterator[Uploads]:
    """Make a file of random bytes, which compress as little as encrypted ones; it goes at the end."""
    with tempfile.TemporaryDirectory(prefix="pgsalvo-bench-") as directory:
        path = Path(directory) / "file"
        with path.open("wb") as file:
            for _ in range(mebibytes):
                file.write(os.urandom(MIB))
        yield Uploads(path, server)
