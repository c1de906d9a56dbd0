"""plans.toml: what a good one says, and that a broken one names the place and the nearest right word."""

from collections.abc import Callable
from pathlib import Path

import pytest

from blocks.docker_client import DockerPostgresClient
from flows import plan_file
from flows.core.errors import PlanError
from flows.core.retention import RetentionPolicy
from flows.plan import BackupPlan

SECRET = "hunter2-do-not-tell"
GOOD = """
[plans.shop]
schedule = "30 1 * * *"
time_zone = "Europe/Madrid"
recipients = ["keys/ops.asc"]
retention = { keep_daily = 7 }
required = 1
database = { conninfo = "env:DATABASE_URL" }

[[plans.shop.stores]]
name = "here"
kind = "local"
path = "store"

[[plans.shop.stores]]
name = "offsite"
kind = "s3"
bucket = "acme"
access_key_id = "env:KEY_ID"
secret_access_key = "file:secrets/s3"

[plans.shop.verify]
secret_key = "ops"
schedule = "never"

[[plans.shop.alerts]]
kind = "slack"
webhook_url = "env:SLACK_WEBHOOK_URL"

[secret_keys.ops]
key_file = "keys/ops.secret.asc"
passphrase = "file:secrets/passphrase"
"""

Read = Callable[[str], BackupPlan]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "plans.toml"


@pytest.fixture
def shop(path: Path) -> Read:
    """Write a file, and read its plan `shop`."""

    def read(text: str) -> BackupPlan:
        path.write_text(text)
        return plan_file.read(path).plan("shop")

    return read


