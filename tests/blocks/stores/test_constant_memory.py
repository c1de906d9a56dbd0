"""What moves through a store is never held in memory as a whole."""

import pytest

from blocks.stores import Store
from blocks.stores.memory import MemoryStore
from blocks.stores.upload_parts import MEMORY_BYTES
from tests.blocks.stores.conftest import KINDS
from tests.blocks.stores.probes import memory_mib

SIZE_MIB = 200
MOST_MIB = (MEMORY_BYTES >> 20) + 32


@pytest.mark.parametrize("subject", [kind for kind in KINDS if kind != "memory"], indirect=True)
def test_a_large_object_of_unknown_size_goes_both_ways_in_constant_memory(store: Store) -> None:
    assert memory_mib(store, SIZE_MIB) < MOST_MIB


def test_a_store_that_holds_all_in_memory_is_told_from_those() -> None:
    """Else the measure itself would be broken."""
    assert memory_mib(MemoryStore(), SIZE_MIB) >= SIZE_MIB > MOST_MIB
