"""plans.toml: read and checked word by word; an error names the place and the nearest right word."""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from prefect.blocks.core import Block
from pydantic import BaseModel, ValidationError

from blocks.alerts import SlackAlert
from blocks.errors import ConfigurationError
from blocks.gpg_keys import GpgSecretKey
from blocks.postgres import PostgresDatabase
from blocks.stores import LocalStore, S3Store
from flows.core.errors import PlanError
from flows.core.retention import RetentionPolicy
from flows.plan import BackupPlan, VerifySettings

Model = TypeVar("Model", bound=BaseModel)

STORES: dict[str, type[BaseModel]] = {"local": LocalStore, "s3": S3Store}
ALERTS: dict[str, type[BaseModel]] = {"slack": SlackAlert}
_BLOCK_FIELDS = set(Block.model_fields)


@dataclass(frozen=True)
class PlanFile:
    """A file of plans; each plan is checked when it is asked for, so that one typo spoils one plan."""

    path: Path
    plans: Mapping[str, Any]
    secret_keys: Mapping[str, Any]

    @property
    def plan_names(self) -> list[str]:
        return sorted(self.plans)

    def plan(self, name: str) -> BackupPlan:
        """Return one plan, with every relative path made absolute from the file's directory."""
        if name not in self.plans:
            raise PlanError(
                f"{self.path} has no plan called {name}", _nearest(name, self.plans, "it has no plan")
            )
        place = f"{self.path}: plans.{name}"
        return validated(
            BackupPlan, _plan_data(name, self.plans[name], place, self.path.resolve().parent), place
        )

    def secret_key(self, name: str) -> GpgSecretKey:
        """Return where a secret key lies."""
        if name not in self.secret_keys:
            raise PlanError(
                f"{self.path} has no secret key called {name}",
                f'add [secret_keys.{name}] with key_file = "…" on the host that verifies',
            )
        place = f"{self.path}: secret_keys.{name}"
        data = dict(_table(self.secret_keys[name], place))
        _check_words(data, GpgSecretKey, place)
        base = self.path.resolve().parent
        for field in ("key_file", "homedir"):
            if data.get(field):
                data[field] = str(base / Path(data[field]).expanduser())
        if str(data.get("passphrase", "")).startswith("file:"):
            data["passphrase"] = _absolute_reference(data["passphrase"], base)
        return validated(GpgSecretKey, data, place)


def read(path: Path) -> PlanFile:
    """Return the plans that a file holds, not yet checked one by one.

    Raises:
        PlanError: The file cannot be read, is not TOML, or has a table that nobody knows.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanError(f"cannot read the plans in {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise PlanError(f"{path} is not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise PlanError(f"{path} is not TOML: {error}") from error
    _refuse_unknown(document, {"plans", "secret_keys"}, str(path))
    plans = _table(document.get("plans", {}), f"{path}: plans")
    if not plans:
        raise PlanError(f"{path} has no plan", "begin one with [plans.shop]")
    return PlanFile(path, plans, _table(document.get("secret_keys", {}), f"{path}: secret_keys"))


def validated(model: type[Model], data: Mapping[str, Any], place: str) -> Model:
    """Build a model; raise `PlanError` with the place of the first fault, never with a secret's value."""
    try:
        return model.model_validate(data)
    except ConfigurationError as error:
        raise PlanError(f"{place}: {error.message}", error.hint) from error
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(
            str(part) for part in fault["loc"] if part not in (*STORES, *ALERTS, "function-after")
        )
        message = fault["msg"].removeprefix("Value error, ")
        raise PlanError(f"{place}{'.' if where else ''}{where}: {_lower_first(message)}") from None


