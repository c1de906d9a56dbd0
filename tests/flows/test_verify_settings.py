"""plans.toml on verification: what may be said of how, where and when a backup is proved."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows import plan_file
from flows.core.assertions import Assertion
from flows.core.errors import PlanError
from flows.core.facts import Proof
from flows.core.ignoring import Ignored
from flows.plan import BackupPlan
from flows.verify_settings import PROVED_AT_ONCE_BYTES, VerifySettings

PLAN = """
[plans.shop]
recipients = ["keys/ops.asc"]
database = { conninfo = "env:DATABASE_URL" }
"""
REST = """
[[plans.shop.stores]]
name = "here"
kind = "local"
path = "store"

[plans.shop.verify]
secret_key = "ops"
"""

Read = Callable[..., BackupPlan]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read a plan with some more lines, of its own and of its verification."""

    def read(verify: str = "", plan: str = "") -> BackupPlan:
        path = tmp_path / "plans.toml"
        path.write_text(f"{PLAN}{plan}\n{REST}{verify}\n")
        return plan_file.read(path).plan("shop")

    return read


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_without_a_word_everything_is_restored_into_a_server_of_its_own_here(read: Read) -> None:
    plan = read()
    assert plan.verify == VerifySettings(secret_key="ops")
    assert (plan.verify.tier, plan.verify.proof, plan.verify.scratch.kind) == ("full", "rows", "embedded")
    assert (plan.facts, plan.fact_sessions, plan.sessions) == ("always", 1, 2)
    assert (plan.verify.rto_minutes, plan.verify.assertions, plan.verify.ignore) == (None, [], [])


def test_a_scratch_server_that_runs_already_is_named_by_reference(read: Read, tmp_path: Path) -> None:
    scratch = read('scratch = { kind = "server", conninfo = "file:secrets/scratch" }').verify.scratch
    assert scratch.conninfo.get_secret_value() == f"file:{tmp_path}/secrets/scratch"
    assert scratch.database.conninfo == scratch.conninfo


def test_a_conninfo_without_a_password_is_no_secret(read: Read) -> None:
    scratch = read('scratch = { kind = "server", conninfo = "host=db2 user=ann" }').verify.scratch
    assert scratch.conninfo.get_secret_value() == "host=db2 user=ann"


def test_a_container_has_an_image_of_the_sources_major_unless_the_plan_names_another(read: Read) -> None:
    usual = read('scratch = { kind = "container" }').verify.scratch
    other = read('scratch = { kind = "container", image = "gis:{major}", program = "podman" }').verify.scratch
    assert (usual.image, usual.program) == ("postgres:{major}", "docker")
    assert (other.image, other.program) == ("gis:{major}", "podman")


def test_questions_and_accepted_findings_are_lists_of_tables(read: Read) -> None:
    verify = read(
        """
        tier = "sample"
        proof = "content"
        sample_tables = ["public.*"]
        rto_minutes = 30
        [[plans.shop.verify.assertions]]
        name = "open orders"
        sql = "SELECT count(*) FROM orders"
        expect = "between 1 and 5"
        severity = "warning"
        timeout_seconds = 5
        [[plans.shop.verify.ignore]]
        rule = "OWNER_DIFFERS"
        object = "public.*"
        reason = "bob left"
        """
    ).verify
    assert (verify.tier, verify.proof, verify.sample_tables) == ("sample", "content", ["public.*"])
    assert verify.rto_minutes == 30
    assert verify.assertions == [
        Assertion(
            name="open orders",
            sql="SELECT count(*) FROM orders",
            expect="between 1 and 5",
            severity="warning",
            timeout_seconds=5,
        )
    ]
    assert verify.ignore == [Ignored(rule="OWNER_DIFFERS", object="public.*", reason="bob left")]


