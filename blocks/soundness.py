"""Whether a restored database agrees with itself: rows with their constraints, indexes with their tables.

A restore holds rows against foreign keys and checks only in part, and what was written at the source while
triggers were off, or before a function changed its mind, comes back unseen. Expressions and operators are the
dump's own code, so that a session with a superuser's power is refused.
"""

from dataclasses import dataclass

from psycopg import sql

from blocks.amcheck import CorruptIndex, IndexesChecked, corrupt_indexes, install_amcheck
from blocks.asking import Refusal, ask, refuse_power
from blocks.constraint_queries import Constraint, Kind, constraints, left_out
from blocks.inventory import Progress
from blocks.postgres import Session
from blocks.server_errors import translated

__all__ = [
    "ConstraintsChecked",
    "CorruptIndex",
    "IndexesChecked",
    "ViolatedConstraint",
    "corrupt_indexes",
    "install_amcheck",
    "violated_constraints",
]

COUNTED_VIOLATIONS = 1_000


@dataclass(frozen=True)
class ViolatedConstraint:
    """A constraint that counts as valid, and how many rows break it, counted up to `COUNTED_VIOLATIONS`."""

    schema: str
    table: str
    name: str
    kind: Kind
    count: int


@dataclass(frozen=True)
class ConstraintsChecked:
    """How many constraints were checked, which of them rows break, and what was not checked and why."""

    checked: int
    violated: list[ViolatedConstraint]
    notes: list[str]


def violated_constraints(
    session: Session, progress: Progress = lambda *_: None, *, statement_seconds: float = 3_600
) -> ConstraintsChecked:
    """Look for rows that break a valid foreign key or check of a table; what is NOT VALID is left alone.

    Args:
        session: In autocommit mode, of a role without power who sees every row.
        progress: Called with the constraints looked at so far and their number.
        statement_seconds: How long one constraint may take; one that takes longer is not checked.

    Raises:
        ConfigurationError: The session has a superuser's power.
        ConnectionLost: It ended meanwhile.
    """
    refuse_power(session)
    with translated("listing constraints"), session.transaction(force_rollback=True):
        session.execute("SET LOCAL search_path = ''")
        wanted = constraints(session)
        result = ConstraintsChecked(len(wanted), [], [_note(*one) for one in left_out(session)])
    refused = 0
    progress(0, len(wanted))
    for done, constraint in enumerate(wanted, 1):
        answer = ask(session, _count(constraint), statement_seconds)
        if isinstance(answer, Refusal):
            refused += 1
            result.notes.append(_note(constraint.table, constraint.name, answer.why))
        elif count := answer[0][0]:
            result.violated.append(
                ViolatedConstraint(*constraint.table, constraint.name, constraint.kind, count)
            )
        progress(done, len(wanted))
    return ConstraintsChecked(len(wanted) - refused, result.violated, result.notes)


def _count(constraint: Constraint) -> sql.Composed:
    return sql.SQL("SELECT count(*) FROM ({} LIMIT {}) AS violating").format(
        constraint.violating_rows, COUNTED_VIOLATIONS
    )


def _note(table: tuple[str, str], constraint: str, why: str) -> str:
    return f"constraint {constraint} of {'.'.join(table)} was not checked: {why}"
