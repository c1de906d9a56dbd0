"""A backup's folder on a local store, and what its owner, or whoever has the public key too, can do to it."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blocks.compression import compressed, decompressed
from flows.core import manifest as manifests
from flows.core.manifest import Manifest
from flows.core.naming import FACTS_ARCHIVE, GLOBALS_ARCHIVE, MAIN_ARCHIVE, MANIFEST_NAME, BackupId
from tests.servers import keys
from tests.servers.keys import SampleKey

Document = dict[str, Any]
ARCHIVES = (MAIN_ARCHIVE, GLOBALS_ARCHIVE, FACTS_ARCHIVE)


@dataclass(frozen=True)
class StoredBackup:
    """A backup's folder; every change of an archive can be made good in the manifest and in the facts."""

    folder: Path

    @property
    def backup_id(self) -> BackupId:
        return BackupId(self.folder.name)

    @property
    def manifest_file(self) -> Path:
        return self.folder / MANIFEST_NAME

    def path(self, name: str) -> Path:
        return self.folder / name

    def under_another_id(self, identifier: str) -> "StoredBackup":
        """Return a copy beside it whose manifest tells another id; its facts still tell the first."""
        copy = StoredBackup(self.folder.with_name(identifier))
        shutil.copytree(self.folder, copy.folder)
        copy.edit_manifest(lambda document: document.update(backup_id=identifier))
        return copy

    def edit_manifest(self, change: Callable[[Document], object]) -> None:
        """Change the manifest, and its checksum so that it fits again."""
        document = json.loads(self.manifest_file.read_bytes())
        change(document)
        self.manifest_file.write_bytes(manifests.encode(Manifest.model_validate(document)))

    def edit_facts(self, change: Callable[[Document], object]) -> None:
        """Change the facts, and the manifest so that it fits again."""
        facts = json.loads(opened(self.path(FACTS_ARCHIVE)))
        change(facts)
        self.path(FACTS_ARCHIVE).write_bytes(sealed(json.dumps(facts).encode()))
        self.tell()

    def tell(self) -> None:
        """Let the manifest tell the sizes and checksums of the archives that are there now."""

        def tell(document: Document) -> None:
            for archive in document["archives"]:
                body = self.path(archive["name"]).read_bytes()
                archive |= {"size_bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}

        self.edit_manifest(tell)

    def encrypt_for(self, key: SampleKey) -> None:
        """Encrypt every archive for another key, and let everything fit again."""
        plain = {name: opened(self.path(name)) for name in ARCHIVES}
        facts = json.loads(plain.pop(FACTS_ARCHIVE))
        for name, body in plain.items():
            self.path(name).write_bytes(sealed(body, key))
            facts["archives"][name] = hashlib.sha256(self.path(name).read_bytes()).hexdigest()
        self.path(FACTS_ARCHIVE).write_bytes(sealed(json.dumps(facts).encode(), key))
        self.tell()

    def bind(self) -> None:
        """Let the facts tell the checksums of the other archives that are there now."""

        def bind(facts: Document) -> None:
            for name in facts["archives"]:
                facts["archives"][name] = hashlib.sha256(self.path(name).read_bytes()).hexdigest()

        self.edit_facts(bind)


def sealed(plain: bytes, key: SampleKey | None = None) -> bytes:
    """Compress and encrypt as a backup does."""
    public_file = (key or keys.normal()).public_file
    recipient = ("--trust-model", "always", "--recipient-file", str(public_file))
    return _gpg(*recipient, "--compress-algo", "none", "--encrypt", stdin=b"".join(compressed([plain])))


def opened(path: Path) -> bytes:
    """Return what an archive, or a verification's report, holds in the clear."""
    return b"".join(decompressed([_gpg("--decrypt", stdin=path.read_bytes())]))


def _gpg(*arguments: str, stdin: bytes) -> bytes:
    command = ("gpg", "--homedir", str(keys.normal().homedir), "--batch", "--quiet", *arguments)
    return subprocess.run(command, input=stdin, check=True, capture_output=True).stdout
