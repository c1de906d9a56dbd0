"""Which host an address means."""

import ipaddress
import socket

FOREIGN_ADDRESS = "192.0.2.1"  # of RFC 5737, which is nobody's


def is_this_host(host: str) -> bool:
    """Return whether `host` is this machine: a name of it, or what means an address of its interfaces."""
    host = host.strip("[]").rstrip(".").lower()
    own = socket.gethostname().lower()
    if host in (own, own.partition(".")[0]):
        return True
    if is_loopback(host):
        return True
    # where foreign addresses may be bound as well, being bound proves nothing
    addresses = () if not host or _is_own(socket.AF_INET, (FOREIGN_ADDRESS, 0)) else _addresses(host)
    return any(_is_own(family, address) for family, address in addresses)


def is_loopback(host: str) -> bool:
    """Return whether what is sent to `host` cannot leave this machine, by its spelling alone."""
    host = host.strip("[]").rstrip(".").lower()
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _addresses(host: str) -> set[tuple[int, tuple[object, ...]]]:
    """Return the families and socket addresses of a host; none if its name means nothing here."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return set()
    return {(family, address) for family, _, _, _, address in found}


def _is_own(family: int, address: tuple[object, ...]) -> bool:
    """Return whether a socket can be bound to an address, as to this machine's own alone."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind(address)
    except OSError:
        return False
    return True
