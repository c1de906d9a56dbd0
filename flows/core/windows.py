"""Hours of the day in which something may be done, such as counting rows on a busy server."""

import re
from datetime import datetime, time
from zoneinfo import ZoneInfo

_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


def parse_window(text: str) -> tuple[time, time]:
    """Return the beginning and the end of `22:00-06:00`.

    Raises:
        ValueError: It is not written like that, or has no length.
    """
    found = _WINDOW.fullmatch(text)
    if found is None or found[1] + found[2] == found[3] + found[4]:
        raise ValueError(f"not a stretch of hours: {text!r}; write it as 22:00-06:00")
    return time(int(found[1]), int(found[2])), time(int(found[3]), int(found[4]))


def is_within(window: str, at: datetime, time_zone: str) -> bool:
    """Return whether a moment lies in the window by the clocks of a zone; the window may pass midnight."""
    begin, end = parse_window(window)
    now = at.astimezone(ZoneInfo(time_zone)).time()
    return begin <= now < end if begin < end else now >= begin or now < end
