"""One resumable upload: pieces are sent one by one, and only the last of them makes the object.

Google's own writer finishes the object when it is forgotten, as after an error; hence this one.

Source: https://cloud.google.com/storage/docs/performing-resumable-uploads
"""

import base64
import contextlib
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

from blocks.errors import StoreError, StoreUnreachable
from blocks.references import remember
from blocks.stores.extras import imported
from blocks.stores.gcs_errors import answered, damaged, translated

ATTEMPTS = 5
PAUSE_SECONDS = 0.5
_MADE = (200, 201)
_RESUME = 308
_FORGOTTEN = (404, 410)


class Upload:
    """An upload under way; what it is given is sent when it fills a piece, or at the end.

    Args:
        session: Of requests, with credentials.
        address: Where uploads into the bucket begin.
        limits: Seconds to connect, and to wait for an answer to a piece.
        piece_bytes: A multiple of 256 KiB.
    """

    def __init__(
        self, session: Any, address: str, limits: tuple[float, float], piece_bytes: int, what: str
    ) -> None:
        self._session = session
        self._address = address
        self._limits = limits
        self._piece_bytes = piece_bytes
        self._what = what
        self._held = bytearray()
        self._sent_bytes = 0
        self._checksum = imported("google_crc32c", "gcp").Checksum()

    def write(self, chunk: bytes) -> None:
        self._checksum.update(chunk)
        self._held += chunk
        while len(self._held) > self._piece_bytes:
            self._send(self._piece_bytes)

    def finish(self) -> None:
        """Send what is left, with which the object is made."""
        self._send(len(self._held), is_last=True)

    def abort(self) -> None:
        """Forget the upload; the server would within a week."""
        with contextlib.suppress(StoreError), translated(self._what):
            self._session.delete(self._address, timeout=self._limits)

    def _send(self, size: int, *, is_last: bool = False) -> None:
        """Send the first bytes held; after a broken line go on where the server says that it is."""
        end = self._sent_bytes + size
        for attempt in range(ATTEMPTS):
            with (
                contextlib.suppress(StoreUnreachable) if attempt + 1 < ATTEMPTS else contextlib.nullcontext()
            ):
                if attempt:
                    time.sleep(PAUSE_SECONDS * attempt)
                if (attempt and self._is_made()) or self._put(end, is_last=is_last):
                    return

    def _put(self, end: int, *, is_last: bool) -> bool:
        """Return True if all up to `end` has arrived."""
        body = bytes(self._held[: end - self._sent_bytes])
        span = f"{self._sent_bytes}-{end - 1}" if body else "*"
        headers = {"Content-Range": f"bytes {span}/{end if is_last else '*'}"}
        if is_last:
            headers["X-Goog-Hash"] = f"crc32c={self._crc32c}"
        with translated(self._what):
            answer = self._session.put(self._address, data=body, headers=headers, timeout=self._limits)
        if is_last and answer.status_code in _MADE:
            return self._check(answer)
        self._arrived(answer)
        if self._sent_bytes < end or is_last:
            raise StoreUnreachable(f"{self._what}: the server took only a part of what was sent")
        return True

    def _is_made(self) -> bool:
        """Ask how far the server is; return True if it has made the object, and its answer got lost."""
        with translated(self._what):
            answer = self._session.put(
                self._address, headers={"Content-Range": "bytes */*"}, timeout=self._limits
            )
        if answer.status_code in _MADE:
            return self._check(answer)
        self._arrived(answer)
        return False

    def _arrived(self, answer: Any) -> None:
        """Let go of what the server has."""
        if answer.status_code in _FORGOTTEN:
            raise StoreUnreachable(f"{self._what}: the server has forgotten the upload", "try again")
        if answer.status_code != _RESUME:
            raise answered(answer, self._what)
        with _understood(self._what):
            there = int(answer.headers.get("Range", "bytes=0--1").partition("-")[2]) + 1
        if not self._sent_bytes <= there <= self._sent_bytes + len(self._held):
            raise StoreError(f"{self._what}: the server lost what it had confirmed")
        del self._held[: there - self._sent_bytes]
        self._sent_bytes = there

    def _check(self, answer: Any) -> bool:
        with _understood(self._what):
            told = answer.json().get("crc32c", self._crc32c)
        if told != self._crc32c:
            raise damaged(self._what)
        return True

    @property
    def _crc32c(self) -> str:
        return written(self._checksum)


def written(checksum: Any) -> str:
    """Return a CRC32C as Google writes it."""
    return base64.b64encode(checksum.digest()).decode()


def begin(
    session: Any,
    endpoint_url: str,
    bucket: str,
    name: str,
    *,
    storage_class: str,
    limits: tuple[float, float],
    piece_limits: tuple[float, float],
    piece_bytes: int,
    what: str,
) -> Upload:
    """Begin an upload; whoever knows its address may write, so it is kept out of every text."""
    question = urlencode({"uploadType": "resumable", "name": name}, quote_via=quote)
    with translated(what):
        answer = session.post(
            f"{endpoint_url}/upload/storage/v1/b/{quote(bucket, safe='')}/o?{question}",
            json={"storageClass": storage_class} if storage_class else {},
            headers={"X-Upload-Content-Type": "application/octet-stream"},
            timeout=limits,
        )
    if answer.status_code not in _MADE:
        raise answered(answer, what)
    with _understood(what):
        address = remember(answer.headers["Location"])
    return Upload(session, address, piece_limits, piece_bytes, what)


@contextlib.contextmanager
def _understood(what: str) -> Iterator[None]:
    """Turn an answer that is not Google's, as of something in between, into a `StoreUnreachable`."""
    try:
        yield
    except (KeyError, ValueError, AttributeError):
        raise StoreUnreachable(
            f"{what}: the answer is not one of Google's", "see endpoint_url, and what stands in between"
        ) from None
