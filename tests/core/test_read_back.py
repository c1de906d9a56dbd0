"""Blocks and samples: what is hashed, which blocks are chosen, and what is said of it."""

import hashlib
from itertools import pairwise
from random import Random, SystemRandom

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.core import read_back
from flows.core.read_back import BlockHasher, Checked, ReadBack, sampled, told_of, weakest

SMALL_BLOCK_BYTES = 8


@pytest.fixture(scope="module", autouse=True)
def small_blocks() -> "object":
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(read_back, "BLOCK_BYTES", SMALL_BLOCK_BYTES)
        yield


@given(st.lists(st.binary(max_size=40), max_size=12))
def test_blocks_are_the_same_however_the_stream_is_cut(chunks: list[bytes]) -> None:
    hasher, body = BlockHasher(), b"".join(chunks)
    for chunk in chunks:
        hasher.update(chunk)
    found = hasher.finish()
    blocks = [body[start : start + SMALL_BLOCK_BYTES] for start in range(0, len(body), SMALL_BLOCK_BYTES)]
    assert (found.size_bytes, found.sha256) == (len(body), hashlib.sha256(body).hexdigest())
    assert found.digests == b"".join(hashlib.sha256(block).digest() for block in blocks)
    assert found.count == len(blocks)


@given(st.integers(0, 5000), st.randoms())
def test_a_sample_has_the_last_block_and_enough_others_each_once(count: int, random: Random) -> None:
    runs = sampled(count, random.sample)
    blocks = [block for run in runs for block in run]
    assert blocks == sorted(set(blocks))
    assert len(blocks) == (count if count <= 8 else max(8, -(-count // 20)))
    assert blocks[-1:] == ([count - 1] if count else [])
    assert all(one.stop < other.start for one, other in pairwise(runs))


def test_every_block_may_be_chosen() -> None:
    choose = SystemRandom().sample
    chosen = {block for _ in range(200) for run in sampled(40, choose) for block in run}
    assert chosen == set(range(40))


@pytest.mark.parametrize(
    ("ways", "expected"),
    [
        pytest.param(["always", "sample"], "sample", id="sample"),
        pytest.param(["parts", "always"], "parts", id="parts"),
        pytest.param(["always"], "always", id="always"),
        pytest.param([], "always", id="nothing-to-check"),
    ],
)
def test_the_weakest_way_counts(ways: list[ReadBack], expected: ReadBack) -> None:
    assert weakest(ways) == expected


@pytest.mark.parametrize(
    ("checks", "expected"),
    [
        pytest.param([Checked("always"), Checked("always")], "read back and re-hashed", id="always"),
        pytest.param(
            [Checked("sample", blocks=100, read=8), Checked("sample", blocks=1, read=1)],
            "a sample of 9 of 101 blocks was re-hashed",
            id="sample",
        ),
        pytest.param(
            [Checked("parts", blocks=100)],
            "each part was checked by the store, nothing was read back",
            id="parts",
        ),
        pytest.param(
            [Checked("parts", blocks=100), Checked("always")],
            "some archives were read back and re-hashed; "
            "each part was checked by the store, nothing was read back",
            id="mixed",
        ),
    ],
)
def test_what_was_done_is_said_and_no_more(checks: list[Checked], expected: str) -> None:
    assert told_of(checks) == expected


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        (Checked("always"), True),
        (Checked("sample", blocks=3, read=3), True),
        (Checked("sample", blocks=9, read=8), False),
        (Checked("parts", blocks=3), False),
    ],
)
def test_only_what_was_read_whole_is_rehashed(check: Checked, expected: bool) -> None:
    assert check.is_rehashed is expected
