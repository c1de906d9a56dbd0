"""Whether an S3 server checks what arrives: it is sent a part whose bytes are not those that were signed.

Every part of an upload bears its SHA-256 in the signed header `x-amz-content-sha256`. Amazon refuses a body
that differs; there are servers that do not look.
"""

import base64
import hashlib
import re
from http import HTTPStatus
from typing import Any

from botocore.exceptions import ClientError

from blocks.stores.s3_errors import DAMAGED, answer_of, store_error

_RIGHT, _SIGNED, _SENT = b"as it was signed", b"also as signed", b"not as signed!"
_SENDING = "before-send.s3.UploadPart"
_SECOND_PART = re.compile(r"[?&]partNumber=2(&|$)")
_REFUSALS = (HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN)


def refuses_changed_parts(client: Any, place: dict[str, str], options: dict[str, str]) -> bool:
    """Return whether a server refuses a part that was changed on its way, and takes one that was not.

    Args:
        place: Bucket and Key; nothing becomes visible there, and the upload is aborted.
        options: What an upload there is begun with: encryption, checksums.
    """

    def change(request: Any, **_: Any) -> None:
        """Put other bytes of the same length into the second part, behind its signature."""
        if _SECOND_PART.search(request.url):
            request.body = _SENT

    upload = place | {"UploadId": client.create_multipart_upload(**place, **options)["UploadId"]}
    checksums = "ChecksumAlgorithm" in options
    client.meta.events.register(_SENDING, change)
    try:
        return _takes(client, upload, 1, _RIGHT, checksums) and not _takes(
            client, upload, 2, _SIGNED, checksums
        )
    finally:
        client.meta.events.unregister(_SENDING, change)
        client.abort_multipart_upload(**upload)


def _takes(client: Any, upload: dict[str, str], number: int, body: bytes, checksums: bool) -> bool:
    told = {"ChecksumSHA256": base64.b64encode(hashlib.sha256(body).digest()).decode()} if checksums else {}
    try:
        client.upload_part(**upload, PartNumber=number, Body=body, **told)
    except ClientError as error:
        if not _is_refusal(error):
            raise
        return False
    return True


def _is_refusal(error: ClientError) -> bool:
    code, status = answer_of(error)
    return code in DAMAGED or (status in _REFUSALS and not store_error(error, "").transient)
