"""What a plan says of its spool: no limit unless it names one, and none that a stream could not pass."""

from pathlib import Path

import pytest

from flows import plan_file
from flows.core.errors import PlanError
from flows.plan import BackupPlan

MIB = 1 << 20


def _plan(directory: Path, *lines: str) -> BackupPlan:
    path = directory / "plans.toml"
    head = [
        "[plans.shop]",
        'recipients = ["ops@example.org"]',
        'database = { conninfo = "env:DATABASE_URL" }',
    ]
    stores = ["[[plans.shop.stores]]", 'kind = "local"', 'path = "store"']
    path.write_text("\n".join([*head, *lines, *stores]))
    return plan_file.read(path).plan("shop")


def test_a_plan_limits_its_spool_only_if_it_says_so(tmp_path: Path) -> None:
    assert _plan(tmp_path).spool_max_bytes is None
    limited = _plan(tmp_path, "spool_max_bytes = 67_108_864", "spool_stall_seconds = 1800")
    assert (limited.spool_max_bytes, limited.spool_stall_seconds) == (64 * MIB, 1800)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(f"spool_max_bytes = {MIB - 1}", id="less than a chunk"),
        pytest.param('spool_max_bytes = "64 MiB"', id="not in bytes"),
        pytest.param("spool_stall_seconds = 0", id="no patience at all"),
    ],
)
def test_a_limit_that_cannot_be_kept_is_refused_by_name(tmp_path: Path, line: str) -> None:
    with pytest.raises(PlanError) as caught:
        _plan(tmp_path, line)
    assert f"plans.shop.{line.split(' ')[0]}" in caught.value.message
