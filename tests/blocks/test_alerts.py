import json
import logging
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from blocks.alerts import Alert, SlackAlert, fitting, message_blocks, summary
from blocks.errors import AlertError, ConfigurationError
from tests.servers.ports import free_port
from tests.servers.slack import (
    HANG,
    HANG_UP,
    NO_SERVICE,
    SECRET_PATH,
    SERVER_ERROR,
    Answer,
    SlackStub,
    slack_stub,
)

ODD_CHARSET = {"Content-Type": "text/plain; charset=odd"}
ALERT = Alert(
    kind="BACKUP_FAILED",
    plan="shop",
    step="dump",
    cause="pg_dump ended with exit status 1: error: connection to server was lost",
    address="http://127.0.0.1:4200/runs/flow-run/7f1d",
    next_step="see whether the server runs, then start the backup again",
)


@pytest.fixture
def slack() -> Iterator[SlackStub]:
    with slack_stub() as stub:
        yield stub


def alert_to(url: str, timeout_seconds: int = 10) -> SlackAlert:
    return SlackAlert(webhook_url=SecretStr(url), timeout_seconds=timeout_seconds)


def shown(message: dict[str, Any]) -> list[str]:
    """Every text that Slack would show of a message."""
    texts = []
    for block in message["blocks"]:
        texts += [part["text"] for part in [block.get("text"), *block.get("fields", [])] if part]
    return texts


def test_a_message_is_delivered_once_with_every_field(slack: SlackStub) -> None:
    alert_to(slack.url).send(ALERT)

    [message] = slack.messages
    assert slack.requests == 1
    assert message["text"] == f"BACKUP_FAILED: plan shop, dump: {ALERT.cause}"
    assert shown(message) == [
        "BACKUP_FAILED",
        "*Plan*\nshop",
        "*Step*\ndump",
        f"*Cause*\n{ALERT.cause}",
        f"*Next*\n{ALERT.next_step}",
        f"*Run*\n{ALERT.address}",
    ]


def test_a_run_without_an_address_has_no_empty_section(slack: SlackStub) -> None:
    alert_to(slack.url).send(Alert("TEST", "shop", "set-up", "none", "", "nothing"))

    assert not [text for text in shown(slack.messages[0]) if text.startswith("*Run*")]


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(SERVER_ERROR, id="server-error"),
        pytest.param(HANG_UP, id="connection-dropped"),
        pytest.param(Answer(429, "rate_limited", {"Retry-After": "0"}), id="rate-limited"),
    ],
)
def test_a_passing_failure_is_tried_once_more(slack: SlackStub, first: Answer) -> None:
    slack.answers = [first]

    alert_to(slack.url).send(ALERT)

    assert (slack.requests, len(slack.messages)) == (2, 1)


@pytest.mark.parametrize(
    ("answer", "said", "requests"),
    [
        pytest.param(SERVER_ERROR, "the answer was 500 (rollup_error)", 2, id="server-error-twice"),
        pytest.param(NO_SERVICE, "the answer was 404 (no_service)", 1, id="webhook-gone"),
        pytest.param(Answer(200, "<html>sign in</html>"), "the answer was 200", 1, id="a-page-instead-of-ok"),
        pytest.param(Answer(429, "rate_limited", {"Retry-After": "3600"}), "429", 1, id="long-rate-limit"),
        pytest.param(Answer(429, "rate_limited", {"Retry-After": "soon"}), "429", 1, id="odd-rate-limit"),
        pytest.param(Answer(200, "ok", ODD_CHARSET), "LookupError", 1, id="odd-charset"),
        pytest.param(HANG_UP, "the connection broke", 2, id="connection-dropped-twice"),
    ],
)
def test_a_message_that_slack_did_not_confirm_is_an_error(
    slack: SlackStub, answer: Answer, said: str, requests: int
) -> None:
    slack.default = answer

    with pytest.raises(AlertError, match=r"the alert BACKUP_FAILED of plan shop was not delivered") as caught:
        alert_to(slack.url).send(ALERT)

    assert said in caught.value.message
    assert slack.requests == requests


def test_a_webhook_that_is_gone_says_what_to_do(slack: SlackStub) -> None:
    slack.default = NO_SERVICE

    with pytest.raises(AlertError) as caught:
        alert_to(slack.url).send(ALERT)

    assert caught.value.hint == "the webhook is gone: make a new one in Slack and put it into webhook_url"


