"""Prefect's API as a client of ours sees it: where it is, and what to say when it fails."""

import httpx
from prefect.settings import get_current_settings

NOT_CONFIGURED = "no Prefect API is configured"
CONFIGURE = "set PREFECT_API_URL, and PREFECT_API_AUTH_STRING if the server asks for it"


def api_address() -> str:
    """Return the address of the configured API; empty if there is none."""
    return get_current_settings().api.url or ""


def explained(error: httpx.HTTPError) -> tuple[str, str]:
    """Return (what is wrong in one line, what to do) for a failed call of the API."""
    address = api_address()
    if not isinstance(error, httpx.HTTPStatusError):
        reason = " ".join(str(error).split()) or type(error).__name__
        return (
            f"Prefect's API at {address} does not answer: {reason}",
            "start the server, or correct PREFECT_API_URL",
        )
    answer = f"{error.response.status_code} {error.response.reason_phrase}"
    if error.response.status_code in (401, 403):
        return f"Prefect's API at {address} refused: {answer}", "set PREFECT_API_AUTH_STRING to the server's"
    return (
        f"Prefect's API at {address} answered {answer}",
        "see the server's log, and whether PREFECT_API_URL ends in /api",
    )
