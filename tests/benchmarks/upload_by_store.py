"""Uploads `$FILE` by `S3Store` and prints the seconds it took.

`python -m tests.benchmarks.upload_by_store pipe` or `spool`; `make bench` runs it.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from blocks.spool import CHUNK_BYTES, Chain, SpoolDirectory
from blocks.spool_segments import Spool, SpoolStream
from blocks.stores import S3Store
from blocks.stores.pace import paced


def through_spool(store: S3Store, key: str, file: Path) -> None:
    """Upload what another thread writes into a spool beside the file meanwhile, as a backup does."""
    with SpoolDirectory(file.parent, "spool") as directory, ThreadPoolExecutor() as pool:
        stream = Spool(directory.path).file(file.name)
        reader = stream.reader(store.name, lambda _: None)
        written = pool.submit(_write, stream, file)
        store.put(key, paced(store, reader.read()), expected_bytes=file.stat().st_size)
        written.result()


def _write(stream: SpoolStream, file: Path) -> None:
    with Chain().link(stream.abort):
        for chunk in piped(file):
            stream.write(chunk)
        stream.commit()


def piped(file: Path) -> Iterator[bytes]:
    """Yield what another process writes, which does not tell how much it will be."""
    with subprocess.Popen(("cat", file), stdout=subprocess.PIPE) as process:
        assert process.stdout
        while chunk := process.stdout.read(CHUNK_BYTES):
            yield chunk


def main() -> None:
    store = S3Store(bucket=os.environ["BUCKET"], endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    key, file = os.environ["KEY"], Path(os.environ["FILE"])
    began = time.monotonic()
    if sys.argv[1] == "spool":
        through_spool(store, key, file)
    else:
        store.put(key, piped(file))
    print(time.monotonic() - began)


if __name__ == "__main__":
    main()
