"""Places that hold backups: one contract, one file a kind of store."""

from blocks.stores.base import PendingUpload, Store, StoredObject
from blocks.stores.local import LocalStore
from blocks.stores.s3 import S3Store

__all__ = ["LocalStore", "PendingUpload", "S3Store", "Store", "StoredObject"]
