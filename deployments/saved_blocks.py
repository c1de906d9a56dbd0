"""Blocks in Prefect's storage: registered and saved only if they are not there already, just as they are."""

from prefect.blocks.core import Block
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import BlockDocument
from prefect.exceptions import ObjectNotFound
from pydantic import BaseModel

from blocks.errors import WorldError
from flows.core.errors import BackupError


def register(client: SyncPrefectClient, kind: type[Block]) -> str:
    """Let Prefect know a type of block; return whether that created, updated or left it unchanged."""
    before = _registered(client, kind)
    kind.register_type_and_schema()
    if before is None:
        return "created"
    return "unchanged" if before == _registered(client, kind) else "updated"


def save(client: SyncPrefectClient, block: Block, name: str) -> str:
    """Store a block under a name; return whether that created, updated or left it unchanged."""
    try:
        document = client.read_block_document_by_name(name, block.get_block_type_slug())
    except ObjectNotFound:
        block.save(name)
        return "created"
    if _holds(document, block):
        return "unchanged"
    block.save(name, overwrite=True)
    return "updated"


def names(client: SyncPrefectClient, kind: type[Block]) -> set[str]:
    """Return the names under which blocks of a type are stored."""
    documents = client.read_block_documents_by_type(kind.get_block_type_slug())
    return {document.name for document in documents if document.name}


def _registered(client: SyncPrefectClient, kind: type[Block]) -> object:
    """Return what tells one version of a registered type from another; None if it is not there."""
    try:
        found = client.read_block_type_by_slug(kind.get_block_type_slug())
    except ObjectNotFound:
        return None
    schema = client.get_most_recent_block_schema_for_block_type(found.id)
    return found.updated, schema.checksum if schema else ""


def _holds(document: BlockDocument, block: Block) -> bool:
    """Return whether a stored block is this one; what does not fit the type's present fields is not."""
    try:
        stored = type(block).model_validate(document.data)
    except (ValueError, BackupError, WorldError):
        return False
    return _fields(stored) == _fields(block)


def _fields(value: object) -> object:
    """Return a model's fields, nested ones too, secrets included and nothing of Prefect's own."""
    if isinstance(value, BaseModel):
        return {name: _fields(getattr(value, name)) for name in type(value).model_fields}
    return [_fields(each) for each in value] if isinstance(value, list) else value
