"""All planted faults, and README.md: which level of proof finds which of them.

After a change of the tables, `python -m tests.faults.corpus` writes README.md anew.
"""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from tests.faults import definitions, others, rows
from tests.faults.stored import STORED
from tests.faults.table import Fault, lines

README = Path(__file__).with_name("README.md")
SECTIONS: dict[str, tuple[Fault, ...]] = {
    "Rows": rows.ROWS,
    "Values, in as many rows": rows.VALUES,
    "Rows at odds with constraints and indexes": rows.SOUNDNESS,
    "Where sequences stand": rows.SEQUENCES,
    "Large objects": rows.LARGE_OBJECTS,
    "Tables and columns": definitions.TABLES,
    "What hangs on tables": definitions.ON_TABLES,
    "Owners and rights": others.OWNERS_AND_RIGHTS,
    "Types and functions": definitions.TYPES_AND_FUNCTIONS,
    "Everything else": others.OTHERS,
}
IN_A_RESTORE = tuple(chain.from_iterable(SECTIONS.values()))
# Below tests/, as file::test.
ELSEWHERE = {
    "a byte flipped anywhere": "end_to_end/test_failures_in.py::test_a_flipped_byte_anywhere_is_found",
    "an archive cut off, empty or gone; a manifest edited, cut off or another's": (
        "end_to_end/test_failures_in.py::test_verify_fails_a_damaged_backup_and_says_what_is_wrong"
    ),
    "archives of two backups swapped": (
        "end_to_end/test_failures_in.py::test_two_backups_objects_swapped_fit_neither_manifest"
    ),
    "dump, roles or facts of two backups swapped, and the manifests made to fit": (
        "end_to_end/test_failures_in.py::"
        "test_two_backups_objects_swapped_are_told_by_the_facts_if_the_manifests_were_made_to_fit"
    ),
    "an archive that was never encrypted": (
        "end_to_end/test_failures_in.py::test_a_message_that_was_never_encrypted_proves_nothing"
    ),
    "an encrypted message damaged, and every checksum made to fit": (
        "end_to_end/test_failures_in.py::test_a_damaged_message_is_told_if_every_checksum_was_made_to_fit"
    ),
    "a dump of later, poorer or empty definitions": (
        "end_to_end/test_verdicts.py::test_what_differs_fails_and_is_named_in_the_encrypted_report_only"
    ),
    "more definitions, of every kind of object": (
        "blocks/test_objects_restored.py::test_a_change_is_found_by_its_rule"
    ),
}

_INTRODUCTION = """\
# Planted faults

What a proof is worth shows in what it finds. Each fault is planted in a really restored database, or in a
really stored backup; the tests beside this file hold every level against this table, in both directions:
what it says is found is found, as nothing else, and what it says is not found is not.

The levels are `schema` (`tier = "schema"`: only definitions are restored), `sample` (`tier = "sample"`: the
rows of some tables, here with `proof = "content"`), `rows` (everything, with `proof = "rows"`: rows are
counted) and `content` (everything, with `proof = "content"`: rows are read). Where a fault is found, the
backup fails; where a level warns, its report tells it, but the backup is verified; – is where it is not seen.

This file is made of the tables in the modules: `python -m tests.faults.corpus` writes it.
"""
_STORED = """
## Stored backups

The dump was exchanged, encrypted again, and every checksum made to fit, as whoever has the public key can do.
A full proof with `proof = "content"` finds:
"""
_ELSEWHERE = """
## Tested elsewhere
"""


def readme() -> str:
    """Return README.md as the tables say."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield _INTRODUCTION.rstrip("\n")
    for title, faults in SECTIONS.items():
        yield from ("", f"## {title}", "", *lines(faults))
    yield from (_STORED, "| fault | as, or why not |", "| --- | --- |", *(fault.line for fault in STORED))
    yield from (_ELSEWHERE, "| fault | test |", "| --- | --- |")
    yield from (f"| {fault} | `{test}` |" for fault, test in ELSEWHERE.items())
    yield ""


if __name__ == "__main__":
    README.write_text(readme())
