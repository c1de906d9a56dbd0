"""How much of a stored archive is read back once it is stored, and what may be said of it afterwards.

Reading back costs money where a store counts what leaves it. The less is read, the less is known: only what
was read whole is called read back and re-hashed. Pure: whoever calls brings chance along.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

ReadBack = Literal["always", "sample", "parts"]

BLOCK_BYTES = 16 << 20
FEWEST_BLOCKS = 8
ONE_IN = 20
_DIGEST_BYTES = 32
_WEAKEST_LAST: tuple[ReadBack, ...] = ("always", "sample", "parts")


@dataclass(frozen=True)
class BlockHashes:
    """What was hashed of a stream: the whole, and each block of 16 MiB, the last of which may be shorter."""

    size_bytes: int
    sha256: str
    digests: bytes

    @property
    def count(self) -> int:
        return len(self.digests) // _DIGEST_BYTES

    def of(self, blocks: range) -> bytes:
        """Return the digests of some blocks in a row."""
        return self.digests[blocks.start * _DIGEST_BYTES : blocks.stop * _DIGEST_BYTES]


class BlockHasher:
    """Hashes a stream, whole and by blocks; 32 bytes are kept of each block, 2 MiB for a TiB."""

    def __init__(self) -> None:
        self._whole, self._block = hashlib.sha256(), hashlib.sha256()
        self._size_bytes, self._room = 0, BLOCK_BYTES
        self._digests = bytearray()

    def update(self, chunk: bytes) -> None:
        self._whole.update(chunk)
        self._size_bytes += len(chunk)
        view = memoryview(chunk)
        while view:
            piece, view = view[: self._room], view[self._room :]
            self._block.update(piece)
            self._room -= len(piece)
            if not self._room:
                self._end_block()

    def finish(self) -> BlockHashes:
        if self._room < BLOCK_BYTES:
            self._end_block()
        return BlockHashes(self._size_bytes, self._whole.hexdigest(), bytes(self._digests))

    def _end_block(self) -> None:
        self._digests += self._block.digest()
        self._block, self._room = hashlib.sha256(), BLOCK_BYTES


def sampled(count: int, choose: Callable[[Sequence[int], int], list[int]]) -> list[range]:
    """Return which of an archive's blocks to read back, in runs: one in 20, at least 8, and always the last.

    An archive of at most 8 blocks, which are 128 MiB, is read whole.

    Args:
        choose: Picks so many of the blocks at random, none twice.
    """
    if count <= FEWEST_BLOCKS:
        return [range(count)] if count else []
    wanted = max(FEWEST_BLOCKS, -(-count // ONE_IN))
    return _runs(sorted([*choose(range(count - 1), wanted - 1), count - 1]))


def _runs(blocks: Iterable[int]) -> list[range]:
    found: list[range] = []
    for block in blocks:
        if found and found[-1].stop == block:
            found[-1] = range(found[-1].start, block + 1)
        else:
            found.append(range(block, block + 1))
    return found


@dataclass(frozen=True)
class Checked:
    """How one stored archive was checked.

    Args:
        way: What was done, which may be more than the plan asked for; `warning` then says why.
        read: How many of its blocks were read back; both are 0 where nothing was counted in blocks.
    """

    way: ReadBack
    seconds: float = 0.0
    blocks: int = 0
    read: int = 0
    warning: str = ""

    @property
    def is_rehashed(self) -> bool:
        """True if every byte of it was read back."""
        return self.way == "always" or (self.way == "sample" and self.read == self.blocks)


def weakest(ways: Iterable[ReadBack]) -> ReadBack:
    """Return the way that says least of all that were taken."""
    return max(ways, key=_WEAKEST_LAST.index, default="always")


def told_of(checks: Iterable[Checked]) -> str:
    """Return how the archives of one destination were checked, for a person."""
    return "; ".join(_told(list(checks)))


def _told(checks: list[Checked]) -> Iterator[str]:
    ways = {check.way for check in checks}
    if "always" in ways:
        yield ("" if len(ways) == 1 else "some archives were ") + "read back and re-hashed"
    if "sample" in ways:
        sampled_ones = [check for check in checks if check.way == "sample"]
        read, blocks = sum(each.read for each in sampled_ones), sum(each.blocks for each in sampled_ones)
        yield f"a sample of {read} of {blocks} blocks was re-hashed"
    if "parts" in ways:
        yield "each part was checked by the store, nothing was read back"
