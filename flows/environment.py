"""The environment, read in one place: where plans lie, and the plan `default` that it describes."""

import difflib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flows.core.errors import PlanError

KEEP = ("KEEP_LAST", "KEEP_DAILY", "KEEP_WEEKLY", "KEEP_MONTHLY", "KEEP_YEARLY")
ELSEWHERE = ("S3_PREFIX", "S3_ENDPOINT_URL")
KNOWN = (
    "DATABASE_URL",
    "BACKUP_DIR",
    "SPOOL_DIR",
    "S3_BUCKET",
    *ELSEWHERE,
    "GPG_RECIPIENT_FILE",
    "GPG_SECRET_KEY_FILE",
    "GPG_PASSPHRASE_FILE",
    "SLACK_WEBHOOK_URL",
    "BACKUP_TIME_ZONE",
    *KEEP,
    "MAX_BACKUPS_TO_KEEP",
    "AUTO_BACKUP_ENABLED",
)
# which variable a field of the plan `default` comes from
VARIABLES = {
    "time_zone": "BACKUP_TIME_ZONE",
    "endpoint_url": "S3_ENDPOINT_URL",
    "prefix": "S3_PREFIX",
    "key_file": "GPG_SECRET_KEY_FILE",
}
_MISSPELT = 0.9  # how alike a variable must be to one of ours to be taken for it


def plans_file() -> Path | None:
    """Return the file of plans that PGSALVO_PLANS names."""
    return Path(value) if (value := os.environ.get("PGSALVO_PLANS")) else None


def use_plans_file(path: Path) -> None:
    """Make this process, and the flows that it runs, read plans from `path` only."""
    os.environ["PGSALVO_PLANS"] = str(path)


def in_workers_run() -> bool:
    """True in a process that a Prefect worker started for a flow run."""
    return bool(os.environ.get("PREFECT__FLOW_RUN_ID"))


def spool_root() -> Path:
    """Return the directory for encrypted data on its way: SPOOL_DIR, or one of the system's for this user."""
    if value := os.environ.get("SPOOL_DIR"):
        return Path(value)
    return Path(tempfile.gettempdir()) / f"pgsalvo-{os.geteuid()}"


def auto_backup_enabled() -> bool:
    """Return whether deployments' schedules are active; AUTO_BACKUP_ENABLED unset means yes."""
    value = (os.environ.get("AUTO_BACKUP_ENABLED") or "true").strip().lower()
    if value not in ("true", "false", "1", "0", "yes", "no"):
        raise PlanError(f"AUTO_BACKUP_ENABLED is {value!r}", "set it to true or false")
    return value in ("true", "1", "yes")


def default_plan(name: str) -> dict[str, Any]:
    """Return the plan `default` as plain data: variables by reference, so that no secret is copied.

    Raises:
        PlanError: Another plan was asked for, or a variable is missing or contradicts another.
    """
    if name != "default":
        raise PlanError(
            f"there is no plan called {name}: without a plans.toml there is only the environment's, default",
            "run pgsalvo with default, or write plans.toml",
        )
    _refuse_misspelt(os.environ)
    plan: dict[str, Any] = {
        "name": "default",
        "database": {
            "conninfo": _named("DATABASE_URL", "the database to back up, as a libpq conninfo or URL")
        },
        "recipients": {"public_keys": _recipient_files()},
        "stores": _stores(),
        "retention": _retention(),
        "verify": {"secret_key": "default"} if os.environ.get("GPG_SECRET_KEY_FILE") else {},
        "alerts": [{"webhook_url": "env:SLACK_WEBHOOK_URL"}] if os.environ.get("SLACK_WEBHOOK_URL") else [],
        "spool_directory": os.environ.get("SPOOL_DIR", ""),
    }
    if zone := os.environ.get("BACKUP_TIME_ZONE"):
        plan["time_zone"] = zone
    return plan


def default_secret_key() -> dict[str, Any]:
    """Return where GPG_SECRET_KEY_FILE and GPG_PASSPHRASE_FILE say that the secret key lies."""
    path = os.environ.get("GPG_SECRET_KEY_FILE")
    if not path:
        raise PlanError("GPG_SECRET_KEY_FILE is not set", "set it to the file that holds the secret key")
    passphrase = os.environ.get("GPG_PASSPHRASE_FILE")
    return {"key_file": path} | ({"passphrase": f"file:{passphrase}"} if passphrase else {})


def _named(variable: str, meaning: str) -> str:
    if not os.environ.get(variable):
        raise PlanError(f"{variable} is not set, and there is no plans.toml", f"set {variable}: {meaning}")
    return f"env:{variable}"


def _recipient_files() -> list[str]:
    value = os.environ.get("GPG_RECIPIENT_FILE")
    if not value:
        raise PlanError(
            "GPG_RECIPIENT_FILE is not set, and there is no plans.toml",
            "set it to the public key that backups are encrypted to; pgsalvo keys new NAME makes one",
        )
    return value.split(os.pathsep)


def _stores() -> list[dict[str, Any]]:
    stores: list[dict[str, Any]] = []
    if directory := os.environ.get("BACKUP_DIR"):
        stores.append({"kind": "local", "name": "local", "path": directory})
    if bucket := os.environ.get("S3_BUCKET"):
        stores.append(
            {"kind": "s3", "name": "s3", "bucket": bucket}
            | {"prefix": os.environ.get("S3_PREFIX", "")}
            | ({"endpoint_url": endpoint} if (endpoint := os.environ.get("S3_ENDPOINT_URL")) else {})
        )
    elif given := [name for name in ELSEWHERE if os.environ.get(name)]:
        raise PlanError(f"{given[0]} is set, but S3_BUCKET is not", "set S3_BUCKET to the bucket's name")
    if not stores:
        raise PlanError(
            "neither BACKUP_DIR nor S3_BUCKET is set, and there is no plans.toml",
            "set one to say where backups go, or both for two copies",
        )
    return stores


def _retention() -> dict[str, Any]:
    kept = {name.lower(): _count(name) for name in KEEP if os.environ.get(name)}
    zone = {"time_zone": os.environ["BACKUP_TIME_ZONE"]} if os.environ.get("BACKUP_TIME_ZONE") else {}
    if not os.environ.get("MAX_BACKUPS_TO_KEEP"):
        return kept | zone
    if kept:
        raise PlanError(
            f"MAX_BACKUPS_TO_KEEP is set beside {', '.join(name.upper() for name in kept)}",
            "use either MAX_BACKUPS_TO_KEEP or the KEEP_ variables",
        )
    none = {"keep_daily": 0, "keep_weekly": 0, "keep_monthly": 0, "keep_yearly": 0, "min_keep": 1}
    return {"keep_last": _count("MAX_BACKUPS_TO_KEEP", least=1)} | none | zone


def _count(variable: str, least: int = 0) -> int:
    value = os.environ[variable].strip()
    if not (value.isascii() and value.isdecimal()) or int(value) < least:
        raise PlanError(f"{variable} is {value!r}", f"set it to a whole number, {least} or more")
    return int(value)


def _refuse_misspelt(variables: Iterable[str]) -> None:
    """Refuse a variable that looks like one of ours which is not set, or like a tier of retention."""
    for variable in sorted(variables):
        if variable in KNOWN:
            continue
        unset = [name for name in KNOWN if not os.environ.get(name)]
        close = difflib.get_close_matches(variable, unset, 1, _MISSPELT)
        if close or variable.startswith("KEEP_"):
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(KEEP)}"
            raise PlanError(f"{variable} is set, which nobody reads", hint)
