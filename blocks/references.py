"""Where a secret lies: `env:NAME`, `file:PATH` or `aws-secret:NAME`, looked up by whoever uses it, at use.

Whatever is resolved here is remembered, so that `redact` can take it out of any text that leaves the
process: a state message, an artifact, an alert, a line on the terminal.
"""

import os
import re
import threading
from pathlib import Path

from pydantic import SecretStr

from blocks.errors import ConfigurationError

SCHEMES = ("env:", "file:", "aws-secret:")
_SHORTEST_REMEMBERED = 4
_URL_PASSWORD = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://[^\s:/@]*):[^\s@]+@", re.IGNORECASE)
_KEYWORD_SECRET = re.compile(
    r"\b(password|passwd|secret|token|sslpassword)(\s*[=:]\s*)('[^']*'|\S+)", re.IGNORECASE
)
_WEBHOOK = re.compile(r"https://hooks\.slack\.com/\S+")
_SIGNED = re.compile(
    r"\b(sig|AccountKey|SharedAccessSignature|X-Goog-Signature|X-Amz-Signature|upload_id)=[^\s&;'\"]+",
    re.IGNORECASE,
)

_remembered: set[str] = set()
_lock = threading.Lock()


def is_reference(value: str) -> bool:
    return value.startswith(SCHEMES)


def resolve(value: str | SecretStr, *, base: Path | None = None) -> str:
    """Return what `value` refers to, or `value` itself when it is no reference.

    Args:
        base: Directory that a relative `file:` path starts from; the working directory if None.

    Raises:
        ConfigurationError: The variable is not set, the file cannot be read, or AWS refuses.
    """
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if text.startswith("env:"):
        return remember(_from_environment(text.removeprefix("env:")))
    if text.startswith("file:"):
        return remember(_from_file(Path(text.removeprefix("file:")), base))
    if text.startswith("aws-secret:"):
        return remember(_from_aws(text.removeprefix("aws-secret:")))
    return remember(text) if isinstance(value, SecretStr) else text


def remember(secret: str) -> str:
    """Keep `secret` among the texts that `redact` takes out, and return it."""
    if len(secret) >= _SHORTEST_REMEMBERED:
        with _lock:
            _remembered.add(secret)
    return secret


def redact(text: str) -> str:
    """Return `text` without any secret that was resolved here or that looks like one."""
    with _lock:
        known = sorted(_remembered, key=len, reverse=True)
    for secret in known:
        text = text.replace(secret, "***")
    text = _URL_PASSWORD.sub(r"\g<scheme>:***@", text)
    text = _SIGNED.sub(r"\1=***", text)
    text = _WEBHOOK.sub("https://hooks.slack.com/***", text)
    return _KEYWORD_SECRET.sub(r"\1\2***", text)


def _from_environment(name: str) -> str:
    if not (value := os.environ.get(name, "")):
        raise ConfigurationError(f"the environment variable {name} is not set", f"set {name} where this runs")
    return value


def _from_file(path: Path, base: Path | None) -> str:
    path = (base or Path()) / path.expanduser()
    try:
        return path.read_text().rstrip("\r\n")
    except OSError as error:
        raise ConfigurationError(f"cannot read the secret file {path}: {error.strerror}") from error


def _from_aws(name: str) -> str:
    import boto3
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
    )

    try:
        answer = boto3.client("secretsmanager").get_secret_value(SecretId=name)
    except (BotoCoreError, ClientError) as error:
        raise ConfigurationError(
            f"AWS Secrets Manager did not give the secret {name}: {type(error).__name__}",
            "check the name, the region and the role's right secretsmanager:GetSecretValue",
        ) from error
    return str(answer["SecretString"])
