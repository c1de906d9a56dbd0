"""pg_restore's and psql's own words, put into findings that hold no row's value.

A server's message may quote a row ("invalid input syntax for type integer: …"), and so may DETAIL and
CONTEXT. So a message is told only if it is of a form that names objects; and if code of the dump's or rows
had a hand in it, which a CONTEXT tells, even these names are left out. The whole is in the encrypted report.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from flows.core.findings import Finding, Rule, quoted
from flows.core.statements import named_by_entry, named_by_statement

_ERROR = re.compile(
    r"(?:pg_restore|psql)\S*: (?:\[[^]]*\] )?(?:error|fatal): (?P<said>.*)"
    r"|psql:\S*?: (?P<by_psql>(?:ERROR|FATAL|PANIC): .*)|(?P<bare>(?:ERROR|FATAL|PANIC): .*)"
)
_NOTICE = re.compile(r"(?:pg_restore|psql)\S*: (?:\[[^]]*\] )?(?:warning|hint|detail|while |connecting)")
_PRIMARY = re.compile(r"(?:^|: )(?:ERROR|FATAL|PANIC):  ?(?P<primary>.*)")
_COPY_FAILED = re.compile(r'COPY failed for table "(?P<table>.*?)": ')
_COMMAND = "Command was: "

_NAME = r'"(?P<name>.+)"'
_FILE = r'"(?:[^"]*/)?(?P<name>[^"/]+)"'
_ABSENT: tuple[tuple[Rule, str, re.Pattern[str]], ...] = (
    ("EXTENSION_ABSENT", "extension", re.compile(rf"extension {_NAME} (?:is not available|does not exist)")),
    ("EXTENSION_ABSENT", "extension", re.compile(rf"extension {_NAME} has no installation script .*")),
    ("EXTENSION_ABSENT", "extension", re.compile(r'could not open .* file ".*?(?P<name>[^"/]+)\.control".*')),
    ("EXTENSION_ABSENT", "library", re.compile(rf"could not (?:access file|load library) {_FILE}: .*")),
    ("EXTENSION_ABSENT", "library", re.compile(rf"incompatible library {_FILE}: .*")),
    ("EXTENSION_ABSENT", "library", re.compile(rf'could not find function "[^"]*" in file {_FILE}')),
    ("EXTENSION_ABSENT", "preloaded library", re.compile(rf"extension {_NAME} must be preloaded")),
    (
        "EXTENSION_ABSENT",
        "preloaded library",
        re.compile(
            r"(?:This module|(?P<name>[\w-]+):?)"
            r' (?:(?:must|can only) be loaded via|is not in) "?shared_preload_libraries"?'
        ),
    ),
    (
        "EXTENSION_ABSENT",
        "dictionary",
        re.compile(
            rf"could not open (?:affix|dictionary|stop-word|synonym|thesaurus|unaccent) file {_FILE}: .*"
        ),
    ),
    (
        "EXTENSION_ABSENT",
        "security label provider",
        re.compile(rf"security label provider {_NAME} is not loaded"),
    ),
    ("ROLE_ABSENT", "role", re.compile(rf"role {_NAME} does not exist")),
    (
        "COLLATION_UNVERIFIABLE",
        "collation",
        re.compile(rf'collation {_NAME} for encoding "\w+" does not exist'),
    ),
    ("COLLATION_UNVERIFIABLE", "collation", re.compile(r'could not create locale "(?P<locale>[^"]*)": .*')),
    ("COLLATION_UNVERIFIABLE", "collation", re.compile(r"ICU is not supported in this build")),
)
# pg_cron's script looks at a setting of its library's.
_NOT_PRELOADED = re.compile(
    r'unrecognized configuration parameter ".*"|can only create extension in database .*'
)
# A view over a foreign table, or over such a view: the dump holds none of its rows.
_OUT_OF_REACH = re.compile(
    r'could not connect to server ".*"|could not establish connection'
    r"|password (?:is|or GSSAPI delegated credentials) required"
    r"|user mapping not found for .*"
    r'|materialized view ".*" has not been populated'
)
_DISK_FULL = re.compile(r"No space left on device|Disk quota exceeded")
_OUT_OF_MEMORY = re.compile(r"out of (?:shared )?memory")
_TOO_LONG = "DETAIL:  Cannot enlarge string buffer"
_CONNECTION_LOST = re.compile(
    r"(?:reconnection failed: )?connection to (?:server|database) .* failed: "
    r"|(?!.*(?:ERROR|FATAL): ).*(?:server closed the connection unexpectedly|no connection to the server)$"
    r"|.*FATAL:  terminating connection due to (?:administrator command|unexpected postmaster exit)$"
)
_ANY = r'(?:".*"|\S+)'
_MANY = r"[a-z ]+"
# The server's own words, whoever caused them …
_OF_ROWS = re.compile(
    rf"insert or update on table {_ANY} violates foreign key constraint {_ANY}"
    rf"|update or delete on table {_ANY} violates foreign key constraint {_ANY} on table {_ANY}"
    rf"|check constraint {_ANY} of relation {_ANY} is violated by some row"
    rf"|new row for relation {_ANY} violates check constraint {_ANY}"
    rf"|null value in column {_ANY} of relation {_ANY} violates not-null constraint"
    rf"|duplicate key value violates unique constraint {_ANY}"
    rf"|could not create unique index {_ANY}"
    rf"|no partition of relation {_ANY} found for row"
)
# … and words that code of the dump might use for a row's value.
_OF_OBJECTS = re.compile(
    rf"{_MANY} {_ANY} (?:already exists|does not exist)(?: with same argument types)?"
    rf"|{_MANY} {_ANY} (?:of|for) {_MANY} {_ANY} (?:already exists|does not exist)"
    rf"|permission denied (?:for {_MANY} {_ANY}|to {_MANY})"
    rf"|must be (?:owner of {_MANY} {_ANY}|superuser to {_MANY}|able to SET ROLE {_ANY})"
    rf"|multiple primary keys for table {_ANY} are not allowed"
    rf"|unrecognized configuration parameter {_ANY}"
    rf"|out of shared memory|deadlock detected|canceling statement due to {_MANY}"
)
_LONGEST_TOLD = 300
_UNTOLD = "the server refused it; its words, which may quote a row, are in the encrypted report"


@dataclass
class _Error:
    """An error's lines: what it begins with, and what stands behind it."""

    said: str
    entry: str
    rest: list[str]

    @property
    def is_quoting(self) -> bool:
        return any(line.startswith("CONTEXT:") for line in self.rest)

    @property
    def is_of_an_extension(self) -> bool:
        """Tell whether an extension's script failed: it runs before any row is there."""
        return self.statement.startswith("CREATE EXTENSION ")

    @property
    def is_too_long(self) -> bool:
        """Tell whether a row is longer than any server takes, whatever memory it has."""
        return any(line.startswith(_TOO_LONG) for line in self.rest)

    @property
    def statement(self) -> str:
        """The SQL that failed, which may go on over several lines."""
        for number, line in enumerate(self.rest):
            if line.startswith(_COMMAND):
                return "\n".join([line.removeprefix(_COMMAND), *self.rest[number + 1 :]])
        return ""


