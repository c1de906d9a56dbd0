"""The plan that the environment describes, and that a wrong variable is named with what is right."""

import pytest

from flows import environment
from flows.core.errors import PlanError
from flows.plan import BackupPlan
from flows.plan_source import PlanSource, load_plan, load_secret_key

SOURCE = PlanSource("environment")
PASSWORD = "hunter2-do-not-tell"
GOOD = {
    "DATABASE_URL": f"postgresql://ann:{PASSWORD}@db/shop",
    "BACKUP_DIR": "/var/backups",
    "GPG_RECIPIENT_FILE": "/keys/ops.asc",
}
MORE = {
    "S3_BUCKET": "acme",
    "S3_PREFIX": "pg",
    "S3_ENDPOINT_URL": "https://minio.example:9000",
    "SPOOL_DIR": "/var/spool/pgsalvo",
    "GPG_SECRET_KEY_FILE": "/keys/ops.secret.asc",
    "GPG_PASSPHRASE_FILE": "/keys/passphrase",
    "SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/T0/B0/abc",
    "BACKUP_TIME_ZONE": "Europe/Madrid",
    "KEEP_LAST": "2",
    "KEEP_DAILY": "7",
    "KEEP_WEEKLY": "4",
    "KEEP_MONTHLY": "0",
    "KEEP_YEARLY": "1",
}


