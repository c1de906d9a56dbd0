"""What a terminal shows of a run's log: what nobody else tells, and nothing of Prefect's own errors."""

import subprocess
import sys

from tests.servers.plan import PlanOnDisk
from tests.servers.slack import NO_SERVICE, slack_stub

PROGRAM = """
import logging
import sys
from pathlib import Path
from blocks.alerts import Alert
from flows import hooks, plan_file, terminal

terminal.quiet_prefect()
run = logging.getLogger("prefect.flow_runs")
run.error("Encountered exception during execution")
run.warning("the dump waited")
alert = Alert("BACKUP_FAILED", "shop", "dump", "no room left", "", "make room")
hooks.send(plan_file.read(Path(sys.argv[1])).plan("shop"), alert, run)
"""


def test_an_alert_that_was_not_delivered_is_shown_with_its_hint(plan: PlanOnDisk) -> None:
    with slack_stub() as slack:
        slack.default = NO_SERVICE
        webhook = plan.secret("webhook", slack.url)
        plan.write(alerts=[{"kind": "slack", "webhook_url": webhook}])
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(plan.file)], capture_output=True, text=True, timeout=60
        )
    said = " ".join(done.stderr.split())
    assert done.returncode == 0, said
    assert "the alert BACKUP_FAILED of plan shop was not delivered: the answer was 404" in said
    assert "make a new one in Slack" in said
    assert "the dump waited" in said
    assert "Encountered exception" not in said
