"""Places that hold backups: one contract, one file a kind of store."""

from blocks.stores.azure import AzureStore
from blocks.stores.base import PendingUpload, Store, StoredObject
from blocks.stores.gcs import GcsStore
from blocks.stores.local import LocalStore
from blocks.stores.rclone import RcloneStore
from blocks.stores.rsync import RsyncStore
from blocks.stores.s3 import S3Store
from blocks.stores.sftp import SftpStore
from blocks.stores.smb import SmbStore

__all__ = [
    "AzureStore",
    "GcsStore",
    "LocalStore",
    "PendingUpload",
    "RcloneStore",
    "RsyncStore",
    "S3Store",
    "SftpStore",
    "SmbStore",
    "Store",
    "StoredObject",
]
