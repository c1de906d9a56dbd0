"""Where plans come from.

Flows take a plan's *name*. Its source is decided in this order: a file that was asked for (`--plans`, or
PGSALVO_PLANS), Prefect's blocks (in a worker's run, or with a Prefect API configured), ./plans.toml, and
last the environment, which makes the plan `default`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from prefect.settings import get_current_settings

from blocks.gpg_keys import GpgSecretKey
from flows import environment, plan_file
from flows.core.errors import PlanError
from flows.plan import BackupPlan

AnyBlock = TypeVar("AnyBlock", bound=Block)


@dataclass(frozen=True)
class PlanSource:
    """Where plans come from; `path` is the file of a source of kind `file`."""

    kind: Literal["file", "prefect", "environment"]
    path: Path = Path()

    def __str__(self) -> str:
        if self.kind == "file":
            return str(self.path)
        return "Prefect's blocks" if self.kind == "prefect" else "the environment"


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
    with get_client(sync_client=True) as client:
        documents = client.read_block_documents_by_type(BackupPlan._block_type_slug or "")
    return sorted(document.name for document in documents if document.name)


def load_plan(name: str, source: PlanSource | None = None) -> BackupPlan:
    """Return the plan of this name.

    Raises:
        PlanError: There is no such plan, or something in it is wrong; the message names the place.
    """
    source = source or plan_source()
    if source.kind == "file":
        return plan_file.read(source.path).plan(name)
    if source.kind == "environment":
        return plan_file.validated(BackupPlan, environment.default_plan(name), "the environment")
    return _load_block(BackupPlan, name, "pgsalvo apply plans.toml saves plans to Prefect")


def load_secret_key(name: str, source: PlanSource | None = None) -> GpgSecretKey:
    """Return where the secret key of this name lies; only `verify` and `restore` ask."""
    if not name:
        raise PlanError("the plan names no secret key", "set verify.secret_key to the name of a GpgSecretKey")
    source = source or plan_source()
    if source.kind == "file":
        return plan_file.read(source.path).secret_key(name)
    if source.kind == "environment":
        return plan_file.validated(GpgSecretKey, environment.default_secret_key(), "the environment")
    return _load_block(GpgSecretKey, name, "save a GpgSecretKey block of that name in Prefect")


def _load_block(kind: type[AnyBlock], name: str, hint: str) -> AnyBlock:
    try:
        return kind.load(name)  # type: ignore[return-value]
    except ValueError as error:
        raise PlanError(f"Prefect has no {kind._block_type_name} called {name}", hint) from error


def _api_configured() -> bool:
    return bool(get_current_settings().api.url)
