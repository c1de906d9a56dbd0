"""How a person hears of trouble: one message to a Slack incoming webhook.

A webhook's address is a secret: whoever has it can post. It appears in no error, log line or repr.
"""

import logging
import re
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Literal
from urllib.error import URLError

from prefect.blocks.core import Block
from pydantic import Field, SecretStr
from slack_sdk.errors import SlackClientError
from slack_sdk.http_retry.builtin_handlers import (
    ConnectionErrorRetryHandler,
    RateLimitErrorRetryHandler,
    ServerErrorRetryHandler,
)
from slack_sdk.http_retry.response import HttpResponse
from slack_sdk.models.blocks import Block as MessageBlock
from slack_sdk.models.blocks import HeaderBlock, MarkdownTextObject, PlainTextObject, SectionBlock
from slack_sdk.webhook import WebhookClient, WebhookResponse

from blocks.errors import AlertError, ConfigurationError
from blocks.references import redact, resolve

HEADER_LIMIT = HeaderBlock.text_max_length
SECTION_LIMIT = SectionBlock.text_max_length
FIELD_LIMIT = 2_000
LONGEST_RATE_LIMIT_SECONDS = 30

# slack-sdk logs addresses at INFO, and bodies as well when its logger has no level of its own
_SILENT = logging.Logger("blocks.alerts.slack", logging.CRITICAL)
_UNDELIVERED = (OSError, HTTPException, ValueError, LookupError, SlackClientError)
_ERROR_WORD = re.compile(r"[a-z_]{1,60}")
_CUT_ENTITY = re.compile(r"&[a-z]{0,3}$")
_GONE = {
    403: "the workspace forbids the message: ask its administrators",
    404: "the webhook is gone: make a new one in Slack and put it into webhook_url",
    410: "the webhook's channel is archived: make a new webhook for another channel",
}


@dataclass(frozen=True)
class Alert:
    """What a person is told; every text is one line and holds no secret and no row's value.

    Args:
        kind: Such as BACKUP_FAILED.
        plan: The plan it is about.
        step: Where it happened, such as dump.
        cause: The first cause.
        address: Of the run in Prefect's UI; empty if there is none.
        next_step: What to do now.
    """

    kind: str
    plan: str
    step: str
    cause: str
    address: str
    next_step: str


class SlackAlert(Block):
    """Sends alerts to a channel by a Slack incoming webhook.

    Example:
        See whether a stored webhook's address can be looked up here:
        ```python
        from blocks.alerts import SlackAlert

        slack_alert = SlackAlert.load("BLOCK_NAME")
        slack_alert.check()
        ```
    """

    _block_type_name = "Slack Alert"
    _block_type_slug = "slack-alert"
    _documentation_url = "https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks"  # type: ignore[assignment]

    kind: Literal["slack"] = Field("slack", description="Tells this kind of alert from others.")
    webhook_url: SecretStr = Field(
        description="An incoming webhook's address: env:NAME, file:PATH, aws-secret:NAME or the text itself."
    )
    timeout_seconds: int = Field(
        10, gt=0, description="How long an attempt waits for Slack's answer, in seconds."
    )

    def check(self) -> None:
        """Raise `ConfigurationError` unless `webhook_url` leads to an address; nothing is sent."""
        self._address()

    def send(self, alert: Alert) -> None:
        """Deliver one message, trying once more after a broken connection, a server error or a rate limit.

        Raises:
            AlertError: Slack did not confirm it; a webhook answers 200 and `ok`, nothing else.
        """
        what = f"the alert {alert.kind} of plan {alert.plan} was not delivered"
        try:
            answer = self._post(alert)
        except ConfigurationError as error:
            raise AlertError(f"{what}: {error.message}", error.hint) from None
        except _UNDELIVERED as error:
            # its text, and those of its causes, may hold the address
            raise AlertError(f"{what}: {_reason(error)}", "see whether this host reaches Slack") from None
        if answer.status_code != 200 or answer.body != "ok":
            word = f" ({answer.body})" if _ERROR_WORD.fullmatch(answer.body) else ""
            hint = _GONE.get(answer.status_code, "see whether webhook_url is a Slack incoming webhook's")
            raise AlertError(f"{what}: the answer was {answer.status_code}{word}", hint)

    def _post(self, alert: Alert) -> WebhookResponse:
        client = WebhookClient(
            self._address(),
            timeout=self.timeout_seconds,
            logger=_SILENT,
            retry_handlers=[ConnectionErrorRetryHandler(), ServerErrorRetryHandler(), _ShortRateLimit()],
        )
        return client.send(text=summary(alert), blocks=message_blocks(alert))

    def _address(self) -> str:
        address = resolve(self.webhook_url).strip()
        if not address.startswith(("https://", "http://")):
            raise ConfigurationError(
                "webhook_url is not a web address",
                "write env:NAME, file:PATH or aws-secret:NAME if it is to be looked up there",
            )
        return address


class _ShortRateLimit(RateLimitErrorRetryHandler):
    """Waits as long as Slack asks for, unless that would hold up the end of a failed run."""

    def _can_retry(self, *, response: HttpResponse | None = None, **others: Any) -> bool:
        if response is None or not super()._can_retry(response=response, **others):
            return False
        asked = [values[0] for name, values in response.headers.items() if name.lower() == "retry-after"]
        return all(text.isdecimal() and int(text) <= LONGEST_RATE_LIMIT_SECONDS for text in asked)


def summary(alert: Alert) -> str:
    """Return the message as one line: what a notification shows."""
    return fitting(f"{alert.kind}: plan {alert.plan}, {alert.step}: {alert.cause}", SECTION_LIMIT)


def message_blocks(alert: Alert) -> list[MessageBlock]:
    """Return the message as Slack lays it out; each part fits Slack's limits."""
    fields = [_markdown("Plan", alert.plan, FIELD_LIMIT), _markdown("Step", alert.step, FIELD_LIMIT)]
    sections = [("Cause", alert.cause), ("Next", alert.next_step), ("Run", alert.address)]
    return [
        HeaderBlock(text=PlainTextObject(text=fitting(alert.kind, HEADER_LIMIT))),
        SectionBlock(fields=fields),
        *(SectionBlock(text=_markdown(title, text, SECTION_LIMIT)) for title, text in sections if text),
    ]


def fitting(text: str, limit: int) -> str:
    """Return `text` as one line without secrets, escaped for Slack and at most `limit` characters long.

    Source: Slack's "Formatting text": only &, < and > are escaped; with them go mentions and links.
    """
    line = redact(" ".join(text.split()))
    escaped = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    if len(escaped) <= limit:
        return escaped
    return _CUT_ENTITY.sub("", escaped[: limit - 1]) + "…"


def _markdown(title: str, text: str, limit: int) -> MarkdownTextObject:
    label = f"*{title}*\n"
    return MarkdownTextObject(text=label + fitting(text, limit - len(label)), verbatim=True)


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, TimeoutError):
        return "no answer in time"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror.lower()
    if isinstance(cause, ConnectionError):
        return "the connection broke"
    return type(error).__name__
