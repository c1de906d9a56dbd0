"""The world: one module an outside system; nothing here knows of backups as such.

Prefect registers every configurable block from here: `prefect block register -m blocks`.
"""

from blocks.alerts import SlackAlert
from blocks.docker_client import DockerPostgresClient
from blocks.gpg_keys import GpgRecipients, GpgSecretKey
from blocks.postgres import PostgresDatabase
from blocks.stores import (
    AzureStore,
    GcsStore,
    LocalStore,
    RcloneStore,
    RsyncStore,
    S3Store,
    SftpStore,
    SmbStore,
)

__all__ = [
    "AzureStore",
    "DockerPostgresClient",
    "GcsStore",
    "GpgRecipients",
    "GpgSecretKey",
    "LocalStore",
    "PostgresDatabase",
    "RcloneStore",
    "RsyncStore",
    "S3Store",
    "SftpStore",
    "SlackAlert",
    "SmbStore",
]
