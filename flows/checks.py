"""What the doctor says of one thing."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Check:
    """One line of the doctor: what was looked at, how it is, and what to do if it is not well."""

    name: str
    status: Status
    message: str
    remedy: str = ""


Checks = Iterator[Check]
