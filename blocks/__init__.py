"""The world: one module an outside system; nothing here knows of backups as such.

Prefect registers every configurable block from here: `prefect block register -m blocks`.
"""

from blocks.alerts import SlackAlert
from blocks.docker_client import DockerPostgresClient
from blocks.gpg_keys import GpgRecipients, GpgSecretKey
from blocks.postgres import PostgresDatabase
from blocks.stores import LocalStore, S3Store

__all__ = [
    "DockerPostgresClient",
    "GpgRecipients",
    "GpgSecretKey",
    "LocalStore",
    "PostgresDatabase",
    "S3Store",
    "SlackAlert",
]
