"""A plan in a directory of its own: keys, a store, a spool and a plans.toml, and the flows run on it."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from prefect.client.schemas.objects import State

from blocks import compression, gpg
from blocks.gpg_keys import GpgSecretKey
from blocks.stores import LocalStore
from flows import plan_file
from flows.catalogue import Backup, committed_backups, read_store
from flows.catalogues import read_all
from flows.core import naming
from flows.core.facts import Facts
from flows.core.facts import decode as decode_facts
from flows.core.manifest import Manifest
from flows.core.naming import BackupId
from flows.plan import BackupPlan
from tests.servers import keys
from tests.servers.s3 import S3Server

NAME = "shop"
PLANS_VARIABLE = "PGSALVO_PLANS"


@dataclass
class PlanOnDisk:
    """One plan, by default with one local store; `settings` is what plans.toml says of it.

    The password lies in a 0600 file, as a plan holds no secret.
    """

    directory: Path
    settings: dict[str, Any] = field(default_factory=dict)
    secret_keys: dict[str, Any] = field(default_factory=dict)
    name: str = NAME

    @classmethod
    def for_database(cls, directory: Path, conninfo: str, **settings: Any) -> "PlanOnDisk":
        """Write a plan for a database; further settings replace the plan's own."""
        key = keys.normal()
        (directory / "database-url").touch(mode=0o600)
        (directory / "database-url").write_text(conninfo)
        plan = cls(
            directory,
            {
                "recipients": [str(key.public_file)],
                "database": {"conninfo": "file:database-url"},
                "stores": [{"name": "local", "kind": "local", "path": "store"}],
                "spool_directory": "spool",
                "attempts": 1,
                "verify": {"secret_key": "ops"},
            }
            | settings,
            {"ops": {"key_file": str(key.secret_file)}},
        )
        plan.write()
        return plan

    @property
    def file(self) -> Path:
        return self.directory / "plans.toml"

    @property
    def spool(self) -> Path:
        return self.directory / "spool"

    @property
    def store(self) -> LocalStore:
        return LocalStore(name="local", path=str(self.directory / "store"))

    def write(self, **settings: Any) -> None:
        """Write plans.toml anew, with these settings changed."""
        self.settings |= settings
        tables = {f"plans.{self.name}": self.settings} | {
            f"secret_keys.{name}": key for name, key in self.secret_keys.items()
        }
        text = ""
        for table, values in tables.items():
            lines = [f"{key} = {_toml(value)}" for key, value in values.items()]
            text += "\n".join([f"[{table}]", *lines, "", ""])
        self.file.write_text(text)

    def prove(self, **settings: Any) -> None:
        """Write plans.toml anew, with these settings of its verification changed."""
        self.write(verify=self.settings["verify"] | settings)

    def copied(self, directory: Path) -> "PlanOnDisk":
        """Return the same plan in another directory, with all that its store holds."""
        shutil.copytree(self.directory, directory)
        return replace(self, directory=directory, settings=dict(self.settings))

    def secret(self, name: str, text: str) -> str:
        """Write a 0600 file beside the plan, and return the reference to it."""
        (self.directory / name).touch(mode=0o600)
        (self.directory / name).write_text(text)
        return f"file:{name}"

    def back_up(self, **parameters: Any) -> BackupId:
        """Run the flow in this process and return the backup's id; raise what the flow raised."""
        from flows.backup import back_up

        return BackupId(self._finished(back_up(self.name, **parameters, return_state=True)))

    def verify(self, backup: str = "latest", **parameters: Any) -> BackupId:
        from flows.verify import verify

        return BackupId(self._finished(verify(self.name, backup, **parameters, return_state=True)))

    def restore(self, into: str, **parameters: Any) -> BackupId:
        from flows.restore import restore

        return BackupId(self._finished(restore(self.name, into, **parameters, return_state=True)))

    def prune(self, **parameters: Any) -> None:
        from flows.prune import prune

        prune(self.name, **parameters)

    def sync(self) -> None:
        from flows.sync import sync

        sync(self.name)

    def scrub(self, **parameters: Any) -> None:
        from flows.scrub import scrub

        scrub(self.name, **parameters)

    def backups(self) -> list[Backup]:
        """Return what the local store's catalogue holds, newest first."""
        return committed_backups(read_store(self.store, self.name))

    def backups_everywhere(self) -> list[Backup]:
        """Return what all of the plan's stores hold, newest first."""
        return read_all(self.loaded)

    @property
    def loaded(self) -> BackupPlan:
        """The plan as the flows read it."""
        return plan_file.read(self.file).plan(self.name)

    def s3_store(self, server: S3Server, bucket: str, prefix: str) -> dict[str, Any]:
        """Return the settings of a store on an S3 server, whose secret lies in a 0600 file."""
        return {
            "name": "offsite",
            "kind": "s3",
            "bucket": bucket,
            "prefix": prefix,
            "endpoint_url": server.endpoint_url,
            "region": server.region,
            "access_key_id": server.access_key_id,
            "secret_access_key": self.secret("s3-secret", server.secret_access_key),
        }

    def manifest(self, identifier: BackupId) -> Manifest:
        manifest = next(backup for backup in self.backups() if backup.backup_id == identifier).manifest
        assert manifest is not None
        return manifest

    def facts(self, identifier: BackupId) -> Facts:
        """Return what the backup on the local store says of the database."""
        key = naming.object_key(self.name, identifier, naming.FACTS_ARCHIVE)
        with GpgSecretKey(**self.secret_keys["ops"]).unlock() as unlocked:
            plain = compression.decompressed(gpg.decrypt(self.store.get(key), unlocked))
            return decode_facts(b"".join(plain))

    def objects(self) -> list[str]:
        """Return every object's key on the local store."""
        return [found.key for found in self.store.list("")]

    def command(
        self, *arguments: str, cwd: Path | None = None, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run `pgsalvo` on this plan's file as a process of its own."""
        return subprocess.run(
            self.argv(*arguments),
            env=os.environ | environment,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def argv(self, *arguments: str) -> tuple[str, ...]:
        return (sys.executable, "-m", "flows.cli", "--plans", str(self.file), *arguments)

    @staticmethod
    def _finished(state: State[Any]) -> str:
        state.result()
        return state.message or ""


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(each) for each in value) + "]"
    return json.dumps(value)