def classify(lines: Sequence[str], count: int = 0) -> list[Finding]:
    """Return a finding for each error among the lines, and one for those that were not kept.

    Warnings are no errors. Lines behind an error that begin nothing new belong to it.

    Args:
        lines: All that the programs wrote to stderr.
        count: How many errors there were, some of whose lines may be lost.
    """
    findings = [_finding(error) for error in _errors(lines)]
    if (lost := count - len(findings)) > 0:
        message = f"{lost:,} more errors of which no words were kept"
        findings.append(Finding("RESTORE_ERROR", "error", "", message))
    return findings


def scratch_trouble(lines: Sequence[str]) -> tuple[str, str] | None:
    """Return (what the server or the program ran out of, a hint): it proves nothing of the dump."""
    troubles = filter(None, map(_trouble, _errors(lines)))
    return next(troubles, None)


def _trouble(error: _Error) -> tuple[str, str] | None:
    primary = _PRIMARY.search(error.said)
    if _DISK_FULL.search(error.said):
        return "the scratch server's disk became full", "free some space for it"
    if _OUT_OF_MEMORY.fullmatch(primary["primary"] if primary else error.said) and not error.is_too_long:
        return "the scratch server ran out of memory", "give it more, or restore where there is more"
    if _CONNECTION_LOST.match(error.said):
        return "the connection to the scratch server was lost", "find out what ended it: memory may be short"
    return None


def _errors(lines: Sequence[str]) -> Iterator[_Error]:
    error, entry = None, ""
    for line in lines:
        found = _ERROR.match(line)
        is_entry = line.startswith("pg_restore: from TOC entry ")
        if error and (found or is_entry or _NOTICE.match(line)):
            yield error
            error = None
        if is_entry:
            entry = line
        elif found:
            error = _Error(found["said"] or found["by_psql"] or found["bare"] or "", entry, [])
        elif error:
            error.rest.append(line)
    if error:
        yield error


def _finding(error: _Error) -> Finding:
    found = _PRIMARY.search(error.said)
    primary = found["primary"] if found else ""
    is_plain = len(primary) <= _LONGEST_TOLD and primary.isprintable()
    if is_plain and (error.is_of_an_extension or not error.is_quoting):
        for rule, kind, pattern in _ABSENT:
            if absent := pattern.fullmatch(primary):
                return _absent(rule, kind, absent.groupdict(), error)
    if error.is_of_an_extension and _NOT_PRELOADED.fullmatch(primary):
        return _absent("EXTENSION_ABSENT", "preloaded library", {}, error)
    kind, name = _failed(error)
    if kind == "materialized view" and _OUT_OF_REACH.fullmatch(primary):
        message = "it was not filled: it reads another server, which restored code cannot reach here"
        return Finding("MATVIEW_UNPOPULATED", "warning", name, message, kind)
    if not primary:
        message = "pg_restore or psql failed by itself; its words are in the encrypted report"
    else:
        message = (_told(primary, error.is_quoting) if is_plain else "") or _UNTOLD
    return Finding("RESTORE_ERROR", "error", name, message, kind)


def _absent(rule: Rule, kind: str, groups: dict[str, str | None], error: _Error) -> Finding:
    name, locale = groups.get("name") or "", groups.get("locale") or ""
    absent = quoted(*(name.split(".") if kind == "collation" and name else [name or locale or kind]))
    failed = _failed(error)
    needed_by = f"; {' '.join(failed)} needs it" if all(failed) and failed != (kind, absent) else ""
    return Finding(rule, "error", absent, f"the {kind} is not there{needed_by}", kind)


def _failed(error: _Error) -> tuple[str, str]:
    """Return (kind, name) of what failed, from its statement, else from what pg_restore says it was at."""
    if told := named_by_statement(error.statement) or named_by_entry(error.entry):
        return told
    table = _COPY_FAILED.match(error.said)
    return ("table", quoted(table["table"])) if table else ("", "")


def _told(primary: str, is_quoting: bool) -> str:
    """Return the server's message if it names objects at most; without their names if it may quote a row."""
    if _OF_ROWS.fullmatch(primary):
        return re.sub(r'".*"', "…", primary) if is_quoting else primary
    return primary if _OF_OBJECTS.fullmatch(primary) and not is_quoting else ""
