"""The calls that make and start a scratch server: pure functions to a `Command`."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from blocks.pgtools import ServerPrograms
from blocks.process import Command
from blocks.scratch_directory import Account

NOTHING: Mapping[str, str] = MappingProxyType({})
PORT = 5432  # nobody listens on it: it only names the socket

_FAST_AND_FORGETFUL = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "30min",
    "shared_buffers": "128MB",
    "maintenance_work_mem": "128MB",
    "autovacuum": "off",
    "jit": "off",
}
_APART = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "ssl": "off",
    "max_logical_replication_workers": "0",
    "dynamic_shared_memory_type": "mmap",  # in the data directory: a killed server leaves nothing elsewhere
    "restart_after_crash": "off",
}
# The log holds no statement and no row's value, and stays in our memory.
_DISCREET = {
    "log_destination": "stderr",
    "logging_collector": "off",
    "log_statement": "none",
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_checkpoints": "off",
    "log_line_prefix": "",
}


def initdb_command(programs: ServerPrograms, data: Path, superuser: str, account: Account | None) -> Command:
    """initdb of an empty cluster in the locale C; databases bring their own."""
    options = (
        f"--pgdata={data}",
        f"--username={superuser}",
        "--encoding=UTF8",
        "--locale=C",
        "--auth-local=peer",
        "--auth-host=reject",
        "--no-sync",
        "--no-instructions",
    )
    return _as_server((str(programs.initdb), *options), programs, account)


def server_command(
    programs: ServerPrograms,
    data: Path,
    socket_directory: Path,
    account: Account | None,
    *,
    jobs: int,
    preload: Mapping[str, str] = NOTHING,
) -> Command:
    """postgres in the foreground, for `jobs` restoring connections and a few of our own.

    Args:
        preload: Settings that load libraries, as `preload_settings` returns them.
    """
    quoted = str(socket_directory).replace('"', '""')
    room = {
        "unix_socket_directories": f'"{quoted}"',
        "max_connections": str(2 * jobs + 10),
        "max_locks_per_transaction": "1024",  # 10,000 tables in one transaction
    }
    # those of the restored database would run at our own log-ins
    silent = {"event_triggers": "off"} if programs.major >= 17 else {}
    settings = _FAST_AND_FORGETFUL | _APART | _DISCREET | room | silent | dict(preload)
    options = (f"--{name}={value}" for name, value in settings.items())
    return _as_server((str(programs.postgres), "-D", str(data), *options), programs, account)


def _as_server(argv: tuple[str, ...], programs: ServerPrograms, account: Account | None) -> Command:
    identity = (account.uid, account.gid) if account else (None, None)
    environment = {"TZ": "UTC", **programs.environment}
    return Command(argv, environment, uid=identity[0], gid=identity[1], isolated=True)
