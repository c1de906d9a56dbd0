import pytest
from prefect.blocks.core import Block
from prefect.testing.standard_test_suites.blocks import BlockStandardTestSuite

from blocks.stores import (
    AzureStore,
    GcsStore,
    LocalStore,
    RcloneStore,
    RsyncStore,
    S3Store,
    SftpStore,
    SmbStore,
)
from blocks.stores.memory import MemoryStore


@pytest.mark.parametrize(
    "block",
    [AzureStore, GcsStore, LocalStore, RcloneStore, RsyncStore, S3Store, SftpStore, SmbStore, MemoryStore],
)
class TestStores(BlockStandardTestSuite):
    @pytest.fixture
    def block(self, request: pytest.FixtureRequest) -> type[Block]:
        return request.param  # type: ignore[no-any-return]

    def test_has_a_valid_image(self, block: type[Block]) -> None:
        """A logo would be fetched from a network by every browser that shows the block."""
        assert block._logo_url is None

    def test_is_called_by_its_class(self, block: type[Block]) -> None:
        assert block.get_block_type_name() == block.__name__
        assert block.get_block_type_slug() == block.__name__.removesuffix("Store").lower() + "-store"
