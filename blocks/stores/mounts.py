"""Which file system a directory lies on, as /proc/self/mountinfo tells it."""

import os
import re
from pathlib import Path, PurePosixPath

MOUNTS = Path("/proc/self/mountinfo")
NETWORK_FILE_SYSTEMS = {
    "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fuse.ceph", "fuse.davfs", "fuse.davfs2",
    "fuse.gcsfuse", "fuse.glusterfs", "fuse.goofys", "fuse.mount-s3", "fuse.rclone", "fuse.s3fs",
    "fuse.smbnetfs", "fuse.sshfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4",
    "ocfs2", "orangefs", "pvfs2", "smb3", "smbfs",
}  # fmt: skip
_ESCAPED = re.compile(r"\\([0-7]{3})")


def is_on_network(directory: Path) -> bool:
    """Return whether a directory lies on another host's disk, as far as this system can tell."""
    try:
        mounts = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return False
    return file_system(mounts, os.path.realpath(directory)) in NETWORK_FILE_SYSTEMS


def file_system(mounts: str, path: str) -> str:
    """Return the type of the file system that an absolute path without links lies on, "" if none is told.

    Of mounts on one place the last hides the others.

    Source: proc(5), /proc/pid/mountinfo.
    """
    found, depth = "", -1
    for line in mounts.splitlines():
        mount, separator, kind = line.partition(" - ")
        fields = mount.split(" ")
        if not separator or len(fields) < 6:
            continue
        point = PurePosixPath(_ESCAPED.sub(lambda escape: chr(int(escape[1], 8)), fields[4]))
        if PurePosixPath(path).is_relative_to(point) and len(point.parts) >= depth:
            found, depth = kind.split(" ")[0], len(point.parts)
    return found
