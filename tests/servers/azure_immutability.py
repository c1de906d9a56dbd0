"""Versions and immutability in front of Azurite, which knows neither: a relay that keeps count of both.

It follows Azure's documentation (version-level WORM policies, container-level WORM policies, blob
versioning) and was never compared with Azure. Bytes stay in Azurite; of a version that is not current only
its being there is kept.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import httpx

from blocks.stores import AzureStore
from tests.servers.azure import ACCOUNT_NAME, AzureServer

POLICY_END, POLICY_MODE = "x-ms-immutability-policy-until-date", "x-ms-immutability-policy-mode"
_OF_THE_LINE = {"connection", "content-length", "host", "keep-alive", "transfer-encoding"}


@dataclass
class Version:
    """A version of a blob, and what protects it."""

    version_id: str
    until: datetime | None = None
    mode: str = ""
    held: bool = False

    @property
    def refusal(self) -> str:
        """Return the code with which its deletion is refused, if it is."""
        if self.held:
            return "BlobImmutableDueToLegalHold"
        return "BlobImmutableDueToPolicy" if self.until and self.until > datetime.now(UTC) else ""

    @property
    def headers(self) -> dict[str, str]:
        found = {"x-ms-version-id": self.version_id, "x-ms-legal-hold": str(self.held).lower()}
        if self.until:
            found |= {POLICY_END: format_datetime(self.until, usegmt=True), POLICY_MODE: self.mode}
        return found


@dataclass
class Container:
    """A container's rules, and the versions of its blobs, the oldest first.

    Args:
        version_level: Whether single versions can be locked.
        kept: The code with which every deletion is refused, of a policy or a hold of the container itself.
        hides: Whether deleting a locked current version hides it, as the documentation can be read too.
    """

    name: str
    version_level: bool = False
    kept: str = ""
    hides: bool = False
    current: dict[str, Version] = field(default_factory=dict)
    previous: dict[str, list[Version]] = field(default_factory=dict)

    def versions(self, name: str) -> list[Version]:
        return [*self.previous.get(name, ()), *([self.current[name]] if name in self.current else ())]

    def all_names(self) -> list[str]:
        """Return the name of every version that there is."""
        names = sorted({*self.current, *self.previous})
        return [name for name in names for _ in self.versions(name)]

    def let_locks_end(self) -> None:
        for name in self.all_names():
            for version in self.versions(name):
                version.until = version.until and datetime.now(UTC) - timedelta(seconds=1)


@dataclass(frozen=True)
class Request:
    method: str
    container: str
    name: str
    query: dict[str, str]
    headers: dict[str, str]


class ImmutableAzure:
    """A running relay; `requests` holds what was asked of it."""

    def __init__(self, behind: AzureServer) -> None:
        self.behind = behind
        self.containers: dict[str, Container] = {}
        self.requests: list[Request] = []
        self.lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.relay = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/{ACCOUNT_NAME}"

    def make_container(self, name: str, *, version_level: bool = False) -> Container:
        self.behind.client.create_container(name)
        self.containers[name] = Container(name, version_level)
        return self.containers[name]

    def store(self, container: str, **fields: object) -> AzureStore:
        return self.behind.store(container, **({"endpoint_url": self.endpoint_url} | fields))

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    relay: ImmutableAzure
    daemon_threads = True
    ids = 0

    def new_id(self) -> str:
        """Return an id that sorts by time, as Azure's do."""
        self.ids += 1
        return f"2026-01-01T00:00:00.{self.ids:07}Z"


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def _relay(self) -> None:
        relay, parts = self.server.relay, urlsplit(self.path)
        _, _, place = parts.path[1:].partition("/")
        container, _, name = unquote(place).partition("/")
        query = {word: values[-1] for word, values in parse_qs(parts.query).items()}
        headers = {word.lower(): text for word, text in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        asked = Request(self.command, container, name, query, headers)
        with relay.lock:
            relay.requests.append(asked)
            self._answer(asked, relay.containers[container], body)

    def _answer(self, asked: Request, container: Container, body: bytes) -> None:
        if asked.method == "DELETE" and asked.name:
            self._delete(asked, container, body)
        elif "versions" in asked.query.get("include", ""):
            self._list_versions(asked, container)
        elif asked.query.get("comp") == "immutabilityPolicies" and container.version_level:
            self._set_policy(asked, container)
        elif asked.method == "PUT" and (
            asked.query.get("comp") == "blocklist" or "x-ms-blob-type" in asked.headers
        ):
            self._write(asked, container, body)
        elif asked.query.get("restype") == "container" and "comp" not in asked.query:
            self._pass_on(asked, self._ask(asked, body), _rules(container))
        elif asked.method == "HEAD" and (version := container.current.get(asked.name)):
            self._pass_on(asked, self._ask(asked, body), version.headers)
        else:
            self._pass_on(asked, self._ask(asked, body), {})

    def _write(self, asked: Request, container: Container, body: bytes) -> None:
        if container.kept and asked.name in container.current:
            self._refuse(409, container.kept)
            return
        version = Version(self.server.new_id())
        if POLICY_END in asked.headers and container.version_level:
            # a policy that comes with the bytes can be changed until it is set once more
            version.until, version.mode = parsedate_to_datetime(asked.headers[POLICY_END]), "unlocked"
        answer = self._ask(asked, body)
        if answer.is_success:
            self._retire(asked.name, container)
            container.current[asked.name] = version
        self._pass_on(asked, answer, version.headers)

    def _set_policy(self, asked: Request, container: Container) -> None:
        version = container.current[asked.name]
        until, mode = parsedate_to_datetime(asked.headers[POLICY_END]), asked.headers[POLICY_MODE].lower()
        if version.mode == "locked" and (mode != "locked" or (version.until and until < version.until)):
            self._refuse(409, "BlobImmutableDueToPolicy")
            return
        version.until, version.mode = until, mode
        self._send(200, version.headers)

    def _delete(self, asked: Request, container: Container, body: bytes) -> None:
        version_id, current = asked.query.get("versionid"), container.current.get(asked.name)
        if container.kept:
            self._refuse(409, container.kept)
        elif version_id:
            self._delete_version(asked.name, container, version_id)
        elif current and current.refusal and not container.hides:
            self._refuse(409, current.refusal)
        else:
            answer = self._ask(asked, body)
            if answer.is_success:
                self._retire(asked.name, container)
            self._pass_on(asked, answer, {})

    def _delete_version(self, name: str, container: Container, version_id: str) -> None:
        found = next((each for each in container.versions(name) if each.version_id == version_id), None)
        if found is None:
            self._refuse(404, "BlobNotFound")
        elif found is container.current.get(name):
            self._refuse(403, "OperationNotAllowedOnRootBlob")
        elif found.refusal:
            self._refuse(409, found.refusal)
        else:
            container.previous[name].remove(found)
            self._send(202, {})

    def _retire(self, name: str, container: Container) -> None:
        if current := container.current.pop(name, None):
            container.previous.setdefault(name, []).append(current)

    def _list_versions(self, asked: Request, container: Container) -> None:
        names = sorted({*container.current, *container.previous})
        found = (
            _entry(name, version, is_current=version is container.current.get(name))
            for name in names
            if name.startswith(asked.query.get("prefix", ""))
            for version in container.versions(name)
        )
        body = f"<EnumerationResults><Blobs>{''.join(found)}</Blobs><NextMarker/></EnumerationResults>"
        self._send(200, {"Content-Type": "application/xml"}, body.encode())

    def _ask(self, asked: Request, body: bytes) -> httpx.Response:
        """Ask Azurite the same."""
        kept = {word: text for word, text in asked.headers.items() if word not in _OF_THE_LINE}
        address = f"http://127.0.0.1:{self.server.relay.behind.port}{self.path}"
        return httpx.request(asked.method, address, headers=kept, content=body, timeout=30)

    def _pass_on(self, asked: Request, answer: httpx.Response, more: dict[str, str]) -> None:
        headers = {word: text for word, text in answer.headers.items() if word.lower() not in _OF_THE_LINE}
        length = answer.headers.get("content-length", "0") if asked.method == "HEAD" else ""
        self._send(answer.status_code, headers | more, answer.content, length)

    def _refuse(self, status: int, code: str) -> None:
        body = f"<Error><Code>{code}</Code><Message>private words</Message></Error>".encode()
        self._send(status, {"x-ms-error-code": code, "Content-Type": "application/xml"}, body)

    def _send(self, status: int, headers: dict[str, str], body: bytes = b"", length: str = "") -> None:
        self.send_response_only(status)
        for name, text in headers.items():
            self.send_header(name, text)
        self.send_header("Content-Length", length or str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_DELETE = do_HEAD = _relay  # noqa: N815

    def log_message(self, *_: object) -> None:
        return


def _rules(container: Container) -> dict[str, str]:
    return {
        "x-ms-has-immutability-policy": str(container.kept == "BlobImmutableDueToPolicy").lower(),
        "x-ms-has-legal-hold": str(container.kept == "BlobImmutableDueToLegalHold").lower(),
        "x-ms-immutable-storage-with-versioning-enabled": str(container.version_level).lower(),
    }


def _entry(name: str, version: Version, *, is_current: bool) -> str:
    policy = ""
    if version.until:
        end = format_datetime(version.until, usegmt=True)
        policy = (
            f"<ImmutabilityPolicyUntilDate>{end}</ImmutabilityPolicyUntilDate>"
            f"<ImmutabilityPolicyMode>{version.mode}</ImmutabilityPolicyMode>"
        )
    return (
        f"<Blob><Name>{escape(name)}</Name><VersionId>{version.version_id}</VersionId>"
        f"{'<IsCurrentVersion>true</IsCurrentVersion>' if is_current else ''}"
        f"<Properties><BlobType>BlockBlob</BlobType><LegalHold>{str(version.held).lower()}</LegalHold>"
        f"{policy}</Properties></Blob>"
    )


@contextmanager
def immutable_azure(behind: AzureServer) -> Iterator[ImmutableAzure]:
    relay = ImmutableAzure(behind)
    try:
        yield relay
    finally:
        relay.close()
