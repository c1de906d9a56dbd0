"""Where plans come from.

Flows take a plan's *name*. Its source is decided in this order: a file that was asked for (`--plans`, or
PGSALVO_PLANS), Prefect's blocks (in a worker's run, or with a Prefect API configured), ./plans.toml, and
last the environment, which makes the plan `default`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import httpx
from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from prefect.settings import get_current_settings
from pydantic import ValidationError

from blocks.gpg_keys import GpgSecretKey
from flows import environment, faults, plan_file, prefect_api
from flows.core.errors import PlanError
from flows.plan import BackupPlan

AnyBlock = TypeVar("AnyBlock", bound=Block)

ENVIRONMENT = "the environment"


@dataclass(frozen=True)
class PlanSource:
    """Where plans come from; `path` is the file of a source of kind `file`."""

    kind: Literal["file", "prefect", "environment"]
    path: Path = Path()

    def __str__(self) -> str:
        if self.kind == "file":
            return str(self.path)
        return "Prefect's blocks" if self.kind == "prefect" else ENVIRONMENT


def plan_source() -> PlanSource:
    """Decide where plans come from; see the module's docstring for the order."""
    if path := environment.plans_file():
        return PlanSource("file", path)
    if environment.in_workers_run() or _api_configured():
        return PlanSource("prefect")
    if Path("plans.toml").exists():
        return PlanSource("file", Path("plans.toml"))
    return PlanSource("environment")


def plan_names(source: PlanSource) -> list[str]:
    """Return the names of all plans of a source."""
    if source.kind == "file":
        return plan_file.read(source.path).plan_names
    if source.kind == "environment":
        return ["default"]
    return _block_names(BackupPlan)


_loaded: dict[str, BackupPlan] = {}


def load_plan(name: str, source: PlanSource | None = None) -> BackupPlan:
    """Return the plan of this name.

    Raises:
        PlanError: There is no such plan, or something in it is wrong; the message names the place.
    """
    _loaded[name] = _read_plan(name, source or plan_source())
    return _loaded[name]


def last_loaded(name: str) -> BackupPlan | None:
    """Return the plan as this process last loaded it: there even when Prefect's API is gone."""
    return _loaded.get(name)


def _read_plan(name: str, source: PlanSource) -> BackupPlan:
    if source.kind == "file":
        return plan_file.read(source.path).plan(name)
    if source.kind == "environment":
        return faults.validated(
            BackupPlan, environment.default_plan(name), ENVIRONMENT, environment.VARIABLES
        )
    return _load_plan_block(name)


def load_secret_key(name: str, source: PlanSource | None = None) -> GpgSecretKey:
    """Return where the secret key of this name lies; only `verify` and `restore` ask."""
    if not name:
        raise PlanError("the plan names no secret key", "set verify.secret_key to the name of a GpgSecretKey")
    source = source or plan_source()
    if source.kind == "file":
        return plan_file.read(source.path).secret_key(name)
    if source.kind == "environment":
        data = environment.default_secret_key()
        return faults.validated(GpgSecretKey, data, ENVIRONMENT, environment.VARIABLES)
    return _load_block(GpgSecretKey, name, "save a GpgSecretKey block of that name in Prefect")


def _load_plan_block(name: str) -> BackupPlan:
    plan = _load_block(BackupPlan, name, "pgsalvo apply plans.toml saves plans to Prefect")
    if plan.name != name:
        raise PlanError(
            f"Prefect's Backup Plan {name} says that its name is {plan.name}, whose folder it would share",
            f"set the block's field name to {name}",
        )
    return plan


def _load_block(kind: type[AnyBlock], name: str, hint: str) -> AnyBlock:
    what = f"Prefect's {kind._block_type_name} {name}"
    try:
        return kind.load(name)  # type: ignore[return-value]
    except httpx.HTTPError as error:
        raise PlanError(*prefect_api.explained(error)) from error
    except RuntimeError as error:
        if isinstance(error.__cause__, ValidationError):
            raise faults.plan_error(error.__cause__, kind, what) from None
        raise
    except ValueError as error:
        known = faults.nearest(name, _block_names(kind), f"{hint}; there are")
        raise PlanError(f"Prefect has no {kind._block_type_name} called {name}", known or hint) from error


def _block_names(kind: type[Block]) -> list[str]:
    with get_client(sync_client=True) as client:
        documents = client.read_block_documents_by_type(kind.get_block_type_slug())
    return sorted(document.name for document in documents if document.name)


def _api_configured() -> bool:
    return bool(get_current_settings().api.url)
