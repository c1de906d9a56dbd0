"""Programs without a network: in a namespace of its own, a program reaches nobody and nobody reaches it.

For a server that runs what others wrote. The kernel alone decides whether it can be had: root may make one,
an ordinary user only where user namespaces are allowed to him (often not in a container). Sockets that lie
in a directory are no part of a network: that is how a server's clients, we, still come in.
"""

from dataclasses import replace

from blocks.errors import ProgramError
from blocks.process import Command, run

_PROBE_SECONDS = 10.0


def without_network(command: Command) -> Command:
    """Return the same program in a network namespace where not even the loopback device is up.

    `unshare` becomes the program, so the process that is started stays the one to signal. Root makes the
    namespace before it becomes the command's user. An ordinary user needs a user namespace around it, with
    himself as the only user in it: then he still is who he was, to the program and to those who look at it.
    """
    if command.uid is None:
        how = ("--user", "--map-current-user", "--net")
    else:
        group = command.uid if command.gid is None else command.gid
        how = ("--net", f"--setuid={command.uid}", f"--setgid={group}")
    return replace(command, argv=("unshare", *how, "--", *command.argv), uid=None, gid=None)


def can_do_without_network(command: Command) -> bool:
    """Tell whether the user that `command` runs as can be kept off the network here; it is tried."""
    probe = without_network(replace(command, argv=("true",)))
    try:
        return run(probe, timeout_seconds=_PROBE_SECONDS).status == 0
    except ProgramError:
        return False