def test_paths_start_at_the_files_own_directory(
    shop: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    plan = shop(GOOD)
    key = plan_file.read(tmp_path / "plans.toml").secret_key("ops")
    assert plan.store("here").location == str(tmp_path / "store")
    assert plan.recipients.public_keys == [f"{tmp_path}/keys/ops.asc"]
    assert (
        plan.stores[1].model_dump()["secret_access_key"].get_secret_value() == f"file:{tmp_path}/secrets/s3"
    )
    assert key.key_file == f"{tmp_path}/keys/ops.secret.asc"
    assert key.passphrase.get_secret_value() == f"file:{tmp_path}/secrets/passphrase"


def test_pg_dump_comes_from_an_image_only_where_the_plan_names_one(shop: Read) -> None:
    line = 'client = { image = "postgres:{major}", program = "podman", memory = "512m" }'
    client = shop(GOOD.replace("required = 1", line)).client
    assert client == DockerPostgresClient(image="postgres:{major}", program="podman", memory="512m")
    assert shop(GOOD).client is None


def test_days_of_retention_begin_in_the_plans_time_zone(shop: Read) -> None:
    policy = shop(GOOD).policy
    assert policy == RetentionPolicy(keep_daily=7, time_zone="Europe/Madrid")


@pytest.mark.parametrize(
    ("recipient", "read"),
    [
        pytest.param("ops@example.org", "ops@example.org", id="e-mail"),
        pytest.param("A" * 40, "A" * 40, id="fingerprint"),
        pytest.param("ops.gpg", "{directory}/ops.gpg", id="a-file-that-is-not-there-yet"),
        pytest.param("~/ops.asc", "/home/ann/ops.asc", id="home"),
    ],
)
def test_only_a_recipients_file_gets_an_absolute_path(
    shop: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipient: str, read: str
) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    plan = shop(GOOD.replace("keys/ops.asc", recipient))
    assert plan.recipients.public_keys == [read.format(directory=tmp_path)]


def test_a_file_with_a_byte_order_mark_is_read(shop: Read) -> None:
    assert shop("\ufeff" + GOOD).name == "shop"


def test_a_typo_spoils_only_its_own_plan(path: Path) -> None:
    path.write_text(
        GOOD + GOOD.replace("shop", "other").replace("keep_daily", "keep_dayly").split("[secret")[0]
    )
    file = plan_file.read(path)
    assert file.plan_names == ["other", "shop"]
    assert file.plan("shop").name == "shop"
    with pytest.raises(PlanError, match=r"plans\.other\.retention: unknown key keep_dayly"):
        file.plan("other")


@pytest.mark.parametrize(
    ("right", "wrong", "place", "remedy"),
    [
        pytest.param("[plans.shop]", "[plan.shop]", "unknown key plan", "did you mean plans?", id="plan"),
        pytest.param(
            "[secret_keys.ops]",
            "[secretkeys.ops]",
            "unknown key secretkeys",
            "mean secret_keys?",
            id="secretkeys",
        ),
        pytest.param(
            "time_zone",
            "timezone",
            "plans.shop: unknown key timezone",
            "did you mean time_zone?",
            id="timezone",
        ),
        pytest.param(
            "recipients =",
            "recipient =",
            "plans.shop: unknown key recipient",
            "mean recipients?",
            id="recipient",
        ),
        pytest.param(
            "database =", "databse =", "plans.shop: unknown key databse", "mean database?", id="databse"
        ),
        pytest.param(
            "schedule =",
            'name = "x"\nschedule =',
            "plans.shop: unknown key name",
            "known are: alerts,",
            id="name",
        ),
        pytest.param(
            "keep_daily",
            "keep_dayly",
            "plans.shop.retention: unknown key keep_dayly",
            "did you mean keep_daily?",
            id="keep_dayly",
        ),
        pytest.param(
            "keep_daily = 7",
            'time_zone = "UTC"',
            "plans.shop.retention: unknown key time_zone",
            "belongs to the plan",
            id="retentions-own-time-zone",
        ),
        pytest.param(
            "conninfo", "coninfo", "plans.shop.database: unknown key coninfo", "mean conninfo?", id="coninfo"
        ),
        pytest.param(
            "conninfo",
            'database = "x", conninfo',
            "database: unknown key database",
            "did you mean dbname?",
            id="database-in-database",
        ),
        pytest.param(
            "bucket", "bukket", "plans.shop.stores.offsite: unknown key bukket", "mean bucket?", id="bukket"
        ),
        pytest.param(
            "webhook_url",
            "webhok_url",
            "plans.shop.alerts.#1: unknown key webhok_url",
            "did you mean webhook_url?",
            id="webhok_url",
        ),
        pytest.param(
            "secret_key =",
            "secretkey =",
            "plans.shop.verify: unknown key secretkey",
            "did you mean secret_key?",
            id="secretkey",
        ),
        pytest.param(
            "required = 1",
            'client = { imge = "postgres:17" }',
            "plans.shop.client: unknown key imge",
            "did you mean image?",
            id="imge",
        ),
    ],
)
def test_an_unknown_word_names_its_place_and_the_nearest_known_one(
    shop: Read, path: Path, right: str, wrong: str, place: str, remedy: str
) -> None:
    _refused(shop, path, right, wrong, place, remedy)


@pytest.mark.parametrize(
    ("right", "wrong", "place", "remedy"),
    [
        pytest.param(
            'kind = "s3"', 'kind = "s4"', "stores.offsite.kind: there is no kind 's4'", "mean s3?", id="s4"
        ),
        pytest.param(
            'kind = "s3"', 'kind = "quux"', "there is no kind 'quux'", "it may be: azure, gcs", id="quux"
        ),
        pytest.param(
            'kind = "slack"',
            'kind = "slak"',
            "alerts.#1.kind: there is no kind 'slak'",
            "did you mean slack?",
            id="slak",
        ),
        pytest.param(
            "required = 1",
            'prune = "seperate"',
            "plans.shop.prune: there is no such word",
            "did you mean separate?",
            id="seperate",
        ),
        pytest.param(
            'schedule = "never"',
            'proof = "row"',
            "verify.proof: there is no such word",
            "did you mean rows?",
            id="proof",
        ),
        pytest.param(
            'schedule = "never"',
            'schedule = "after-bakcup"',
            "plans.shop.verify.schedule: not a cron",
            "did you mean after-backup?",
            id="after-bakcup",
        ),
        pytest.param(
            "30 1 * * *",
            "nevr",
            "plans.shop.schedule: not a cron expression: 'nevr'",
            "did you mean never?",
            id="nevr",
        ),
        pytest.param(
            "Europe/Madrid",
            "Europe/Madird",
            "plans.shop.time_zone: no such time zone",
            "did you mean Europe/Madrid?",
            id="madird",
        ),
        pytest.param(
            "Europe/Madrid",
            "Europe",
            "plans.shop.time_zone: no such time zone: 'Europe'",
            "write one such as",
            id="a-directory-of-zones",
        ),
        pytest.param(
            'bucket = "acme"',
            'bucket = "acme"\nstorage_class = "GLACIER"',
            "offsite.storage_class",
            "use GLACIER_IR, and let a lifecycle rule",
            id="glacier",
        ),
        pytest.param(
            "required = 1",
            'client = { kind = "dokcer" }',
            "plans.shop.client.kind: there is no such word",
            "did you mean docker?",
            id="dokcer",
        ),
    ],
)
def test_a_value_that_is_no_word_of_ours_gets_the_nearest_one(
    shop: Read, path: Path, right: str, wrong: str, place: str, remedy: str
) -> None:
    _refused(shop, path, right, wrong, place, remedy)


@pytest.mark.parametrize(
    ("right", "wrong", "place", "remedy"),
    [
        pytest.param(
            "required = 1",
            'client = "postgres:17"',
            "plans.shop.client must be a table, it is a string",
            "client = { image =",
            id="client-as-a-string",
        ),
        pytest.param(
            "required = 1",
            'client = { memory = "lots" }',
            "plans.shop.client.memory: ",
            "the most memory",
            id="memory-that-is-no-size",
        ),
        pytest.param(
            'database = { conninfo = "env:DATABASE_URL" }',
            'database = { conninfo = "env:DATABASE_URL", client_directory = "/opt/pg/bin" }\nclient = {}',
            "client and database.client_directory both say where pg_dump is",
            "keep one of them",
            id="two-pg_dumps",
        ),
        pytest.param(
            "{ keep_daily = 7 }",
            "[7]",
            "plans.shop.retention must be a table, it is a list",
            "write it as retention = { keep_daily",
            id="retention-as-a-list",
        ),
        pytest.param(
            '["keys/ops.asc"]',
            '"keys/ops.asc"',
            "plans.shop.recipients must be a list, it is a string",
            'recipients = ["keys/ops.asc"]',
            id="recipients-as-a-string",
        ),
        pytest.param(
            "[[plans.shop.alerts]]",
            "[plans.shop.alerts]",
            "plans.shop.alerts must be a list",
            "[[plans.NAME.alerts]]",
            id="alerts-as-a-table",
        ),
        pytest.param(
            "= 7",
            "= -1",
            "plans.shop.retention.keep_daily: input should be greater",
            "how many days",
            id="less-than-none",
        ),
        pytest.param(
            "= 7",
            "= true",
            "plans.shop.retention.keep_daily: input should be a valid integer",
            "how many days",
            id="a-number-as-true",
        ),
        pytest.param(
            "= 7",
            '= "7"',
            "plans.shop.retention.keep_daily: input should be a valid integer",
            "how many days",
            id="a-number-as-a-string",
        ),
        pytest.param(
            "keep_daily = 7",
            "min_keep = 0",
            "plans.shop.retention.min_keep: input should be greater",
            "newest backups that stay",
            id="keep-none-at-all",
        ),
        pytest.param(
            "required = 1",
            "required = 3",
            "required is 3, but there are only 2 stores",
            "",
            id="required-more-than-stores",
        ),
        pytest.param(
            "required = 1",
            "required = true",
            "plans.shop.required: input should be a valid integer",
            "destinations that must hold",
            id="required-as-true",
        ),
        pytest.param(
            "30 1 * * *",
            "1:30",
            "plans.shop.schedule: not a cron expression: '1:30'",
            "five fields",
            id="a-time",
        ),
        pytest.param(
            "30 1 * * *",
            "0 30 1 * * *",
            "plans.shop.schedule: not a cron expression",
            "five fields",
            id="seconds-first",
        ),
        pytest.param(
            "30 1 * * *",
            "R 1 * * *",
            "plans.shop.schedule: not a cron expression",
            "five fields",
            id="at-random",
        ),
        pytest.param(
            "30 1 * * *",
            "61 1 * * *",
            "plans.shop.schedule: not a cron expression",
            "five fields",
            id="minute-61",
        ),
        pytest.param(
            'bucket = "acme"',
            "",
            "plans.shop.stores.offsite.bucket is missing",
            "the bucket's name",
            id="no-bucket",
        ),
        pytest.param(
            'path = "store"',
            "",
            "plans.shop.stores.here.path is missing",
            "directory that holds",
            id="no-path",
        ),
        pytest.param(
            'kind = "local"',
            "",
            "plans.shop.stores.here.kind is missing",
            "it may be: local, azure, gcs, rclone, rsync, s3, sftp, smb",
            id="no-kind",
        ),
        pytest.param(
            'name = "offsite"\nkind = "s3"',
            "",
            "plans.shop.stores.#2.kind is missing",
            "local, azure, gcs, rclone, rsync, s3, sftp, smb",
            id="no-name-and-no-kind",
        ),
        pytest.param(
            'name = "offsite"',
            'name = ""',
            "a store has an empty name",
            "a name of its own",
            id="an-empty-name",
        ),
        pytest.param(
            '"offsite"', '"here"', "two stores are called here", "a name of its own", id="one-name-twice"
        ),
        pytest.param(
            'kind = "s3"\nbucket = "acme"\naccess_key_id = "env:KEY_ID"\n'
            'secret_access_key = "file:secrets/s3"',
            'kind = "local"\npath = "./elsewhere/../store/"',
            "the stores here and offsite are one place",
            "lost together",
            id="one-place-twice",
        ),
        pytest.param(
            'access_key_id = "env:KEY_ID"',
            "",
            "access_key_id and secret_access_key go together",
            "",
            id="half-of-a-key",
        ),
        pytest.param(
            'bucket = "acme"',
            'bucket = "acme"\nendpoint_url = "minio:9000"',
            "offsite.endpoint_url",
            "https://minio.example",
            id="endpoint-without-scheme",
        ),
        pytest.param(
            'recipients = ["keys/ops.asc"]',
            "",
            "plans.shop.recipients is missing",
            "write it as",
            id="no-recipients",
        ),
        pytest.param(
            '["keys/ops.asc"]',
            "[]",
            "plans.shop.recipients.public_keys: list should have",
            "",
            id="recipients-empty",
        ),
        pytest.param(
            '"keys/ops.asc"',
            '""',
            "plans.shop.recipients: public_keys: an entry is empty",
            "",
            id="a-recipient-empty",
        ),
        pytest.param(
            'database = { conninfo = "env:DATABASE_URL" }',
            "",
            "plans.shop.database is missing",
            'conninfo = "env:DATABASE_URL"',
            id="no-database",
        ),
        pytest.param(
            'conninfo = "env:DATABASE_URL"',
            "",
            "not said where the database is",
            "set conninfo",
            id="database-empty",
        ),
        pytest.param(
            'conninfo = "env:DATABASE_URL"',
            'conninfo = "env:A", host = "db"',
            "plans.shop.database: a database is given both as conninfo and in parts",
            "remove conninfo, or host",
            id="conninfo-and-parts",
        ),
        pytest.param(
            "env:DATABASE_URL",
            "env:",
            "database.conninfo names nothing right after env:",
            "",
            id="empty-reference",
        ),
        pytest.param(
            "env:DATABASE_URL",
            "env: DATABASE_URL",
            "database.conninfo names nothing right after env:",
            "without a blank",
            id="reference-with-a-blank",
        ),
        pytest.param(
            "env:DATABASE_URL",
            "$DATABASE_URL",
            "database.conninfo: the conninfo is neither",
            "",
            id="a-shells-variable",
        ),
        pytest.param(
            "env:DATABASE_URL",
            "hots=db dbname=x",
            "database.conninfo: the conninfo is neither",
            "did you mean host?",
            id="conninfo-with-a-typo",
        ),
        pytest.param(
            'conninfo = "env:DATABASE_URL"',
            'conninfo = "env:A", include_tables = ["orders"]',
            "plans.shop.database: not a name of the form schema.table: orders",
            "",
            id="table-without-schema",
        ),
        pytest.param(
            'conninfo = "env:DATABASE_URL"',
            'host = "db", port = 99999',
            "plans.shop.database.port",
            "port",
            id="port",
        ),
        pytest.param("required = 1", "required = 1\nrequired = 2", "is not TOML", "", id="a-key-twice"),
    ],
)
def test_what_cannot_be_used_names_its_place(
    shop: Read, path: Path, right: str, wrong: str, place: str, remedy: str
) -> None:
    _refused(shop, path, right, wrong, place, remedy)


@pytest.mark.parametrize(
    ("right", "wrong", "place"),
    [
        pytest.param(
            "env:DATABASE_URL",
            f"host=db password={SECRET}",
            "database.conninfo holds a secret",
            id="conninfo",
        ),
        pytest.param(
            "env:DATABASE_URL",
            f"postgresql://ann:{SECRET}@db/shop",
            "database.conninfo holds a secret",
            id="url",
        ),
        pytest.param(
            "env:DATABASE_URL",
            f"postgresql+psycopg://ann:{SECRET}@db/shop",
            "database.conninfo holds a secret",
            id="mappers-url",
        ),
        pytest.param(
            "env:DATABASE_URL",
            f"postgresql://db/shop?password={SECRET}",
            "database.conninfo holds a secret",
            id="urls-query",
        ),
        pytest.param(
            "env:DATABASE_URL",
            f"host=db passwrd={SECRET}",
            "database.conninfo: the conninfo is neither",
            id="conninfo-with-a-typo",
        ),
        pytest.param(
            "env:DATABASE_URL",
            f"postgresql://ann:{SECRET}/x@y@db/shop",
            "database.conninfo: the conninfo",
            id="url-that-needs-encoding",
        ),
        pytest.param(
            'secret_key = "ops"',
            f'scratch = {{ kind = "server", conninfo = "host=db2 password={SECRET}" }}',
            "verify.scratch.conninfo holds a secret",
            id="scratch-conninfo",
        ),
        pytest.param(
            'secret_key = "ops"',
            f'scratch = "postgresql://ann:{SECRET}@db2/postgres"',
            "plans.shop.verify.scratch must be a table, it is a string",
            id="scratch-url-instead-of-a-table",
        ),
        pytest.param(
            'conninfo = "env:DATABASE_URL"',
            f'host = "db", password = "{SECRET}"',
            "database.password holds a secret",
            id="password",
        ),
        pytest.param(
            '{ conninfo = "env:DATABASE_URL" }',
            f'"postgresql://ann:{SECRET}@db/shop"',
            "plans.shop.database must be a table, it is a string",
            id="url-instead-of-a-table",
        ),
        pytest.param("file:secrets/s3", SECRET, "stores.offsite.secret_access_key holds a secret", id="s3"),
        pytest.param(
            "env:SLACK_WEBHOOK_URL",
            f"https://hooks.slack.com/services/T0/B0/{SECRET}",
            "alerts.#1.webhook_url holds a secret",
            id="webhook",
        ),
        pytest.param(
            'bucket = "acme"',
            f'bucket = "acme"\nendpoint_url = "https://key:{SECRET}@minio:9000"',
            "stores.offsite.endpoint_url: must be",
            id="endpoint",
        ),
        pytest.param(
            '"keys/ops.asc"',
            f'"""-----BEGIN PGP PRIVATE KEY BLOCK-----\n{SECRET}\n"""',
            "plans.shop.recipients: public_keys: the text of a secret key",
            id="secret-key-as-recipient",
        ),
        pytest.param(
            'secret_key = "ops"',
            f'secret_key = """-----BEGIN PGP PRIVATE KEY BLOCK-----\n{SECRET}"""',
            "plans.shop.verify.secret_key: a key's text was given",
            id="secret-key-instead-of-its-name",
        ),
    ],
)
def test_a_secret_in_the_file_is_refused_and_not_told(
    shop: Read, path: Path, right: str, wrong: str, place: str
) -> None:
    error = _refused(shop, path, right, wrong, place, "")
    assert SECRET not in str(error)
    cause = error.__cause__
    assert cause is None or SECRET not in str(cause)


def test_a_url_in_the_place_of_a_plan_is_not_told(path: Path) -> None:
    path.write_text(f'[plans]\nshop = "postgresql://ann:{SECRET}@db/shop"\n')
    with pytest.raises(PlanError, match=r"plans\.shop must be a table, it is a string") as caught:
        plan_file.read(path).plan("shop")
    assert SECRET not in str(caught.value)


def test_a_store_without_a_name_is_called_after_its_kind(shop: Read) -> None:
    plan = shop(GOOD.replace('name = "offsite"', "").replace('name = "here"', ""))
    assert [store.name for store in plan.stores] == ["local", "s3"]


@pytest.mark.parametrize(
    ("right", "wrong", "place", "remedy"),
    [
        pytest.param(
            "file:secrets/passphrase",
            SECRET,
            "secret_keys.ops: passphrase: a passphrase itself",
            "env:",
            id="passphrase",
        ),
        pytest.param(
            'key_file = "keys/ops.secret.asc"',
            f'key_file = """-----BEGIN PGP PRIVATE KEY BLOCK-----\n{SECRET}"""',
            "secret_keys.ops: key_file: a key's text was given",
            "in a file",
            id="key-text",
        ),
        pytest.param(
            "key_file =", "keyfile =", "secret_keys.ops: unknown key keyfile", "mean key_file?", id="keyfile"
        ),
        pytest.param(
            "key_file =",
            'homedir = "gnupg"\nkey_file =',
            "secret_keys.ops: a secret key needs exactly one",
            "",
            id="two-places",
        ),
        pytest.param(
            'key_file = "keys/ops.secret.asc"',
            "",
            "secret_keys.ops: a secret key needs exactly one",
            "",
            id="no-place",
        ),
        pytest.param(
            '"keys/ops.secret.asc"',
            "1",
            "secret_keys.ops.key_file: input should be a valid string",
            "",
            id="a-number",
        ),
        pytest.param(
            "[secret_keys.ops]",
            "[secret_keys.opps]",
            "has no secret key called ops",
            "did you mean opps?",
            id="another-name",
        ),
        pytest.param(
            GOOD[GOOD.index("[secret_keys") :],
            "",
            "has no secret key called ops",
            "add [secret_keys.ops]",
            id="none-at-all",
        ),
    ],
)
def test_a_secret_keys_place_is_checked_likewise(
    path: Path, right: str, wrong: str, place: str, remedy: str
) -> None:
    path.write_text(GOOD.replace(right, wrong))
    with pytest.raises(PlanError) as caught:
        plan_file.read(path).secret_key("ops")
    assert place in caught.value.message
    assert remedy in caught.value.hint
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message", "remedy"),
    [
        pytest.param(b"", "has no plan", "begin one with [plans.shop]", id="empty"),
        pytest.param(b"[plans.shop\n", "is not TOML", "double quotes", id="not-toml"),
        pytest.param(b"plans = 1\n", "plans must be a table, it is a number", "[plans.shop]", id="a-number"),
        pytest.param(b'[plans.shop]\nschedule = "\xff"\n', "is not UTF-8", "UTF-8", id="another-encoding"),
        pytest.param(None, "cannot read the plans in", "--plans", id="no-file"),
    ],
)
def test_a_file_that_is_none_of_ours_is_named(
    path: Path, text: bytes | None, message: str, remedy: str
) -> None:
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(PlanError) as caught:
        plan_file.read(path)
    assert str(path) in caught.value.message
    assert message in caught.value.message
    assert remedy in caught.value.hint


@pytest.mark.parametrize(
    ("name", "message", "remedy"),
    [
        pytest.param("shp", "has no plan called shp", "did you mean shop?", id="a-typo"),
        pytest.param("zzz", "has no plan called zzz", "its plans are: my_shop, shop", id="no-likeness"),
        pytest.param("my_shop", "plans.my_shop: not a plan's name", "such as my-shop", id="no-slug"),
    ],
)
def test_a_plan_that_cannot_be_had_gets_the_nearest_name(
    path: Path, name: str, message: str, remedy: str
) -> None:
    path.write_text(GOOD + "\n[plans.my_shop]\n")
    with pytest.raises(PlanError) as caught:
        plan_file.read(path).plan(name)
    assert message in caught.value.message
    assert remedy in caught.value.hint


def _refused(shop: Read, path: Path, right: str, wrong: str, place: str, remedy: str) -> PlanError:
    assert right in GOOD
    with pytest.raises(PlanError) as caught:
        shop(GOOD.replace(right, wrong, 1))
    assert caught.value.message.startswith(str(path))
    assert place in caught.value.message
    assert remedy in caught.value.hint
    return caught.value
