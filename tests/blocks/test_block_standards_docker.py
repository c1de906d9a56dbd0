"""Prefect's own standards for blocks."""

import pytest
from prefect.blocks.core import Block
from prefect.testing.standard_test_suites.blocks import BlockStandardTestSuite

from blocks.docker_client import DockerPostgresClient


class TestDockerPostgresClient(BlockStandardTestSuite):
    @pytest.fixture
    def block(self) -> type[Block]:
        return DockerPostgresClient

    def test_has_a_valid_image(self, block: type[Block]) -> None:
        """A logo would be fetched from a network by every browser that shows the block."""
        assert block._logo_url is None
