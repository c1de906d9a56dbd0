"""What a verification left beside the newest backup, as its owner reads it."""

import json
from typing import Any

from tests.servers.forgery import opened
from tests.servers.plan import PlanOnDisk


def report(plan: PlanOnDisk) -> dict[str, Any]:
    """Return the encrypted report of the only verification of the newest backup."""
    folder = plan.directory / "store" / plan.name / plan.backups()[0].backup_id
    (sealed,) = folder.glob("verifications/*.report.json.zst.gpg")
    found: dict[str, Any] = json.loads(opened(sealed))
    return found
