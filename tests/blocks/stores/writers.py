"""A process of its own that writes to a store, to be killed in the middle.

It is forked from one that has imported the stores: an import takes longer than what a test does with it.
"""

import multiprocessing
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection

from blocks.stores import Store

MIB = 1 << 20
forks = multiprocessing.get_context("forkserver")
forks.set_forkserver_preload([__name__])


def kill_half_way(store: Store, key: str) -> None:
    """Kill a process that has handed 3 MiB of an object to the store and waits before it hands on more."""
    ours, theirs = forks.Pipe(duplex=False)
    fields = store.model_dump_json(context={"include_secrets": True})
    writer = forks.Process(target=_write, args=(type(store), fields, key, theirs))
    writer.start()
    theirs.close()
    try:
        assert ours.recv() == "half-way"
    finally:
        writer.kill()
        writer.join()


def _write(kind: type[Store], fields: str, key: str, half_way: Connection) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(3):
            yield bytes(MIB)
        half_way.send("half-way")
        time.sleep(60)

    kind.model_validate_json(fields).put(key, chunks())
