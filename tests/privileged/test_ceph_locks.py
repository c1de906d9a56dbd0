"""What a bucket that keeps versions or locks objects does to backups, once more: on Ceph's S3 server."""

import pytest

pytest.register_assert_rewrite("tests.blocks.stores.test_s3_locks")

from tests.blocks.stores.test_s3_locks import (  # noqa: E402, F401 - those that a server answers
    connected,
    locked,
    test_a_bucket_that_cannot_lock_is_told_with_the_remedy,
    test_a_bucket_that_locks_for_longer_by_itself_is_content,
    test_a_bucket_without_object_lock_is_refused_before_anything_is_written,
    test_a_commit_that_died_before_its_lock_is_locked_when_it_is_repeated,
    test_a_deletion_leaves_no_version_behind,
    test_a_kill_leaves_no_commit_without_its_lock,
    test_a_legal_hold_has_no_end,
    test_a_locked_object_is_not_deleted_and_the_error_tells_until_when,
    test_an_object_is_locked_for_its_days_as_soon_as_it_is_written,
    test_an_object_of_many_parts_is_locked_too,
    test_an_object_whose_lock_has_ended_is_deleted,
    test_no_older_version_comes_back_while_a_key_is_deleted,
    test_the_lock_of_another_key_that_begins_alike_does_not_count,
    test_what_a_plain_deletion_left_is_cleared_with_its_marker,
    versioned,
)
from tests.servers.ceph import CephServer  # noqa: E402


@pytest.fixture(scope="session")
def ministack(ceph_server: CephServer) -> CephServer:
    """The server, as these tests call it."""
    return ceph_server
