"""The manifest: written and read back it is the same, and whatever was done to it is noticed."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from pydantic import ValidationError

import flows.core.manifest
from flows.core.errors import ManifestEdited, ManifestError, ManifestUnknown, ManifestUnreadable
from flows.core.manifest import (
    Archive,
    Manifest,
    Timings,
    Versions,
    age_seconds,
    decode,
    encode,
    sha256,
    source_of,
)
from flows.core.naming import BackupId

fast = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
SCHEMA_PATH = Path(flows.core.manifest.__file__).with_name("manifest.schema.json")
STARTED_AT = datetime(2026, 1, 28, 2, 0, 0, 250_000, tzinfo=UTC)


def archive(name: str, kind: str) -> Archive:
    return Archive.model_validate(
        {"name": name, "kind": kind, "size_bytes": 10, "sha256": sha256(name.encode()), "plain_bytes": 20}
    )


MANIFEST = Manifest(
    backup_id=BackupId("20260128T020000Z-4f9c2a"),
    plan="shop",
    label="antes de la migración ✓",
    started_at=STARTED_AT,
    snapshot_at=STARTED_AT + timedelta(seconds=1),
    finished_at=STARTED_AT + timedelta(minutes=5),
    source=source_of("7301", "shop"),
    versions=Versions(pgsalvo="0.1.0", server="15.18", server_major=15, pg_dump="15.18", gpg="2.2.40"),
    recipients=("0" * 40,),
    archives=(
        archive("main-1-of-2.dump.zst.gpg", "main"),
        archive("data-2-of-2.dump.zst.gpg", "data"),
        archive("globals.sql.zst.gpg", "globals"),
        archive("facts.json.zst.gpg", "facts"),
    ),
    globals_passwords=True,
    restore=("set -o pipefail", "gpg --decrypt …"),
    timings=Timings(dump=1.5, facts=0.1, encrypt=1.25, upload=2.0, checksum=1e-7),
)


def document(**changes: Any) -> dict[str, Any]:
    written: dict[str, Any] = json.loads(encode(MANIFEST))
    return written | changes


def sealed(changed: dict[str, Any]) -> bytes:
    """Return a manifest with a checksum that fits, as whoever forges one would write it."""
    rest = {key: value for key, value in changed.items() if key != "checksum"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return json.dumps(rest | {"checksum": sha256(text.encode())}).encode()


def test_a_manifest_is_read_back_as_it_was_written() -> None:
    read = decode(encode(MANIFEST))
    assert read.model_copy(update={"checksum": ""}) == MANIFEST
    assert encode(read) == encode(MANIFEST)


@fast
@given(st.text(st.characters(exclude_categories=["Cs"])), st.datetimes(timezones=st.just(UTC)))
def test_any_label_and_time_is_read_back(label: str, snapshot_at: datetime) -> None:
    manifest = MANIFEST.model_copy(update={"label": label, "snapshot_at": snapshot_at})
    read = decode(encode(manifest))
    assert (read.label, read.snapshot_at) == (label, snapshot_at)


def test_a_manifest_is_the_same_in_another_layout() -> None:
    assert decode(json.dumps(document(), sort_keys=True, indent=None).encode()) == decode(encode(MANIFEST))


def test_fields_of_a_later_release_are_kept() -> None:
    later = document(weather="rain")
    later["archives"][0]["tape"] = 7
    kept = json.loads(encode(decode(sealed(later))))
    assert (kept["weather"], kept["archives"][0]["tape"]) == ("rain", 7)


@fast
@given(st.data())
def test_any_changed_byte_is_noticed(data: st.DataObject) -> None:
    body = bytearray(encode(MANIFEST))
    solid = [index for index, byte in enumerate(body) if byte not in b" \n"]
    index = data.draw(st.sampled_from(solid))
    body[index] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ManifestError):
        decode(bytes(body))


@fast
@given(st.integers(0, len(encode(MANIFEST)) - 2))
def test_a_truncated_manifest_is_not_readable(length: int) -> None:
    with pytest.raises(ManifestUnreadable):
        decode(encode(MANIFEST)[:length])


@fast
@given(
    st.binary()
    | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists)
    .map(json.dumps)
    .map(str.encode)
)
def test_what_is_no_manifest_ends_in_a_clear_error(body: bytes) -> None:
    with pytest.raises(ManifestUnreadable):
        decode(body)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\xfe", id="not-utf-8"),
        pytest.param(json.dumps(document()).encode("utf-16"), id="utf-16"),
        pytest.param(b"\xef\xbb\xbf" + encode(MANIFEST), id="byte-order-mark"),
        pytest.param(encode(MANIFEST) + b"{}", id="two-documents"),
        pytest.param(b"[" * 100_000, id="deep-lists"),
        pytest.param(b'{"a":' * 100_000, id="deep-objects"),
        pytest.param(json.dumps(document(label="\ud800")).encode(), id="half-a-surrogate-pair"),
        pytest.param(json.dumps(document(x=float("nan"))).encode(), id="not-a-number"),
        pytest.param(b'{"format": 1' + b"0" * 5000 + b"}", id="a-number-of-5000-digits"),
        pytest.param(b'{"plan": "a", ' + encode(MANIFEST)[1:], id="a-key-that-stands-twice"),
    ],
)
def test_what_is_not_proper_json_is_not_readable(body: bytes) -> None:
    with pytest.raises(ManifestUnreadable, match=r"^the manifest is not JSON$"):
        decode(body)


@pytest.mark.parametrize("depth", [100, 900, 950, 990, 1_000])
def test_a_deeply_nested_field_ends_in_no_other_error(depth: int) -> None:
    deep = b',"x":' + b"[" * depth + b"]" * depth + b"}"
    with pytest.raises(ManifestError):
        decode(encode(MANIFEST)[:-3] + deep)


@pytest.mark.parametrize(
    "body", [b"null", b"[]", b'"x"', b"{}", b'{"format": "something-else"}', b'{"format": ["x"]}']
)
def test_json_of_something_else_is_told_apart(body: bytes) -> None:
    with pytest.raises(ManifestUnreadable, match="not one of pgsalvo's"):
        decode(body)


@pytest.mark.parametrize("version", [0, 2, 99, -1])
def test_an_unknown_format_version_is_refused_even_if_nothing_else_is_as_we_know_it(version: int) -> None:
    body = json.dumps({"format": "pgsalvo-manifest", "format_version": version, "new": {}}).encode()
    with pytest.raises(ManifestUnknown, match=f"format version {version}, this release knows 1") as caught:
        decode(body)
    assert "install a newer pgsalvo" in caught.value.hint


@pytest.mark.parametrize("version", [None, "1", 1.0, [1], {}])
def test_a_format_version_that_is_no_number_is_not_readable(version: object) -> None:
    with pytest.raises(ManifestUnreadable, match="does not tell its format version"):
        decode(sealed(document(format_version=version)))


@pytest.mark.parametrize("checksum", [None, 1, True, [], {}, "", "0" * 64, document()["checksum"].upper()])
def test_a_checksum_of_any_wrong_value_or_type_means_edited(checksum: object) -> None:
    with pytest.raises(ManifestEdited):
        decode(json.dumps(document(checksum=checksum)).encode())


def test_a_manifest_without_a_checksum_counts_as_edited() -> None:
    with pytest.raises(ManifestEdited):
        decode(json.dumps({key: value for key, value in document().items() if key != "checksum"}).encode())


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"restore": ["rm -rf /"]}, id="other-commands"),
        pytest.param({"archives": list(reversed(document()["archives"]))}, id="archives-in-another-order"),
        pytest.param({"added": None}, id="a-field-more"),
        pytest.param({"label": ""}, id="a-word-less"),
    ],
)
def test_an_edited_manifest_is_recognised(changes: dict[str, Any]) -> None:
    with pytest.raises(ManifestEdited):
        decode(json.dumps(document(**changes)).encode())


def _first_archive(**changes: object) -> Callable[[dict[str, Any]], None]:
    return lambda written: written["archives"][0].update(changes)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        pytest.param(lambda written: written.pop("versions"), "versions", id="a-field-is-missing"),
        pytest.param(lambda written: written.update(archives={}), "archives", id="an-object-for-a-list"),
        pytest.param(
            lambda written: written.update(started_at="2026-01-28T02:00:00"), "started_at", id="no-zone"
        ),
        pytest.param(
            lambda written: written.update(backup_id="../other"), "backup_id", id="an-id-with-a-path"
        ),
        pytest.param(
            lambda written: written.update(backup_id="20269928T020000Z-4f9c2a"),
            "backup_id",
            id="an-id-of-month-99",
        ),
        pytest.param(lambda written: written.update(plan="../x"), "plan", id="a-plan-with-a-path"),
        pytest.param(
            _first_archive(name="../../etc/passwd.gpg"), "archives.0.name", id="an-archive-with-a-path"
        ),
        pytest.param(_first_archive(name="main.dump.zst"), "archives.0.name", id="an-archive-in-the-clear"),
        pytest.param(
            _first_archive(name="facts.json.zst.gpg"), "archives", id="an-archive-that-stands-twice"
        ),
        pytest.param(_first_archive(size_bytes=0), "archives.0.size_bytes", id="an-empty-archive"),
        pytest.param(_first_archive(sha256="A" * 64), "archives.0.sha256", id="upper-case-hash"),
        pytest.param(_first_archive(kind="photos"), "archives.0.kind", id="an-unknown-kind"),
    ],
)
def test_a_wrong_field_is_named_although_the_checksum_fits(
    change: Callable[[dict[str, Any]], None], where: str
) -> None:
    forged = document()
    change(forged)
    with pytest.raises(ManifestUnreadable, match=f"the manifest's {where} is missing or of the wrong kind"):
        decode(sealed(forged))


def test_a_manifest_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        MANIFEST.plan = "other"  # type: ignore[misc]


def test_a_manifest_knows_its_size_its_archives_and_its_age() -> None:
    assert MANIFEST.size_bytes == 40
    assert MANIFEST.archive("facts").name == "facts.json.zst.gpg"
    assert age_seconds(MANIFEST, STARTED_AT + timedelta(seconds=61)) == 60


@pytest.mark.parametrize("archives", [(), (archive("a.gpg", "main"), archive("b.gpg", "main"))])
def test_an_archive_that_is_not_there_just_once_is_an_error(archives: tuple[Archive, ...]) -> None:
    manifest = MANIFEST.model_copy(update={"archives": archives})
    with pytest.raises(ManifestUnreadable, match=f"lists {len(archives)} main archives"):
        manifest.archive("main")


@fast
@given(st.tuples(st.text(), st.text()), st.tuples(st.text(), st.text()))
def test_two_databases_have_two_sources(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (source_of(*one) == source_of(*other)) == (one == other)


def test_a_source_does_not_name_the_database() -> None:
    assert source_of("7301", "shop") == sha256(b'["7301", "shop"]')


def test_the_schema_in_the_repository_is_the_models() -> None:
    """After a change of the model write `json.dumps(json_schema(), indent=2)` and a newline to the file."""
    expected = json.dumps(flows.core.manifest.json_schema(), indent=2) + "\n"
    assert SCHEMA_PATH.read_text() == expected


def test_the_schema_takes_what_we_write_and_refuses_what_we_refuse() -> None:
    schema = json.loads(SCHEMA_PATH.read_text())
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    assert validator.is_valid(document(weather="rain"))
    wrong: tuple[dict[str, Any], ...] = (
        {"format_version": 2},
        {"backup_id": "x"},
        {"plan": "a/b"},
        {"archives": [{}]},
        {"source": 1},
    )
    for changes in wrong:
        assert not validator.is_valid(document(**changes)), changes