@pytest.fixture(autouse=True)
def good(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but what the smallest plan needs."""
    for name in environment.KNOWN:
        monkeypatch.delenv(name, raising=False)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)


def test_three_variables_are_a_plan() -> None:
    plan = load_plan("default", SOURCE)
    assert [store.location for store in plan.stores] == ["/var/backups"]
    assert plan.recipients.public_keys == ["/keys/ops.asc"]
    assert plan.database.conninfo.get_secret_value() == "env:DATABASE_URL"
    assert plan.database.resolve().password == PASSWORD
    assert plan.retention == BackupPlan.model_fields["retention"].get_default(call_default_factory=True)


def test_every_variable_finds_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in MORE.items():
        monkeypatch.setenv(name, value)
    plan = load_plan("default", SOURCE)
    key = load_secret_key(plan.verify.secret_key, SOURCE)
    assert [(store.name, store.location) for store in plan.stores] == [
        ("local", "/var/backups"),
        ("s3", "s3://acme/pg at minio.example:9000"),
    ]
    assert plan.policy.model_dump() == {
        "keep_last": 2,
        "keep_daily": 7,
        "keep_weekly": 4,
        "keep_monthly": 0,
        "keep_yearly": 1,
        "min_keep": 3,
        "time_zone": "Europe/Madrid",
    }
    assert (plan.time_zone, str(plan.spool_root)) == ("Europe/Madrid", "/var/spool/pgsalvo")
    assert (key.key_file, key.passphrase.get_secret_value()) == (
        "/keys/ops.secret.asc",
        "file:/keys/passphrase",
    )
    assert [alert.webhook_url.get_secret_value() for alert in plan.alerts] == ["env:SLACK_WEBHOOK_URL"]


def test_a_plan_of_the_environment_holds_no_value_of_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLACK_WEBHOOK_URL", MORE["SLACK_WEBHOOK_URL"])
    data = environment.default_plan("default")
    assert PASSWORD not in str(data)
    assert MORE["SLACK_WEBHOOK_URL"] not in str(data)


def test_a_number_of_backups_to_keep_leaves_no_tier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_BACKUPS_TO_KEEP", "5")
    policy = load_plan("default", SOURCE).policy
    tiers = (policy.keep_daily, policy.keep_weekly, policy.keep_monthly, policy.keep_yearly)
    assert (policy.keep_last, policy.min_keep, tiers) == (5, 1, (0, 0, 0, 0))


def test_several_recipients_stand_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPG_RECIPIENT_FILE", "/keys/a.asc:/keys/b.asc")
    assert load_plan("default", SOURCE).recipients.public_keys == ["/keys/a.asc", "/keys/b.asc"]


@pytest.mark.parametrize(
    ("variables", "message", "remedy"),
    [
        pytest.param({"DATABASE_URL": ""}, "DATABASE_URL is not set", "set DATABASE_URL", id="no-database"),
        pytest.param(
            {"GPG_RECIPIENT_FILE": ""}, "GPG_RECIPIENT_FILE is not set", "pgsalvo keys new", id="no-recipient"
        ),
        pytest.param({"BACKUP_DIR": ""}, "neither BACKUP_DIR nor S3_BUCKET is set", "set one", id="no-store"),
        pytest.param(
            {"DATABASE_URL": "", "DATABASE_URI": "x"},
            "DATABASE_URI is set, which nobody reads",
            "did you mean DATABASE_URL?",
            id="database-uri",
        ),
        pytest.param({"KEEP_DAYLY": "7"}, "KEEP_DAYLY is set", "did you mean KEEP_DAILY?", id="keep-dayly"),
        pytest.param(
            {"KEEP_HOURLY": "7"}, "KEEP_HOURLY is set", "known are KEEP_LAST, KEEP_DAILY", id="keep-hourly"
        ),
        pytest.param(
            {"BACKUP_TIMEZONE": "UTC"},
            "BACKUP_TIMEZONE is set",
            "did you mean BACKUP_TIME_ZONE?",
            id="timezone",
        ),
        pytest.param(
            {"MAX_BACKUP_TO_KEEP": "3"},
            "MAX_BACKUP_TO_KEEP is set",
            "mean MAX_BACKUPS_TO_KEEP?",
            id="max-backup",
        ),
        pytest.param(
            {"MAX_BACKUPS_TO_KEEP": "3", "KEEP_DAILY": "7", "KEEP_LAST": "1"},
            "MAX_BACKUPS_TO_KEEP is set beside KEEP_LAST, KEEP_DAILY",
            "use either",
            id="both",
        ),
        pytest.param({"MAX_BACKUPS_TO_KEEP": "0"}, "MAX_BACKUPS_TO_KEEP is '0'", "1 or more", id="keep-none"),
        pytest.param({"KEEP_DAILY": "abc"}, "KEEP_DAILY is 'abc'", "a whole number", id="abc"),
        pytest.param({"KEEP_DAILY": "-1"}, "KEEP_DAILY is '-1'", "a whole number", id="less-than-none"),
        pytest.param({"KEEP_DAILY": "1.5"}, "KEEP_DAILY is '1.5'", "a whole number", id="a-fraction"),
        pytest.param(
            {"BACKUP_TIME_ZONE": "Europe/Madird"},
            "BACKUP_TIME_ZONE: no such time zone",
            "did you mean Europe/Madrid?",
            id="zone",
        ),
        pytest.param(
            {"S3_BUCKET": "acme", "S3_ENDPOINT_URL": "minio:9000"},
            "S3_ENDPOINT_URL: must be",
            "",
            id="endpoint",
        ),
        pytest.param(
            {"S3_BUCKET": "acme", "S3_PREFIX": "../x"}, "S3_PREFIX: must be a folder", "", id="prefix"
        ),
        pytest.param(
            {"S3_PREFIX": "pg"},
            "S3_PREFIX is set, but S3_BUCKET is not",
            "set S3_BUCKET",
            id="a-prefix-of-no-bucket",
        ),
        pytest.param(
            {"S3_ENDPOINT_URL": "https://minio"},
            "S3_ENDPOINT_URL is set, but S3_BUCKET is not",
            "set S3_BUCKET",
            id="an-endpoint-of-no-bucket",
        ),
        pytest.param(
            {"GPG_RECIPIENT_FILE": "/a.asc::/b.asc"},
            "public_keys: an entry is empty",
            "",
            id="an-empty-recipient",
        ),
    ],
)
def test_a_wrong_variable_is_named_with_what_is_right(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], message: str, remedy: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(PlanError) as caught:
        load_plan("default", SOURCE)
    assert message in caught.value.message
    assert remedy in caught.value.hint
    assert PASSWORD not in str(caught.value)


def test_a_variable_that_resembles_one_that_is_set_too_belongs_to_somebody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URLS", "the application's own")
    assert load_plan("default", SOURCE).name == "default"


def test_the_environment_has_no_plan_but_default() -> None:
    with pytest.raises(PlanError, match="no plan called shop") as caught:
        load_plan("shop", SOURCE)
    assert "default" in caught.value.hint


def test_verifying_without_a_secret_key_names_the_variable() -> None:
    with pytest.raises(PlanError, match="GPG_SECRET_KEY_FILE is not set"):
        load_secret_key("default", SOURCE)


@pytest.mark.parametrize(
    ("value", "enabled"),
    [("", True), ("true", True), ("FALSE", False), ("0", False), (" no ", False), ("yes", True)],
)
def test_schedules_are_active_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, value: str, enabled: bool
) -> None:
    monkeypatch.setenv("AUTO_BACKUP_ENABLED", value)
    assert environment.auto_backup_enabled() is enabled


def test_neither_true_nor_false_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTO_BACKUP_ENABLED", "maybe")
    with pytest.raises(PlanError, match="AUTO_BACKUP_ENABLED is 'maybe'"):
        environment.auto_backup_enabled()
