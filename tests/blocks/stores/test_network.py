"""What may stand between any kind of store and its server: silence, private authorities, proxies."""

import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import google.auth
import pytest

from blocks.errors import ConfigurationError, StoreError, StoreUnreachable, WorldError
from blocks.stores import (
    RcloneStore,
    RsyncStore,
    S3Store,
    Store,
    azure_access,
    gcs,
    gcs_access,
    gcs_upload,
    s3_access,
)
from blocks.stores.authorities import authorities_file
from tests.blocks.stores.at_once import failures
from tests.servers.azure import ACCOUNT_NAME, AzureServer
from tests.servers.certificates import make_certificates
from tests.servers.gcs import GcsServer, Tls, start_gcs
from tests.servers.ports import free_port
from tests.servers.rclone import WebdavServer
from tests.servers.relays import proxying, speaking_tls
from tests.servers.rsync import RsyncServer
from tests.servers.s3 import S3Server, broken_line
from tests.servers.sftp import SftpServer

MIB = 1 << 20
LIMIT_SECONDS = 1  # where nothing answers
MOST_SECONDS = 60  # that the uses with this limit may last: less than with the other
PATIENT_SECONDS = 90  # where something does, on a machine that may be slow
# no name server knows it, so that only a proxy leads there; Azure's clients look for the account in it
NAME = f"{ACCOUNT_NAME}.stores.example"
PROXY_USER = "proxy-user:the-proxys-password"
USES: dict[str, Callable[[Store], object]] = {
    "put": lambda store: store.put("plan/put", [b"x"]),
    "create": lambda store: store.create("plan/created", b"x"),
    "get": lambda store: store.read("plan/key"),
    "stat": lambda store: store.stat("plan/key"),
    "list": lambda store: list(store.list()),
    "delete": lambda store: store.delete("plan/key"),
}
VARIABLES = {"AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"}
OVER_HTTP = ["azure", "gcs", "rclone", "s3"]
KINDS = [*OVER_HTTP, "rsync", "rsync_ssh", "sftp"]
_numbers = count()


