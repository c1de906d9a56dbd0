"""What every store promises, on Ceph's S3 server."""

import pytest

pytest.register_assert_rewrite("tests.blocks.stores.test_contract")

from tests.blocks.stores.test_contract import *  # noqa: E402, F403 - every test of it
from tests.privileged.subject_ceph import connected_ceph_store, store, subject  # noqa: E402, F401
