"""What every store promises, on a real SMB server."""

import pytest

pytest.register_assert_rewrite("tests.blocks.stores.test_contract")

from tests.blocks.stores.test_contract import *  # noqa: E402, F403 - every test of it
from tests.privileged.subject_smb import connected_smb_store, smb_server, store, subject  # noqa: E402, F401
