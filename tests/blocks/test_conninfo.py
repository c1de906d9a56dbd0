"""What people write as a database's address, and what is made of it."""

import pytest

from blocks.conninfo import Target, passfile, read_conninfo
from blocks.errors import ConfigurationError

SHOP = {"host": "db", "dbname": "shop", "user": "ann"}
SOCKET = {"host": "/run/pg", "dbname": "shop"}
IPV6 = {"host": "::1", "port": "5433", "dbname": "shop"}
VERIFIED = {**SHOP, "sslmode": "verify-full"}


@pytest.mark.parametrize(
    ("text", "parameters", "password"),
    [
        pytest.param("host=db dbname=shop user=ann", SHOP, None, id="key-words"),
        pytest.param("postgresql://ann@db/shop", SHOP, None, id="url"),
        pytest.param("postgres://ann:secret@db/shop", SHOP, "secret", id="short-scheme"),
        pytest.param("  postgres://ann@db/shop\n", SHOP, None, id="white-space-around"),
        pytest.param("postgres://ann:p%40ss%2F%3F@db/shop", SHOP, "p@ss/?", id="encoded-password"),
        pytest.param("postgres://ann:a?b&c=d@db/shop", SHOP, "a?b&c=d", id="question-mark-in-password"),
        pytest.param(r"host=db dbname=shop user=ann password='a b\'c'", SHOP, "a b'c", id="quoted-password"),
        pytest.param("host=db dbname=shop user=ann password=''", SHOP, None, id="empty-password"),
        pytest.param(
            "postgresql://ann@one:5432,two:5433/shop?target_session_attrs=read-write",
            {**SHOP, "host": "one,two", "port": "5432,5433", "target_session_attrs": "read-write"},
            None,
            id="several-hosts",
        ),
        pytest.param("postgres:///shop?host=/run/pg", SOCKET, None, id="socket"),
        pytest.param("postgres://[::1]:5433/shop", IPV6, None, id="ipv6"),
        pytest.param("postgres://ann@db/shop?ssl=true", {**SHOP, "sslmode": "require"}, None, id="ssl-true"),
        pytest.param("postgres://ann@db/shop?ssl=verify-full", VERIFIED, None, id="asyncpgs-ssl"),
    ],
)
def test_a_conninfo_is_read_into_parameters_and_a_password(
    text: str, parameters: dict[str, str], password: str | None
) -> None:
    assert read_conninfo(text) == Target(parameters, password)


@pytest.mark.parametrize(
    ("text", "notice"),
    [
        pytest.param("postgresql+psycopg://ann@db/shop", "driver +psycopg is ignored", id="psycopg"),
        pytest.param("postgresql+psycopg2://ann@db/shop", "driver +psycopg2 is ignored", id="psycopg2"),
        pytest.param("postgres+asyncpg://ann@db/shop", "driver +asyncpg is ignored", id="asyncpg"),
        pytest.param(
            "postgresql://ann@db/shop?schema=public&connection_limit=5",
            "parameters schema, connection_limit belong to an object mapper and are ignored",
            id="prisma",
        ),
        pytest.param(
            "postgresql://ann@db/shop?pgbouncer=true",
            "parameters pgbouncer belong to an object mapper and are ignored",
            id="pgbouncer",
        ),
        pytest.param(
            "postgresql://ann@db/shop?currentSchema=a",
            "parameters currentschema belong to an object mapper and are ignored",
            id="jdbc",
        ),
    ],
)
def test_what_an_object_mapper_adds_is_dropped_with_a_notice(text: str, notice: str) -> None:
    assert read_conninfo(text) == Target(SHOP, None, (f"the conninfo's {notice}",))


def test_libpqs_own_parameters_stay_beside_an_object_mappers() -> None:
    target = read_conninfo(
        "postgresql+asyncpg://ann:pw@db/shop?schema=a&sslmode=require&pool_timeout=3&options=-c%20a%3Db"
    )
    assert target.parameters == {**SHOP, "sslmode": "require", "options": "-c a=b"}
    assert len(target.notices) == 2


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        pytest.param("postgres://ann@db/shop?sslmod=require", "did you mean sslmode?", id="url-typo"),
        pytest.param("host=db sslmod=require password=hunter22", "did you mean sslmode?", id="typo"),
        pytest.param("postgres://ann:hunter22@x:y@db/shop", "percent-encode", id="unencoded-password"),
        pytest.param("postgres://ann:hunter22@x@db/shop", "percent-encode", id="unencoded-at"),
        pytest.param("postgres://ann:hunter22/x@db/shop", "percent-encode", id="unencoded-slash"),
        pytest.param("host=db password=hunter22 left over", "single quotes", id="unquoted-password"),
        pytest.param("hunter22", "single quotes", id="a-bare-word"),
        pytest.param("mysql://ann:hunter22@db/shop", "single quotes", id="another-database"),
        pytest.param("host=db sslpassword=hunter22", "without a passphrase", id="key-passphrase"),
        pytest.param(
            "postgres://db/shop?sslpassword=hunter22", "without a passphrase", id="key-passphrase-in-url"
        ),
        pytest.param("host=db password='hunter22\nx'", "second line", id="line-break"),
    ],
)
def test_a_conninfo_that_cannot_be_used_is_refused_without_repeating_it(text: str, hint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_conninfo(text)
    assert hint in caught.value.hint
    assert "hunter22" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_target_does_not_show_its_password() -> None:
    assert "hunter22" not in repr(read_conninfo("host=db password=hunter22"))


def test_a_password_file_escapes_what_separates_its_fields() -> None:
    assert passfile("p:a\\s ö") == "*:*:*:*:p\\:a\\\\s ö\n".encode()
