"""How things are called on a store (format version 1), and back again.

<plan>/RESTORE.md
<plan>/<backup_id>/manifest.json                                     the commit
<plan>/<backup_id>/<archive>.gpg
<plan>/<backup_id>/verifications/<time>-<tail>-<verdict>.json
<plan>/<backup_id>/verifications/<time>-<tail>.report.json.zst.gpg
<plan>/<backup_id>/holds/<name>.json
<plan>/scrubs/<time>-<tail>.json                                     what was read again, and what differed
"""

import re
from datetime import UTC, datetime
from typing import NewType

from flows.core.errors import PlanError

BackupId = NewType("BackupId", str)

MAIN_ARCHIVE = "main.dump.zst.gpg"
GLOBALS_ARCHIVE = "globals.sql.zst.gpg"
FACTS_ARCHIVE = "facts.json.zst.gpg"
MANIFEST_NAME = "manifest.json"
RESTORE_GUIDE_NAME = "RESTORE.md"

PLAN_NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}$"
BACKUP_ID_PATTERN = r"^2[0-9]{7}T[0-9]{6}Z-[0-9a-f]{6}$"
_ID_TIME = "%Y%m%dT%H%M%SZ"


def backup_id(started_at: datetime, tail: str) -> BackupId:
    """Return the id of a backup that starts now.

    Args:
        started_at: UTC-aware.
        tail: Six random lower-case hex digits; uniqueness rests on them alone.
    """
    identifier = f"{started_at.astimezone(UTC):{_ID_TIME}}-{tail}"
    if not is_backup_id(identifier):
        raise ValueError(f"not six lower-case hex digits: {tail!r}")
    return BackupId(identifier)


def is_backup_id(text: str) -> bool:
    """Tell whether `text` is an id that `started_at` can read: 30 February and hour 25 are none."""
    if not re.fullmatch(BACKUP_ID_PATTERN, text):
        return False
    try:
        started_at(BackupId(text))
    except ValueError:
        return False
    return True


def started_at(identifier: BackupId) -> datetime:
    """Return the UTC-aware start that a backup's id tells, to the second."""
    return datetime.strptime(identifier.split("-")[0], _ID_TIME).replace(tzinfo=UTC)


def plan_prefix(plan: str) -> str:
    """Return the prefix of everything that belongs to a plan; it ends with a slash."""
    if not re.fullmatch(PLAN_NAME_PATTERN, plan):
        raise PlanError(
            f"not a plan's name: {plan!r}", "use lower-case letters, digits and dashes, at most 63 characters"
        )
    return f"{plan}/"


def backup_prefix(plan: str, identifier: BackupId) -> str:
    return f"{plan_prefix(plan)}{identifier}/"


def object_key(plan: str, identifier: BackupId, name: str) -> str:
    return f"{backup_prefix(plan, identifier)}{name}"


def manifest_key(plan: str, identifier: BackupId) -> str:
    return object_key(plan, identifier, MANIFEST_NAME)


def verification_key(plan: str, identifier: BackupId, at: datetime, tail: str, verdict: str) -> str:
    return object_key(
        plan, identifier, f"verifications/{at.astimezone(UTC):{_ID_TIME}}-{tail}-{verdict}.json"
    )


def verification_report_key(plan: str, identifier: BackupId, at: datetime, tail: str) -> str:
    name = f"verifications/{at.astimezone(UTC):{_ID_TIME}}-{tail}.report.json.zst.gpg"
    return object_key(plan, identifier, name)


def scrubs_prefix(plan: str) -> str:
    """Return the prefix of the records of what was read again on a destination."""
    return f"{plan_prefix(plan)}scrubs/"


def scrub_key(plan: str, at: datetime, tail: str) -> str:
    return f"{scrubs_prefix(plan)}{at.astimezone(UTC):{_ID_TIME}}-{tail}.json"


def split_key(plan: str, key: str) -> tuple[BackupId, str] | None:
    """Return (backup id, rest of the key), or None for a key that belongs to no backup of the plan."""
    identifier, slash, rest = key.removeprefix(plan_prefix(plan)).partition("/")
    if not key.startswith(plan_prefix(plan)) or not slash or not is_backup_id(identifier):
        return None
    return BackupId(identifier), rest
