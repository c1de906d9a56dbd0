"""Programs that use a store in a process of their own: to be killed, or to have their memory measured."""

import resource
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path

from blocks.stores import Store
from tests.blocks.stores.writers import forks

ROOT = Path(__file__).parents[3]
MIB = 1 << 20
_OPEN = """
import sys
from importlib import import_module
module, name = sys.argv[1].rsplit(".", 1)
store = getattr(import_module(module), name).model_validate_json(sys.stdin.readline())
"""
_ENDLESS = """
import time
def source():
    for number in range(1 << 20):
        if number == 40:
            time.sleep(1)  # some of it has arrived
            print("begun", flush=True)
        if number > 40:
            time.sleep(0.1)
        yield bytes(1 << 20)
store.put("killed", source(), expected_bytes=1)
"""


def memory_mib(store: Store, size_mib: int = 256) -> int:
    """Return by how many MiB a process grows that writes so many, untold beforehand, and reads them."""
    ours, theirs = forks.Pipe(duplex=False)
    fields = store.model_dump_json(context={"include_secrets": True})
    process = forks.Process(target=_grow, args=(type(store), fields, size_mib, theirs))
    process.start()
    theirs.close()
    try:
        return int(ours.recv())
    finally:
        process.join()


def _grow(kind: type[Store], fields: str, size_mib: int, told: Connection) -> None:
    store = kind.model_validate_json(fields)
    store.put("warm", [bytes(MIB)])
    before = _peak_kib()
    size_bytes = store.put("large", (b"x" * MIB for _ in range(size_mib)))
    assert size_bytes == sum(len(chunk) for chunk in store.get("large")) == size_mib * MIB
    told.send((_peak_kib() - before) >> 10)


def _peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def kill_in_a_put(store: Store) -> None:
    """Kill a process that has written 40 MiB of the object `killed` and goes on writing."""
    process = _start(_ENDLESS, store)
    assert process.stdout
    said = process.stdout.readline()
    process.kill()
    _, failed = process.communicate(timeout=30)
    assert said == "begun\n", failed


def _start(script: str, store: Store) -> "subprocess.Popen[str]":
    """Start a script, with the store's fields on its standard input, secrets in the clear."""
    kind = f"{type(store).__module__}.{type(store).__name__}"
    process = subprocess.Popen(
        (sys.executable, "-c", _OPEN + script, kind),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert process.stdin
    process.stdin.write(store.model_dump_json(context={"include_secrets": True}) + "\n")
    process.stdin.flush()
    return process
