"""plans.toml: read and checked word by word; an error names the place and the nearest right word."""

import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from blocks.alerts import SlackAlert
from blocks.docker_client import DockerPostgresClient
from blocks.gpg_keys import GpgRecipients, GpgSecretKey
from blocks.postgres import PostgresDatabase
from blocks.stores import (
    AzureStore,
    GcsStore,
    LocalStore,
    RcloneStore,
    RsyncStore,
    S3Store,
    SftpStore,
    SmbStore,
)
from flows.core import naming
from flows.core.assertions import Assertion
from flows.core.errors import PlanError
from flows.core.ignoring import Ignored
from flows.core.retention import RetentionPolicy
from flows.faults import listed, nearest, refuse_unknown, table, validated, words_of
from flows.plan import BackupPlan
from flows.verify_settings import ScratchSettings, VerifySettings

STORES: dict[str, type[BaseModel]] = {
    "local": LocalStore,
    "azure": AzureStore,
    "gcs": GcsStore,
    "rclone": RcloneStore,
    "rsync": RsyncStore,
    "s3": S3Store,
    "sftp": SftpStore,
    "smb": SmbStore,
}
OWN_PATHS = {"path", "key_file", "known_hosts_file", "spool_directory"}  # on this host
ALERTS: dict[str, type[BaseModel]] = {"slack": SlackAlert}
LISTED_IN_VERIFY: dict[str, type[BaseModel]] = {"assertions": Assertion, "ignore": Ignored}

DATABASE = 'database = { conninfo = "env:DATABASE_URL" }'
RECIPIENTS = 'recipients = ["keys/ops.asc"]'
CLIENT = 'client = { image = "postgres:{major}" }'
RETENTION = "retention = { keep_daily = 30 }"
KEEP = "keep"
KEEP_EXAMPLE = "keep = { keep_daily = 7 }"
EXAMPLES = {"database": DATABASE, "recipients": RECIPIENTS, "stores": "[[plans.NAME.stores]]"}


@dataclass(frozen=True)
class PlanFile:
    """A file of plans; each plan is checked when it is asked for, so that one typo spoils one plan."""

    path: Path
    plans: Mapping[str, Any]
    secret_keys: Mapping[str, Any]

    @property
    def plan_names(self) -> list[str]:
        return sorted(self.plans)

    @property
    def directory(self) -> Path:
        """Where relative paths start."""
        return self.path.resolve().parent

    def plan(self, name: str) -> BackupPlan:
        """Return one plan, with every relative path made absolute from the file's directory."""
        if name not in self.plans:
            raise PlanError(
                f"{self.path} has no plan called {name}", nearest(name, self.plans, "its plans are")
            )
        place = f"{self.path}: plans.{name}"
        _refuse_name(name, place)
        raw = table(self.plans[name], place, f"[plans.{name}]")
        return validated(BackupPlan, _plan_data(name, raw, place, self.directory), place)

    def secret_key(self, name: str) -> GpgSecretKey:
        """Return where a secret key lies."""
        if name not in self.secret_keys:
            missing = f'add [secret_keys.{name}] with key_file = "…" on the host that verifies'
            raise PlanError(
                f"{self.path} has no secret key called {name}",
                nearest(name, self.secret_keys, f"{missing}; there are") or missing,
            )
        place = f"{self.path}: secret_keys.{name}"
        data = dict(table(self.secret_keys[name], place, f"[secret_keys.{name}]"))
        refuse_unknown(data, words_of(GpgSecretKey), place)
        for field in ("key_file", "homedir"):
            data |= {field: _absolute(data[field], self.directory)} if field in data else {}
        return validated(GpgSecretKey, _with_absolute_references(data, self.directory), place)


