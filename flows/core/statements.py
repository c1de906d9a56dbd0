"""What a statement of a dump is about: its kind and its name, read from the statement's beginning."""

import re

from flows.core.findings import quoted

_KINDS = (
    "ACCESS METHOD", "AGGREGATE", "CAST", "COLLATION", "COLUMN", "CONSTRAINT", "CONVERSION", "DATABASE",
    "DOMAIN", "EVENT TRIGGER", "EXTENSION", "FOREIGN DATA WRAPPER", "FOREIGN TABLE", "FUNCTION", "INDEX",
    "LANGUAGE", "LARGE OBJECT", "MATERIALIZED VIEW", "OPERATOR CLASS", "OPERATOR FAMILY", "POLICY",
    "PROCEDURE", "PUBLICATION", "ROLE", "RULE", "SCHEMA", "SEQUENCE", "SERVER", "STATISTICS",
    "SUBSCRIPTION", "TABLE", "TEXT SEARCH CONFIGURATION", "TEXT SEARCH DICTIONARY", "TEXT SEARCH PARSER",
    "TEXT SEARCH TEMPLATE", "TRIGGER", "TYPE", "VIEW",
)  # fmt: skip
_KIND = "|".join(sorted(_KINDS, key=len, reverse=True))
_PART = r'(?:[^\W\d][\w$]*|"(?:[^"]|"")+")'
NAMES = rf"{_PART}(?:\.{_PART})*"
_ABOUT = re.compile(
    rf"(?:CREATE|ALTER|DROP|REFRESH|(?:COMMENT|SECURITY LABEL.*?) ON|(?:GRANT|REVOKE) .*? ON)"
    rf"(?: (?:OR REPLACE|UNIQUE|UNLOGGED|TRUSTED|PROCEDURAL|CONSTRAINT(?= TRIGGER)))* (?P<kind>{_KIND})"
    rf"(?: (?:IF NOT EXISTS|IF EXISTS|ONLY|CONCURRENTLY))* (?P<name>{NAMES})(?P<rest>.*)",
    re.DOTALL,
)
_COPY = re.compile(rf"COPY (?P<name>{NAMES}) \(")
_SETVAL = re.compile(rf"SELECT pg_catalog\.setval\('(?P<name>{NAMES})'")
_ADDED = re.compile(rf"\s+ADD CONSTRAINT (?P<name>{_PART}) ")
# These have their relation behind them: an index is of the same schema, the others are the relation's.
_ON = re.compile(rf".*? ON(?: ONLY)? (?P<name>{NAMES})", re.DOTALL)
_RULE_ON = re.compile(rf".*? (?:AS\s+ON \w+ TO|ON) (?P<name>{NAMES})", re.DOTALL)
_OF_A_RELATION = ("constraint", "policy", "rule", "trigger")
_ENTRY = re.compile(
    rf"pg_restore: from TOC entry \d+; \d+ \d+ (?:(?:ACL|COMMENT|FK|CHECK) )*(?P<kind>{_KIND})"
    r"(?: DATA| SET| ATTACH)? (?P<name>.+) \S+$"
)


def named_by_statement(statement: str) -> tuple[str, str] | None:
    """Return (kind, name as SQL would write it), or None for a statement of an unknown form."""
    if copied := _COPY.match(statement):
        return "table", _name(copied["name"])
    if moved := _SETVAL.match(statement):
        return "sequence", _name(moved["name"])
    found = _ABOUT.match(statement)
    if not found:
        return None
    kind, name, rest = found["kind"].lower(), found["name"], found["rest"]
    if added := _ADDED.match(rest):
        return "constraint", f"{_name(added['name'])} on {_name(name)}"
    on = (_RULE_ON if kind == "rule" else _ON).match(rest)
    relation = on["name"] if on else ""
    if kind == "index" and "." in relation and len(parts(name)) == 1:
        return kind, quoted(*parts(relation)[:-1], *parts(name))
    if kind in _OF_A_RELATION and relation:
        return kind, f"{_name(name)} on {_name(relation)}"
    return kind, _name(name)


def named_by_entry(line: str) -> tuple[str, str] | None:
    """Return (kind, name) of an entry that pg_restore 14 says it is at; it tells no schema."""
    found = _ENTRY.match(line)
    return (found["kind"].lower(), quoted(found["name"])) if found else None


def parts(text: str) -> list[str]:
    """Return the parts of a name as SQL writes it, without their quotes."""
    return [
        part[1:-1].replace('""', '"') if part.startswith('"') else part for part in re.findall(_PART, text)
    ]


def _name(text: str) -> str:
    return quoted(*parts(text))
