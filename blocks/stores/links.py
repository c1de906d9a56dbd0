"""Linked directories that lead back up: a listing that entered them would go round in circles."""

import posixpath
from collections.abc import Callable


def leads_up(link: str, real_path: Callable[[str], str]) -> bool:
    """Return whether a linked directory is one that its own path goes through, or lies above one.

    Args:
        real_path: Returns a path without the links in it.
    """
    target, directory = real_path(link), posixpath.dirname(link)
    while directory not in ("", "/"):
        if posixpath.commonpath((real_path(directory), target)) == target:
            return True
        directory = posixpath.dirname(directory)
    return False