@dataclass(frozen=True)
class Far:
    """A server of this host, and its stores by whatever address leads there: SCHEME://HOST:PORT.

    Args:
        made: Makes a store of an address and a time limit; all of them look at the same place.
        speaks_tls: If that is asked for; others need somebody in front who does.
    """

    port: int
    made: Callable[[str, float], Store]
    speaks_tls: bool = False

    def store(self, address: str) -> Store:
        return self.made(address, PATIENT_SECONDS)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name in VARIABLES or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def asking_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask once, and wait patiently for that answer."""
    monkeypatch.setattr(s3_access, "RETRIES", 0)
    monkeypatch.setattr(s3_access, "ASKED_TIMES", 1)
    monkeypatch.setattr(s3_access, "ANSWER_SECONDS", PATIENT_SECONDS)
    monkeypatch.setattr(azure_access, "RETRIES", 0)
    monkeypatch.setattr(azure_access, "ASKED_AGAIN", 0)
    monkeypatch.setattr(gcs_access, "PATIENCE", timedelta(seconds=0.1))
    monkeypatch.setattr(gcs_upload, "ATTEMPTS", 1)
    for module in (s3_access, azure_access, gcs_access):
        monkeypatch.setattr(module, "CONNECT_SECONDS", PATIENT_SECONDS)
    for module in (s3_access, azure_access, gcs):
        monkeypatch.setattr(module, "SLOWEST_BYTES_PER_SECOND", 1 << 40)


@pytest.fixture
def impatient(far: Far, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Store]:
    """Make a store that waits for a second; for the tests of silence, when all is prepared."""

    def store(address: str) -> Store:
        # S3's block has no time limit of its own
        monkeypatch.setattr(s3_access, "ANSWER_SECONDS", LIMIT_SECONDS)
        return far.made(address, LIMIT_SECONDS)

    return store


@pytest.fixture
def far_s3(s3_server: S3Server, bucket: str) -> Far:
    return Far(s3_server.port, lambda address, _: s3_server.store(bucket, endpoint_url=address))


@pytest.fixture
def far_azure(azure_server: AzureServer, azure_container: str) -> Far:
    def store(address: str, timeout_seconds: float) -> Store:
        account = "" if ACCOUNT_NAME in address else f"/{ACCOUNT_NAME}"
        return azure_server.store(
            azure_container, endpoint_url=f"{address}{account}", timeout_seconds=timeout_seconds
        )

    return Far(azure_server.port, store)


@pytest.fixture
def far_gcs(certificates: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Far]:
    """A server that is started when its address is known: it tells where uploads are sent."""
    monkeypatch.setattr(google.auth, "default", lambda **_: (gcs_access.no_credentials(), None))
    port = free_port()
    with ExitStack() as stack:

        @cache
        def started(address: str) -> GcsServer:
            if address.startswith("https"):
                server = start_gcs(free_port(), address, Tls(port, *certificates[1:]))
            else:
                server = start_gcs(port, address)
            stack.callback(server.stop)
            server.make_bucket("backups")
            return server

        def store(address: str, timeout_seconds: float) -> Store:
            return started(address).store("backups", endpoint_url=address, timeout_seconds=timeout_seconds)

        yield Far(port, store, speaks_tls=True)


@pytest.fixture
def far_rclone(rclone_server: WebdavServer, connected_rclone_store: RcloneStore) -> Far:
    folder = _folder()

    def store(address: str, timeout_seconds: float) -> Store:
        there = f"http://127.0.0.1:{rclone_server.port}"
        configuration = rclone_server.configuration().replace(there, address)
        store = rclone_server.store(configuration, prefix=folder, timeout_seconds=timeout_seconds)
        store.__dict__["_features"] = connected_rclone_store._features
        return store

    return Far(rclone_server.port, store)


@pytest.fixture
def far_rsync(rsync_server: RsyncServer) -> Far:
    here = rsync_server.address(_folder())

    def store(address: str, timeout_seconds: float) -> Store:
        there = here.replace(f"127.0.0.1:{rsync_server.port}", urlsplit(address).netloc)
        return rsync_server.store("", address=there, timeout_seconds=timeout_seconds)

    return Far(rsync_server.port, store)


@pytest.fixture
def far_rsync_ssh(sftp_server: SftpServer) -> Far:
    folder = _folder()

    def store(address: str, timeout_seconds: float) -> Store:
        return RsyncStore(
            address=f"ssh://{urlsplit(address).netloc}{sftp_server.directory}/{folder}",
            key_file=str(sftp_server.key_file),
            host_key=sftp_server.host_key,
            timeout_seconds=int(timeout_seconds),
        )

    return Far(sftp_server.port, store)


@pytest.fixture
def far_sftp(sftp_server: SftpServer) -> Far:
    directory = sftp_server.directory / _folder()

    def store(address: str, timeout_seconds: float) -> Store:
        port = urlsplit(address).port
        return sftp_server.store(directory, port=port, timeout_seconds=timeout_seconds)

    return Far(sftp_server.port, store)


@pytest.fixture
def far(request: pytest.FixtureRequest) -> Far:
    found = request.getfixturevalue(f"far_{request.param}")
    assert isinstance(found, Far)
    return found


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def far_over_tls(far: Far, certificates: tuple[Path, Path, Path]) -> Iterator[Far]:
    if far.speaks_tls:
        yield far
        return
    _, certificate, key = certificates
    with speaking_tls(far.port, certificate, key) as port:
        yield Far(port, far.made)


def of_kinds(kinds: list[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("far", kinds, indirect=True)


@of_kinds(KINDS)
def test_a_server_that_accepts_and_never_answers_is_given_up(
    far: Far, impatient: Callable[[str], Store]
) -> None:
    with broken_line(far.port) as line:
        store = impatient(line.endpoint_url)
        line.hang()
        began = time.monotonic()
        for error in failures_of(store):
            assert type(error) is StoreUnreachable
            assert error.transient
            assert error.hint
        assert time.monotonic() - began < MOST_SECONDS


@of_kinds(KINDS)
def test_a_server_that_falls_silent_in_the_middle_of_a_put_is_given_up(
    far: Far, impatient: Callable[[str], Store]
) -> None:
    with broken_line(far.port) as line:
        patient = far.store(line.endpoint_url)
        patient.put("plan/key", [b"older"])
        store = impatient(line.endpoint_url)
        line.hang_after(up_bytes=2 * MIB)
        began = time.monotonic()
        with pytest.raises(StoreUnreachable, match="cannot write plan/key"):
            store.put("plan/key", [os.urandom(MIB)] * 64, expected_bytes=1)
        assert time.monotonic() - began < MOST_SECONDS
        line.mend()
        assert patient.read("plan/key") == b"older"


@of_kinds(KINDS)
def test_a_server_that_falls_silent_in_the_middle_of_a_get_is_given_up(
    far: Far, impatient: Callable[[str], Store]
) -> None:
    with broken_line(far.port) as line:
        body = os.urandom(MIB)
        far.store(line.endpoint_url).put("plan/key", [body] * 12, expected_bytes=1)
        store = impatient(line.endpoint_url)
        line.hang_after(down_bytes=3 * MIB)
        began = time.monotonic()
        with pytest.raises(StoreUnreachable, match="cannot read plan/key"):
            store.read("plan/key")
        assert time.monotonic() - began < MOST_SECONDS


@pytest.mark.parametrize(
    ("far", "variable"),
    [
        *[(kind, variable) for kind in OVER_HTTP for variable in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")],
        ("s3", "AWS_CA_BUNDLE"),
    ],
    indirect=["far"],
)
def test_a_private_authority_that_is_named_is_trusted(
    far_over_tls: Far, variable: str, certificates: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(certificates[0]))
    assert_all_works(far_over_tls.store(f"https://127.0.0.1:{far_over_tls.port}"))


@of_kinds(OVER_HTTP)
def test_a_private_authority_that_is_not_named_is_refused(far_over_tls: Far) -> None:
    for error in failures_of(far_over_tls.store(f"https://127.0.0.1:{far_over_tls.port}")):
        assert type(error) is StoreError
        assert error.message.endswith("the server's certificate is not trusted")
        assert "REQUESTS_CA_BUNDLE" in error.hint


@pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_a_variable_that_names_no_file_is_told(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "gone"))
    store = S3Store(bucket="backups", access_key_id="a", secret_access_key="b")
    with pytest.raises(ConfigurationError, match=f"{variable} names no file: {tmp_path}/gone"):
        store.put("key", [b"x"])


def test_a_directory_of_certificates_is_left_to_those_who_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path))
    assert authorities_file() == ""


@of_kinds(OVER_HTTP)
def test_a_proxy_sees_every_connection_to_a_server_with_tls(
    far_over_tls: Far, certificates: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates[0]))
    with proxying(user=PROXY_USER) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.address)
        assert_all_works(far_over_tls.store(f"https://{NAME}:{far_over_tls.port}"))
        assert f"{NAME}:{far_over_tls.port}" in proxy.tunnels


@of_kinds(OVER_HTTP)
def test_a_proxy_sees_every_request_to_a_server_without_tls(
    far: Far, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxying(user=PROXY_USER) as proxy:
        # Go and curl do not read it in capitals where a web server's request could have set it
        monkeypatch.setenv("HTTP_PROXY", proxy.address)
        monkeypatch.setenv("http_proxy", proxy.address)
        assert_all_works(far.store(f"http://{NAME}:{far.port}"))
        assert f"{NAME}:{far.port}" in {urlsplit(request).netloc for request in proxy.requests}


def test_rsync_reaches_a_daemon_through_the_proxy_of_its_own_variable(
    far_rsync: Far, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxying(user=PROXY_USER) as proxy:
        monkeypatch.setenv("RSYNC_PROXY", proxy.address.removeprefix("http://"))
        assert_all_works(far_rsync.store(f"rsync://{NAME}:{far_rsync.port}"))
        assert f"{NAME}:{far_rsync.port}" in proxy.tunnels


@of_kinds(OVER_HTTP)
def test_a_server_that_needs_no_proxy_is_reached_without_one(
    far: Far, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxying() as proxy:
        monkeypatch.setenv("http_proxy", proxy.address)
        monkeypatch.setenv("NO_PROXY", "elsewhere.example,127.0.0.1")
        assert_all_works(far.store(f"http://127.0.0.1:{far.port}"))
        assert proxy.requests == []


# over http another refusal of a proxy cannot be told from the server's
@pytest.mark.parametrize(("scheme", "refusal"), [("http", 407), ("https", 407), ("https", 502)])
@of_kinds(OVER_HTTP)
def test_a_proxy_that_refuses_is_told_and_its_password_is_not(
    far: Far, scheme: str, refusal: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxying(refusal, PROXY_USER) as proxy:
        for variable in ("http_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(variable, proxy.address)
        for error in failures_of(far.store(f"{scheme}://{NAME}:{far.port}")):
            if refusal == 407:
                assert type(error) is StoreError
                assert "the proxy lets nobody through" in error.message
                assert "HTTPS_PROXY" in error.hint
            else:
                assert type(error) is StoreUnreachable
            assert_no_password_is_in(error)


@pytest.mark.parametrize("refusal", [407, 502])
def test_a_proxy_that_refuses_rsync_is_told_and_its_password_is_not(
    far_rsync: Far, refusal: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxying(refusal, PROXY_USER) as proxy:
        monkeypatch.setenv("RSYNC_PROXY", proxy.address.removeprefix("http://"))
        for error in failures_of(far_rsync.store(f"rsync://{NAME}:{far_rsync.port}")):
            assert type(error) is StoreUnreachable
            assert error.message.endswith("there is no way through the proxy")
            assert "RSYNC_PROXY" in error.hint
            assert_no_password_is_in(error)


def failures_of(store: Store) -> list[WorldError]:
    """Return what each use of a store raises, each told in a line."""
    found = failures({name: partial(use, store) for name, use in USES.items()})
    errors = [error for error in found.values() if isinstance(error, WorldError)]
    assert len(errors) == len(USES), found
    assert not [error.message for error in errors if "\n" in error.message]
    return errors


def assert_all_works(store: Store) -> None:
    """Ask and move: each kind has a library for both, or one for each."""
    store.put("plan/key", [b"moved"])
    store.create("plan/created", b"asked")
    assert store.read("plan/key") == b"moved"
    assert [stored.size_bytes for stored in store.list()] == [5, 5]
    store.delete("plan/key")
    assert not store.exists("plan/key")


def assert_no_password_is_in(error: BaseException) -> None:
    shown = "".join(traceback.format_exception(error))
    assert PROXY_USER.partition(":")[2] not in shown
    assert PROXY_USER.partition(":")[0] not in shown


def _folder() -> str:
    return f"network-{next(_numbers)}"
