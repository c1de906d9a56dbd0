"""What prefect.yaml deploys, read where pgsalvo is installed; the file itself is the only source of it."""

from dataclasses import dataclass
from importlib import resources
from typing import Any

import yaml
from prefect import Flow
from prefect.flows import load_flow_from_entrypoint


@dataclass(frozen=True)
class Definition:
    """One deployment of prefect.yaml, without its schedules."""

    name: str
    entrypoint: str
    work_pool: str
    description: str
    tags: tuple[str, ...]

    def flow(self) -> "Flow[Any, Any]":
        return load_flow_from_entrypoint(self.entrypoint, use_placeholder_flow=False)


def definitions() -> list[Definition]:
    """Return the deployments in the file's order."""
    document = yaml.safe_load(resources.files("deployments").joinpath("prefect.yaml").read_text("utf-8"))
    return [
        Definition(
            entry["name"],
            entry["entrypoint"],
            entry["work_pool"]["name"],
            entry["description"],
            tuple(entry["tags"]),
        )
        for entry in document["deployments"]
    ]
