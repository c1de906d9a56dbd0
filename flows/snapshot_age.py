"""A dump's snapshot that becomes old: until it ends, the server's VACUUM cleans up nothing newer."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from logging import Logger, LoggerAdapter

from blocks.alerts import Alert
from blocks.snapshot import Snapshot
from flows import hooks
from flows.plan import BackupPlan


@contextmanager
def alarmed_when_old(
    plan: BackupPlan, snapshot: Snapshot, log: "LoggerAdapter[Logger] | Logger"
) -> Iterator[None]:
    """Send one alert if the snapshot becomes older than the plan's limit while the block runs."""
    address = hooks.own_address()
    limit_seconds = plan.snapshot_limit_minutes * 60
    message = Alert(
        kind="SNAPSHOT_OLD",
        plan=plan.name,
        step="dump",
        cause=f"the dump's snapshot is older than {plan.snapshot_limit_minutes:g} minutes;"
        " until the dump ends, VACUUM removes nothing that died since",
        address=address,
        next_step="see what slows pg_dump in pg_stat_activity, or which destination it waits for if"
        " spool_max_bytes is set; the plan's limit is snapshot_limit_minutes",
    )

    def tell() -> None:
        if snapshot.is_released:
            return  # only the network is waited for
        log.warning("%s", message.cause)
        hooks.send(plan, message, log)

    timer = threading.Timer(max(0.0, limit_seconds - snapshot.age_seconds), tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
