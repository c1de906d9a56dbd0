"""Programs that use a store in a process of their own: to be killed, or to have their memory measured."""

import subprocess
import sys
from pathlib import Path

from blocks.stores import Store

ROOT = Path(__file__).parents[3]
MIB = 1 << 20
_OPEN = """
import resource, sys
from importlib import import_module
module, name = sys.argv[1].rsplit(".", 1)
store = getattr(import_module(module), name).model_validate_json(sys.stdin.readline())
"""
_MEMORY = """
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
store.put("warm", [bytes(1 << 20)])
before = peak()
size = store.put("large", (b"x" * (1 << 20) for _ in range(256)), expected_bytes=256 << 20)
for chunk in store.get("large"):
    size -= len(chunk)
assert size == 0
print((peak() - before) >> 10)
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


def memory_mib(store: Store) -> int:
    """Return by how much a process grows that writes and reads 256 MiB."""
    process = _start(_MEMORY, store)
    said, failed = process.communicate(timeout=120)
    assert process.returncode == 0, failed
    return int(said)


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