def read(path: Path) -> PlanFile:
    """Return the plans that a file holds, not yet checked one by one.

    Raises:
        PlanError: The file cannot be read, is not TOML, or has a table that nobody knows.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise PlanError(
            f"cannot read the plans in {path}: {error.strerror}",
            "name the file with --plans or PGSALVO_PLANS",
        ) from error
    except UnicodeDecodeError as error:
        raise PlanError(f"{path} is not UTF-8 text", "save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise PlanError(
            f"{path} is not TOML: {error}", 'texts stand in double quotes: name = "local"'
        ) from error
    refuse_unknown(document, {"plans", "secret_keys"}, str(path))
    plans = table(document.get("plans", {}), f"{path}: plans", "[plans.shop]")
    if not plans:
        raise PlanError(f"{path} has no plan", "begin one with [plans.shop]")
    keys = table(document.get("secret_keys", {}), f"{path}: secret_keys", "[secret_keys.ops]")
    return PlanFile(path, plans, keys)


def _refuse_name(name: str, place: str) -> None:
    if not re.fullmatch(naming.PLAN_NAME_PATTERN, name):
        likely = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-") or "shop"
        raise PlanError(f"{place}: not a plan's name", f"use a-z, 0-9 and dashes, such as {likely[:63]}")


def _plan_data(name: str, raw: Mapping[str, Any], place: str, base: Path) -> dict[str, Any]:
    refuse_unknown(raw, words_of(BackupPlan) - {"name", KEEP} | {"keyring"}, place)
    for required, example in EXAMPLES.items():
        if required not in raw:
            raise PlanError(f"{place}.{required} is missing", f"write it as {example}")
    data = dict(raw)
    keyring = _absolute(data.pop("keyring", ""), base)
    database = table(data["database"], f"{place}.database", DATABASE)
    retention = table(data.get("retention", {}), f"{place}.retention", RETENTION)
    _refuse_time_zone(retention, f"{place}.retention")
    stores, kept = _apart(data["stores"], f"{place}.stores")
    recipients = listed(data["recipients"], f"{place}.recipients", RECIPIENTS)
    built = {
        "name": name,
        "database": _model(PostgresDatabase, database, f"{place}.database", base),
        "client": _client(data.get("client"), f"{place}.client", base),
        "recipients": _recipients(recipients, keyring, f"{place}.recipients", base),
        "stores": _models(STORES, stores, f"{place}.stores", base, also=(KEEP,)),
        "alerts": _models(ALERTS, data.get("alerts", []), f"{place}.alerts", base),
        "retention": _model(RetentionPolicy, retention, f"{place}.retention", base),
        "verify": _verify_settings(data.get("verify", {}), f"{place}.verify", base),
        "spool_directory": _absolute(data.get("spool_directory", ""), base),
    }
    names = [store.name for store in built["stores"]]
    return data | built | {KEEP: _keep(names, kept, retention, f"{place}.stores")}


def _refuse_time_zone(retention: Mapping[str, Any], place: str) -> None:
    if "time_zone" in retention:
        raise PlanError(f"{place}: unknown key time_zone", "time_zone belongs to the plan itself")


def _apart(raw: Any, place: str) -> tuple[list[Any], list[Any]]:
    """Return the stores' tables without their `keep`, which no store knows, and what each says there."""
    tables = [
        table(each, f"{place}.#{number}", "[[plans.NAME.stores]]")
        for number, each in enumerate(listed(raw, place, "[[plans.NAME.stores]]"), start=1)
    ]
    without = [{key: value for key, value in each.items() if key != KEEP} for each in tables]
    return without, [each.get(KEEP) for each in tables]


def _keep(
    names: list[str], kept: list[Any], retention: Mapping[str, Any], place: str
) -> dict[str, BaseModel]:
    """Return the retention of each store that has its own; what it does not say is as on the others."""
    policies: dict[str, BaseModel] = {}
    for name, raw in zip(names, kept, strict=True):
        if raw is not None:
            own_place = f"{place}.{name}.{KEEP}"
            own = table(raw, own_place, KEEP_EXAMPLE)
            _refuse_time_zone(own, own_place)
            refuse_unknown(own, words_of(RetentionPolicy), own_place)
            policies[name] = validated(RetentionPolicy, {**retention, **own}, own_place)
    return policies


