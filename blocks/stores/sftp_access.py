"""How an SFTP server is reached: whose key it must show, who we are, and time limits.

Sessions are kept and used again, one for each thread that works at the same time.
"""

import logging
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from paramiko.pkey import PKey, UnknownKeyType
from paramiko.sftp import SFTPError
from paramiko.ssh_exception import AuthenticationException, IncompatiblePeer, SSHException
from paramiko.transport import Transport

from blocks.errors import ConfigurationError, StoreError, StoreForbidden
from blocks.stores.sftp_errors import translated
from blocks.stores.sftp_session import Session
from blocks.stores.ssh_trust import HostKey, Trust, parse_known_hosts

KEEPALIVE_SECONDS = 30
KNOWN_HOSTS_FILES = ("~/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts")
LOG_NAME = "blocks.stores.sftp.transport"
UNKNOWN_HINT = (
    "compare what `ssh-keyscan HOST | ssh-keygen -lf -` prints with the server's own "
    "`ssh-keygen -lf KEY.pub`, then set host_key to it, or add the key to a known_hosts file"
)
CHANGED_HINT = "if nobody changed the server's key, somebody stands in between; otherwise correct host_key"
LOGIN_HINT = "see user, key_file, password, and the server's authorized_keys"

# errors are raised, not logged
logging.getLogger(LOG_NAME).setLevel(logging.CRITICAL + 1)


@dataclass(frozen=True)
class Access:
    """All that a connection needs; `password` and `passphrase` are in the clear, for this moment."""

    host: str
    port: int
    user: str
    trust: Trust
    key_file: str
    passphrase: str = field(repr=False)
    password: str = field(repr=False)
    timeout_seconds: float


class Sessions:
    """Open sessions of one server that nobody uses at the moment."""

    def __init__(self) -> None:
        self._idle: list[Session] = []
        self._lock = threading.Lock()
        weakref.finalize(self, _close_all, self._idle)

    @contextmanager
    def borrowed(self, access: Callable[[], Access], what: str) -> Iterator[Session]:
        """Lend a session; it is closed unless the block ended well, or by our error on an open line."""
        session = self._taken() or _opened(access(), what)
        try:
            yield session
        except BaseException as error:
            if isinstance(error, StoreError) and session.is_open:
                self._give_back(session)
            else:
                session.close()
            raise
        self._give_back(session)

    def _taken(self) -> Session | None:
        while self._idle:
            with self._lock:
                session = self._idle.pop() if self._idle else None
            if session is not None and session.is_open:
                return session
            if session is not None:
                session.close()
        return None

    def _give_back(self, session: Session) -> None:
        with self._lock:
            self._idle.append(session)


def trust_in(known_hosts_file: str, host: str, port: int) -> Trust:
    """Return which keys known_hosts names for a server: one file, or the usual ones if it is empty."""
    texts = []
    for name in (known_hosts_file,) if known_hosts_file else KNOWN_HOSTS_FILES:
        try:
            texts.append(Path(name).expanduser().read_text(errors="replace"))
        except OSError as error:
            if known_hosts_file:
                raise ConfigurationError(f"cannot read known_hosts_file {name}: {error.strerror}") from None
    return parse_known_hosts(texts, host, port)


def load_key(path: str, passphrase: str) -> PKey:
    """Return a private key; raise `ConfigurationError` where it cannot be used."""
    try:
        # annotated as text, but the library wants bytes
        return PKey.from_path(Path(path).expanduser(), passphrase.encode() or None)  # type: ignore[arg-type]
    except OSError as error:
        raise ConfigurationError(f"cannot read the SSH key {path}: {error.strerror}") from None
    except TypeError:
        hint = "set key_passphrase" if not passphrase else "leave key_passphrase empty"
        raise ConfigurationError(f"the SSH key {path} and its passphrase do not go together", hint) from None
    except (ValueError, SSHException, UnknownKeyType, UnsupportedAlgorithm):
        raise ConfigurationError(
            f"the SSH key {path} cannot be used",
            "it must be an Ed25519, ECDSA or RSA private key, and key_passphrase its own",
        ) from None