@pytest.mark.parametrize(
    ("line", "place", "remedy"),
    [
        pytest.param('teir = "full"', "shop.verify: unknown key teir", "did you mean tier?", id="teir"),
        pytest.param('tier = "scheme"', "verify.tier: there is no such word", "mean schema?", id="scheme"),
        pytest.param(
            'proof = "contents"', "verify.proof: there is no such word", "mean content?", id="contents"
        ),
        pytest.param(
            'scratch = { kind = "sever" }', "verify.scratch.kind: there is no", "mean server?", id="sever"
        ),
        pytest.param(
            'scratch = { imge = "x" }', "verify.scratch: unknown key imge", "did you mean image?", id="imge"
        ),
        pytest.param(
            'scratch = { kind = "server" }',
            'verify.scratch: a scratch server that runs already has kind = "server" and a conninfo',
            "give both or neither",
            id="no conninfo",
        ),
        pytest.param(
            'scratch = { conninfo = "env:SCRATCH_URL" }',
            'verify.scratch: a scratch server that runs already has kind = "server" and a conninfo',
            "give both or neither",
            id="no kind",
        ),
        pytest.param(
            'scratch = { kind = "server", conninfo = "env:" }',
            "shop: verify.scratch.conninfo names nothing",
            "without a blank",
            id="an empty reference",
        ),
        pytest.param(
            "rto_minutes = 0", "verify.rto_minutes: ", "how long a restore may take", id="no time at all"
        ),
        pytest.param("sample_max_bytes = 0", "verify.sample_max_bytes: ", "the sample", id="no sample"),
        pytest.param(
            "statement_limit_seconds = -1", "verify.statement_limit_seconds: ", "how long", id="no limit"
        ),
        pytest.param(
            'assertions = "SELECT 1"',
            "verify.assertions must be a list, it is a string",
            "[[plans.NAME.verify.assertions]]",
            id="a question that is no list",
        ),
        pytest.param(
            'assertions = ["SELECT 1"]',
            "verify.assertions.#1 must be a table, it is a string",
            "[[plans.NAME.verify.assertions]]",
            id="a question that is no table",
        ),
        pytest.param(
            'assertions = [{ name = "a", sql = "SELECT 1" }, { name = "b" }]',
            "verify.assertions.#2.sql is missing",
            "a SELECT of one row",
            id="a question without SQL",
        ),
        pytest.param(
            'assertions = [{ name = "a", sql = "SELECT 1", expect = "about 5" }]',
            "verify.assertions.#1.expect: not an expectation: 'about 5'",
            "write one of > 0",
            id="an expectation that is none",
        ),
        pytest.param(
            'assertions = [{ name = "a", sql = "SELECT 1", expects = "> 5" }]',
            "verify.assertions.#1: unknown key expects",
            "did you mean expect?",
            id="expects",
        ),
        pytest.param(
            'ignore = [{ rule = "OWNER_DIFER", object = "*", reason = "known" }]',
            "verify.ignore.#1.rule: no rule is called 'OWNER_DIFER'",
            "did you mean OWNER_DIFFERS?",
            id="a rule that nobody knows",
        ),
        pytest.param(
            'ignore = [{ rule = "EMPTY_RESTORE", object = "*", reason = "known" }]',
            "verify.ignore.#1.rule: EMPTY_RESTORE cannot be ignored",
            "proves nothing",
            id="a rule that always counts",
        ),
        pytest.param(
            'ignore = [{ rule = "OWNER_DIFFERS", object = "*" }]',
            "shop.verify.ignore.#1.reason is missing",
            "why it is accepted",
            id="no reason",
        ),
        pytest.param(
            'ignore = [{ rule = "OWNER_DIFFERS", object = "*", reason = " " }]',
            "verify.ignore.#1.reason: the reason is empty",
            "say why",
            id="an empty reason",
        ),
    ],
)
def test_what_cannot_be_used_names_its_place_and_what_to_write(
    read: Read, line: str, place: str, remedy: str
) -> None:
    with pytest.raises(PlanError) as caught:
        read(line)
    assert place in caught.value.message
    assert remedy in caught.value.hint


@pytest.mark.parametrize(
    ("line", "place", "remedy"),
    [
        pytest.param('facts = "off-hour"', "facts: there is no such word", "mean off-hours?", id="off-hour"),
        pytest.param('off_hours = "10pm-6am"', "off_hours: not a stretch of hours", "22:00-06:00", id="10pm"),
        pytest.param(
            'off_hours = "22:00-22:00"', "off_hours: not a stretch of hours", "22:00-06:00", id="no hours"
        ),
        pytest.param("fact_sessions = 0", "fact_sessions: ", "sessions that count", id="no session"),
        pytest.param("fact_sessions = 17", "fact_sessions: ", "sessions that count", id="too many sessions"),
        pytest.param("snapshot_limit_minutes = 0", "snapshot_limit_minutes: ", "how old", id="no age"),
    ],
)
def test_what_cannot_be_used_of_facts_names_its_place_too(
    read: Read, line: str, place: str, remedy: str
) -> None:
    with pytest.raises(PlanError) as caught:
        read(plan=line)
    assert f"plans.shop.{place}" in caught.value.message
    assert remedy in caught.value.hint


@pytest.mark.parametrize(
    ("now", "zone", "proof"),
    [
        pytest.param("2026-01-28T02:00", "UTC", "content", id="at night"),
        pytest.param("2026-01-28T12:00", "UTC", "none", id="by day"),
        pytest.param("2026-01-28T22:00", "UTC", "content", id="as they begin"),
        pytest.param("2026-01-28T06:00", "UTC", "none", id="as they end"),
        pytest.param("2026-01-28T05:30", "Europe/Madrid", "none", id="past their end in winter"),
        pytest.param("2026-07-28T20:30", "Europe/Madrid", "content", id="past their beginning in summer"),
        pytest.param("2026-01-28T20:30", "Europe/Madrid", "none", id="before their beginning in winter"),
        pytest.param("2026-01-28T12:00", "Asia/Tokyo", "none", id="in the evening far away"),
        pytest.param("2026-01-28T14:00", "Asia/Tokyo", "content", id="at night far away"),
    ],
)
def test_tables_are_counted_in_the_off_hours_of_the_plans_own_clock(
    read: Read, now: str, zone: str, proof: Proof
) -> None:
    plan = read('proof = "content"', f'facts = "off-hours"\ntime_zone = "{zone}"')
    assert plan.proof_at(at(now)) == proof
    assert plan.tier_at(at(now)) == ("schema" if proof == "none" else plan.verify.tier)


def test_without_off_hours_tables_are_always_counted(read: Read) -> None:
    assert {read().proof_at(at(f"2026-01-28T{hour:02}:00")) for hour in range(24)} == {"rows"}


def test_more_sessions_that_count_are_one_more_holder_of_locks(read: Read) -> None:
    assert read(plan="fact_sessions = 4").sessions == 3


@pytest.mark.parametrize(
    ("schedule", "size_bytes", "is_due"),
    [
        ("auto", PROVED_AT_ONCE_BYTES - 1, True),
        ("auto", PROVED_AT_ONCE_BYTES, False),
        ("after-backup", PROVED_AT_ONCE_BYTES, True),
        ("never", 1, False),
        ("0 4 * * *", 1, False),
    ],
)
def test_a_small_database_is_proved_at_once_unless_the_plan_says_when(
    schedule: str, size_bytes: int, is_due: bool
) -> None:
    assert VerifySettings(schedule=schedule).is_due_after_backup(size_bytes) is is_due