def test_a_server_that_hangs_is_given_up_after_the_time_out(slack: SlackStub) -> None:
    slack.default = HANG
    started = time.monotonic()

    with pytest.raises(AlertError, match="no answer in time"):
        alert_to(slack.url, timeout_seconds=1).send(ALERT)

    assert time.monotonic() - started < 8


def test_a_refused_connection_is_an_error() -> None:
    with pytest.raises(AlertError, match="connection refused"):
        alert_to(f"http://127.0.0.1:{free_port()}{SECRET_PATH}").send(ALERT)


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("webhook-secret-token", id="no-scheme"),
        pytest.param("ftp://127.0.0.1/webhook-secret-token", id="not-http"),
        pytest.param("http://127.0.0.1:port/webhook-secret-token", id="no-number-for-a-port"),
        pytest.param("http://127.0.0.1/webhook-secret-token with a space", id="space"),
        pytest.param("http://" + "x" * 64 + ".invalid/webhook-secret-token", id="label-too-long"),
        pytest.param("env:PGSALVO_TEST_UNSET", id="variable-not-set"),
        pytest.param("file:/nonexistent/webhook", id="no-such-file"),
    ],
)
def test_an_unusable_address_is_an_error_that_does_not_show_it(url: str) -> None:
    with pytest.raises(AlertError) as caught:
        alert_to(url).send(ALERT)

    assert "webhook-secret-token" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(SERVER_ERROR, id="server-error"),
        pytest.param(Answer(404, SECRET_PATH), id="address-echoed"),
        pytest.param(HANG_UP, id="connection-dropped"),
    ],
)
def test_the_address_is_in_no_error_log_or_repr(
    slack: SlackStub, failure: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    slack.default = failure
    block = alert_to(slack.url)

    with caplog.at_level(logging.DEBUG), pytest.raises(AlertError) as caught:
        block.send(ALERT)

    for text in (*traceback.format_exception(caught.value), caplog.text, repr(block), str(block)):
        assert SECRET_PATH not in text


def test_the_address_is_looked_up_at_use(
    slack: SlackStub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    block = alert_to("env:PGSALVO_TEST_WEBHOOK")
    monkeypatch.setenv("PGSALVO_TEST_WEBHOOK", slack.url)
    block.send(ALERT)
    (tmp_path / "webhook").write_text(slack.url + "\n")
    alert_to(f"file:{tmp_path / 'webhook'}").send(ALERT)

    assert len(slack.messages) == 2


def test_a_check_finds_an_address_that_is_not_there_and_sends_nothing(slack: SlackStub) -> None:
    alert_to(slack.url).check()
    with pytest.raises(ConfigurationError, match="PGSALVO_TEST_UNSET is not set"):
        alert_to("env:PGSALVO_TEST_UNSET").check()
    with pytest.raises(ConfigurationError, match="not a web address"):
        alert_to("SLACK_WEBHOOK_URL").check()

    assert slack.requests == 0


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        pytest.param("a < b & c > d", 99, "a &lt; b &amp; c &gt; d", id="escaped"),
        pytest.param("<!channel> <@U1>", 99, "&lt;!channel&gt; &lt;@U1&gt;", id="mentions-nobody"),
        pytest.param("one\n two\t three", 99, "one two three", id="one-line"),
        pytest.param("abcdef", 6, "abcdef", id="fits-exactly"),
        pytest.param("abcdefg", 6, "abcde…", id="cut"),
        pytest.param("abc<efg", 6, "abc…", id="no-half-entity"),
        pytest.param("password=hunter2 was wrong", 99, "password=*** was wrong", id="no-secret"),
    ],
)
def test_a_text_fits_what_slack_takes(text: str, limit: int, expected: str) -> None:
    assert fitting(text, limit) == expected


def test_endless_texts_stay_within_slacks_limits() -> None:
    endless = "<" * 50_000
    alert = Alert(endless, endless, endless, endless, endless, endless)

    blocks = [block.to_dict() for block in message_blocks(alert)]  # to_dict checks slack-sdk's own limits

    assert len(summary(alert)) <= 3_000
    assert all(len(field["text"]) <= 2_000 for field in blocks[1]["fields"])
    assert json.dumps(blocks).count("…".encode("unicode_escape").decode()) == 6