def _client(raw: Any, place: str, base: Path) -> BaseModel | None:
    return None if raw is None else _model(DockerPostgresClient, table(raw, place, CLIENT), place, base)


def _verify_settings(raw: Any, place: str, base: Path) -> BaseModel:
    data = dict(table(raw, place, "[plans.NAME.verify]"))
    for name, model in LISTED_IN_VERIFY.items():
        each = listed(data.get(name, []), f"{place}.{name}", f"[[plans.NAME.verify.{name}]]")
        data[name] = [
            _model(
                model,
                table(one, f"{place}.{name}.#{number}", f"[[plans.NAME.verify.{name}]]"),
                f"{place}.{name}.#{number}",
                base,
            )
            for number, one in enumerate(each, start=1)
        ]
    scratch = table(data.get("scratch", {}), f"{place}.scratch", 'scratch = { kind = "embedded" }')
    data["scratch"] = _model(ScratchSettings, scratch, f"{place}.scratch", base)
    return _model(VerifySettings, data, place, base)


def _recipients(keys: list[Any], keyring: Any, place: str, base: Path) -> GpgRecipients:
    data = {"public_keys": [_recipient(key, base) for key in keys], "keyring": keyring}
    return validated(GpgRecipients, data, place)


def _recipient(key: Any, base: Path) -> Any:
    """Make a key file's path absolute; leave armoured text, fingerprints and e-mails alone."""
    if not isinstance(key, str) or "\n" in key or not key.strip():
        return key
    path = base / Path(key).expanduser()
    return str(path) if path.exists() or "/" in key or key.endswith((".asc", ".gpg")) else key


def _models(
    kinds: Mapping[str, type[BaseModel]], raw: Any, place: str, base: Path, also: Collection[str] = ()
) -> list[Any]:
    """Return the stores or alerts of a list, each of its own kind.

    Args:
        also: Keys that such a table may have beside the kind's own.
    """
    word = place.rpartition(".")[2]
    models = []
    for number, each in enumerate(listed(raw, place, f"[[plans.NAME.{word}]]"), start=1):
        data = table(each, f"{place}.#{number}", f"[[plans.NAME.{word}]]")
        own_place = f"{place}.{data.get('name') or f'#{number}'}"
        kind = _kind_of(data, kinds, own_place)
        refuse_unknown(data, words_of(kind) | {*also}, own_place)
        models.append(_model(kind, data, own_place, base))
    return models


def _kind_of(data: Mapping[str, Any], kinds: Mapping[str, type[BaseModel]], place: str) -> type[BaseModel]:
    if "kind" not in data:
        raise PlanError(f"{place}.kind is missing", f"it may be: {', '.join(kinds)}")
    kind = data["kind"]
    if not isinstance(kind, str) or kind not in kinds:
        raise PlanError(f"{place}.kind: there is no kind {kind!r}", nearest(str(kind), kinds, "it may be"))
    return kinds[kind]


def _model(model: type[BaseModel], raw: Mapping[str, Any], place: str, base: Path) -> BaseModel:
    """Return a model of a table's words, its paths and references made absolute."""
    refuse_unknown(raw, words_of(model), place)
    data = _with_absolute_references(raw, base)
    for field in OWN_PATHS & data.keys():
        data[field] = _absolute(data[field], base)
    return validated(model, data, place)


def _absolute(value: Any, base: Path) -> Any:
    return str(base / Path(value).expanduser()) if isinstance(value, str) and value else value


def _with_absolute_references(data: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """Make the paths of `file:` references absolute, wherever they stand."""
    return {
        field: f"file:{_absolute(value.removeprefix('file:'), base)}"
        if isinstance(value, str) and value.startswith("file:")
        else value
        for field, value in data.items()
    }