def _plan_data(name: str, raw: Any, place: str, base: Path) -> dict[str, Any]:
    data = dict(_table(raw, place))
    _refuse_unknown(data, set(BackupPlan.model_fields) - _BLOCK_FIELDS - {"name"} | {"keyring"}, place)
    for required in ("database", "recipients", "stores"):
        if required not in data:
            raise PlanError(f"{place} has no {required}", f"README shows a plan with its {required}")
    data["name"] = name
    data["database"] = dict(_checked(data["database"], PostgresDatabase, f"{place}.database"))
    data["recipients"] = {
        "public_keys": [_recipient(key, base) for key in _list(data["recipients"], f"{place}.recipients")],
        "keyring": _absolute(data.pop("keyring", ""), base),
    }
    data["stores"] = [
        _rooted(_of_kind(store, STORES, f"{place}.stores.{number}"), base)
        for number, store in enumerate(_list(data["stores"], f"{place}.stores"))
    ]
    data["alerts"] = [
        _of_kind(alert, ALERTS, f"{place}.alerts.{number}")
        for number, alert in enumerate(_list(data.get("alerts", []), f"{place}.alerts"))
    ]
    zone = {"time_zone": data["time_zone"]} if "time_zone" in data else {}
    data["retention"] = zone | dict(
        _checked(data.get("retention", {}), RetentionPolicy, f"{place}.retention")
    )
    data["verify"] = dict(_checked(data.get("verify", {}), VerifySettings, f"{place}.verify"))
    data["spool_directory"] = _absolute(data.get("spool_directory", ""), base)
    for secret in [data["database"], *data["stores"], *data["alerts"]]:
        for field, value in secret.items():
            if isinstance(value, str) and value.startswith("file:"):
                secret[field] = _absolute_reference(value, base)
    return data


def _recipient(key: Any, base: Path) -> Any:
    """Make a key file's path absolute; leave armoured text, fingerprints and e-mails alone."""
    path = base / Path(str(key)).expanduser() if isinstance(key, str) and "\n" not in key else None
    return (
        str(path)
        if path is not None and (path.exists() or "/" in key or key.endswith((".asc", ".gpg")))
        else key
    )


def _rooted(store: dict[str, Any], base: Path) -> dict[str, Any]:
    return store | {"path": _absolute(store["path"], base)} if isinstance(store.get("path"), str) else store


def _absolute(value: Any, base: Path) -> Any:
    return str(base / Path(value).expanduser()) if isinstance(value, str) and value else value


def _absolute_reference(value: str, base: Path) -> str:
    return f"file:{base / Path(value.removeprefix('file:')).expanduser()}"


def _of_kind(raw: Any, kinds: Mapping[str, type[BaseModel]], place: str) -> dict[str, Any]:
    data = dict(_table(raw, place))
    if "kind" not in data:
        raise PlanError(f"{place} has no kind", f"it may be: {', '.join(kinds)}")
    kind = str(data["kind"])
    if kind not in kinds:
        raise PlanError(f"{place}.kind: there is no kind {kind!r}", _nearest(kind, kinds, "it may be"))
    _check_words(data, kinds[kind], place)
    return data


def _checked(raw: Any, model: type[BaseModel], place: str) -> Mapping[str, Any]:
    table = _table(raw, place)
    _check_words(table, model, place)
    return table


def _check_words(table: Mapping[str, Any], model: type[BaseModel], place: str) -> None:
    _refuse_unknown(table, set(model.model_fields) - _BLOCK_FIELDS, place)


def _refuse_unknown(table: Mapping[str, Any], known: Iterable[str], place: str) -> None:
    known = set(known)
    for word in table:
        if word not in known:
            raise PlanError(f"{place}: unknown key {word}", _nearest(word, known, "known are"))


def _nearest(word: str, known: Iterable[str], otherwise: str) -> str:
    known = sorted(known)
    if close := difflib.get_close_matches(word, known, 1, 0.5):
        return f"did you mean {close[0]}?"
    return f"{otherwise}: {', '.join(known)}" if known else otherwise


def _table(raw: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(raw, dict):
        raise PlanError(f"{place} must be a table, it is {raw!r}"[:200])
    return raw


def _list(raw: Any, place: str) -> list[Any]:
    if not isinstance(raw, list):
        raise PlanError(f"{place} must be a list in square brackets")
    return raw


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
