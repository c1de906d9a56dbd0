"""Which scratch server a plan's backups are restored into, as its `scratch` says."""

from collections.abc import Collection
from pathlib import Path

from blocks import pgtools
from blocks.scratch import ScratchServer
from blocks.scratch_container import container_launcher
from blocks.scratch_roles import Scratch
from blocks.scratch_server import BorrowedScratch
from flows.verify_settings import ScratchSettings


def scratch_for(
    settings: ScratchSettings,
    *,
    system_identifier: str,
    dbname: str,
    major: int,
    root: Path,
    preload: Collection[str] = (),
) -> Scratch:
    """Return the scratch server, not yet started; use it as a context manager.

    Args:
        system_identifier: The source's, which must not be the scratch server; so is `dbname`.
        major: The source's.
        root: Where one that is started here lies below.
        preload: The libraries that such a one loads as it starts.

    Raises:
        ScratchLacks: The host has no server of the source's major, or no image of it.
    """
    if settings.kind == "server":
        return BorrowedScratch(
            settings.database,
            source_identifier=system_identifier,
            source_dbname=dbname,
            source_major=major,
        )
    if settings.kind == "container":
        launcher = container_launcher(settings.image, settings.program, major)
        return ScratchServer(launcher, root, preload=preload)
    return ScratchServer(pgtools.find_server(major), root, preload=preload)