def _opened(access: Access, what: str) -> Session:
    key = load_key(access.key_file, access.passphrase) if access.key_file else None
    shown = []
    for algorithms in access.trust.offers:
        if transport := _greeted(access, algorithms, what):
            host_key = _host_key(transport)
            if access.trust.accepts(host_key):
                return _logged_in(transport, access, key, what)
            transport.close()
            shown.append(host_key.fingerprint)
    place = f"{access.host} port {access.port}"
    if not access.trust.offers:
        raise StoreError(f"{what}: the host key of {place} is not known here", UNKNOWN_HINT)
    said = f"the host key {' and '.join(shown)}, which is not" if shown else "no host key of the kind of"
    raise StoreError(f"{what}: {place} shows {said} the one that is known", CHANGED_HINT)


def _greeted(access: Access, algorithms: tuple[str, ...], what: str) -> Transport | None:
    """Return an encrypted line on which nobody is logged in, or None if the server has no such host key."""
    with translated(what):
        connection = socket.create_connection((access.host, access.port), access.timeout_seconds)
        transport = Transport(_Impatient(connection, access.timeout_seconds))  # type: ignore[arg-type]
        transport.set_log_channel(LOG_NAME)
        transport.banner_timeout = transport.handshake_timeout = access.timeout_seconds
        transport.get_security_options().key_types = algorithms
        try:
            with _closed_after(access.timeout_seconds, transport):
                transport.start_client(timeout=access.timeout_seconds)
                transport.get_remote_server_key()
        except IncompatiblePeer:
            transport.close()
            return None
        except BaseException:
            transport.close()
            raise
        return transport


def _host_key(transport: Transport) -> HostKey:
    key = transport.get_remote_server_key()
    return HostKey(key.get_name(), key.asbytes())


def _logged_in(transport: Transport, access: Access, key: PKey | None, what: str) -> Session:
    try:
        with translated(what), _closed_after(access.timeout_seconds, transport):
            _authenticate(transport, access, key, what)
            session = _sftp(transport, access, what)
    except BaseException:
        transport.close()
        raise
    transport.set_keepalive(KEEPALIVE_SECONDS)
    return session


def _authenticate(transport: Transport, access: Access, key: PKey | None, what: str) -> None:
    """Show the key, and give the password if there is no key or the server wants both."""
    wanted: list[str] = []
    try:
        if key is not None:
            wanted = transport.auth_publickey(access.user, key)
        if access.password and (wanted or key is None):
            wanted = transport.auth_password(access.user, access.password)
    except AuthenticationException as error:
        # a line that broke meanwhile is told by the same exception
        if not transport.is_active():
            raise EOFError from None
        wanted = getattr(error, "allowed_types", [])
        said = f", which wants {' or '.join(wanted)}" if wanted else ""
        raise StoreForbidden(f"{what}: the server refused the user {access.user}{said}", LOGIN_HINT) from None
    if wanted:
        raise StoreForbidden(f"{what}: the server wants {' or '.join(wanted)} as well", LOGIN_HINT)


def _sftp(transport: Transport, access: Access, what: str) -> Session:
    try:
        channel = transport.open_session(timeout=access.timeout_seconds)
        channel.settimeout(access.timeout_seconds)
        channel.invoke_subsystem("sftp")
        return Session(channel, transport)
    except (SSHException, SFTPError):
        if not transport.is_active():
            raise
        raise StoreError(
            f"{what}: the server offers the user {access.user} no SFTP",
            "give sshd_config a line: Subsystem sftp internal-sftp",
        ) from None


@contextmanager
def _closed_after(seconds: float, transport: Transport) -> Iterator[None]:
    """Close the line unless the block ends in time: not every wait of paramiko's has a limit."""
    timer = threading.Timer(seconds, transport.close)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class _Impatient:
    """A socket whose writing fails when nothing is taken for too long: paramiko would try for ever."""

    def __init__(self, connection: socket.socket, limit_seconds: float) -> None:
        self._connection = connection
        self._limit_seconds = limit_seconds
        self._stuck_since: float | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def send(self, data: bytes) -> int:
        try:
            sent = self._connection.send(data)
        except TimeoutError:
            self._stuck_since = self._stuck_since or time.monotonic()
            if time.monotonic() - self._stuck_since > self._limit_seconds:
                raise ConnectionAbortedError from None
            raise
        self._stuck_since = None
        return sent


def _close_all(sessions: list[Session]) -> None:
    for session in sessions:
        session.close()
