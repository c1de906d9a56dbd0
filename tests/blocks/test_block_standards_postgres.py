"""Prefect's own standards for blocks."""

import pytest
from prefect.blocks.core import Block
from prefect.testing.standard_test_suites import BlockStandardTestSuite

from blocks.postgres import PostgresDatabase


class TestPostgresDatabase(BlockStandardTestSuite):
    @pytest.fixture
    def block(self) -> type[Block]:
        return PostgresDatabase
