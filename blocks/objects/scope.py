"""What the readers of all kinds share: what a dump holds, who belongs to extensions, and comments.

A kind is a query whose columns become an object. Those that begin with `_` tell what it is: `_kind`, `_oid`,
`_part` (the number of a column), `_name`, `_owner`, `_acl` with `_default_acl` and, if there is no `_owner`,
its `_grantor`; and where it belongs, `_schema` or `_relation`. Each of the others is a property by that name;
null, false and an empty list say that PostgreSQL's default holds.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from blocks.pgcommands import DumpSelection
from blocks.postgres import Session

Catalogue = Literal[
    "pg_am",
    "pg_cast",
    "pg_class",
    "pg_collation",
    "pg_constraint",
    "pg_conversion",
    "pg_default_acl",
    "pg_event_trigger",
    "pg_extension",
    "pg_foreign_data_wrapper",
    "pg_foreign_server",
    "pg_language",
    "pg_namespace",
    "pg_opclass",
    "pg_operator",
    "pg_opfamily",
    "pg_policy",
    "pg_proc",
    "pg_publication",
    "pg_publication_namespace",
    "pg_publication_rel",
    "pg_rewrite",
    "pg_statistic_ext",
    "pg_transform",
    "pg_trigger",
    "pg_ts_config",
    "pg_ts_dict",
    "pg_ts_parser",
    "pg_ts_template",
    "pg_type",
    "pg_user_mapping",
]
Right = tuple[int, str, bool]

_OURS = r"nspname !~ '^pg_' AND nspname <> 'information_schema'"
_SCHEMAS = f"SELECT nspname FROM pg_namespace WHERE {_OURS}"  # noqa: S608 - constants
_MEMBERS = "SELECT classid::regclass::text, objid FROM pg_depend WHERE deptype = 'e'"
_ROLES = "SELECT oid, rolname FROM pg_roles"
_COMMENTS = """
    SELECT classoid::regclass::text, objoid, objsubid, description FROM pg_description
    WHERE objoid >= 16384 OR classoid = 'pg_namespace'::regclass"""
_RELATIONS = f"""
    SELECT c.oid, n.nspname, c.relname, d.refobjid AS owner_oid,
           coalesce(d.deptype = 'i', false) AS is_identity
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_depend d ON c.relkind = 'S'
                         AND d.classid = 'pg_class'::regclass AND d.objid = c.oid
                         AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0
                         AND d.deptype IN ('a', 'i')
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't' AND {_OURS}"""  # noqa: S608 - constants
_RIGHTS = """
    CASE WHEN q.{acl} IS NOT NULL THEN (
        SELECT coalesce(json_agg(json_build_array(r.grantee::int8, r.privilege_type, r.is_grantable)), '[]')
        FROM aclexplode(q.{acl}) r) END AS _{name}"""
_GRANTED = _RIGHTS.format(acl="_acl", name="granted")
_BY_DEFAULT = _RIGHTS.format(acl="_default_acl", name="by_default")
_WITH_GRANTS = f"WITH q AS MATERIALIZED ({{query}}) SELECT q.*, {_GRANTED}, {_BY_DEFAULT} FROM q"  # noqa: S608 - constants


@dataclass(frozen=True)
class DatabaseObject:
    """One object as the catalogue describes it; its kind and its name tell it from all others.

    Args:
        kind: In PostgreSQL's own words, lower case: `table`, `column`, `event trigger`.
        name: In parts, never joined: schema, relation, column; of a function the types of its arguments last.
        owner: None for what has no owner of its own, or none that a dump tells of.
        grants: By role (empty for PUBLIC) the rights beyond the kind's default ones, sorted; what the
            default gives and was taken away begins with a minus sign. Who granted it is left out.
        properties: Everything else that a dump carries; absent where PostgreSQL's default holds.
    """

    kind: str
    name: tuple[str, ...]
    owner: str | None = None
    grants: dict[str, tuple[str, ...]] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Kind:
    """How objects of one kind, or of a few, are read.

    Args:
        catalogue: Where `_oid` points to, in pg_depend's and pg_description's words.
        query: See the module; `%(relations)s` and `%(without_rows)s` are OIDs of the dump's relations.
        in_schemas: Whether a dump of some schemas holds them too.
        since: The first major that has them so.
        before: The first major that no longer has.
    """

    catalogue: Catalogue
    query: str
    has_grants: bool = False
    in_schemas: bool = True
    since: int = 0
    before: int = 1000


@dataclass(frozen=True)
class Scope:
    """What of a database is looked at: what the dump of a selection holds.

    Args:
        schemas: Those of the dump.
        relations: OIDs of tables, views and sequences of the dump.
        without_rows: OIDs of those of them whose rows the dump leaves out.
        is_whole: Whether the dump holds what belongs to no schema.
        members: Catalogue and OID of what belongs to an extension.
        roles: Names by OID, that of PUBLIC is empty.
        comments: By catalogue, OID and number of the column.
    """

    major: int
    schemas: frozenset[str]
    relations: frozenset[int]
    without_rows: frozenset[int]
    is_whole: bool
    members: frozenset[tuple[str, int]]
    roles: dict[int, str]
    comments: dict[tuple[str, int, int], str]

    @classmethod
    def of(cls, session: Session, selection: DumpSelection) -> "Scope":
        """Find out what a dump of `selection` holds, by pg_dump's own rules."""
        members = frozenset((catalogue, oid) for catalogue, oid in session.execute(_MEMBERS))
        schemas = {name for (name,) in session.execute(_SCHEMAS)} - set(selection.exclude_schemas)
        if selection.include_schemas:
            schemas &= set(selection.include_schemas)
        rows = [row for row in session.execute(_RELATIONS.encode()) if ("pg_class", row[0]) not in members]
        without_rows = set(selection.exclude_table_data)
        return cls(
            major=session.info.server_version // 10_000,
            schemas=frozenset(schemas),
            relations=_dumped(rows, schemas, set(selection.exclude_tables)),
            without_rows=frozenset(oid for oid, *name, _, _ in rows if tuple(name) in without_rows),
            is_whole=not selection.include_schemas,
            members=members,
            roles={0: "", **dict(session.execute(_ROLES).fetchall())},
            comments={(row[0], row[1], row[2]): row[3] for row in session.execute(_COMMENTS)},
        )

    def read(self, session: Session, kind: Kind) -> Iterator[DatabaseObject]:
        """Yield the objects of a kind that the dump holds."""
        if not kind.since <= self.major < kind.before or not (self.is_whole or kind.in_schemas):
            return
        query = _WITH_GRANTS.format(query=kind.query) if kind.has_grants else kind.query
        oids = {"relations": list(self.relations), "without_rows": list(self.without_rows)}
        cursor = session.execute(query.encode(), oids)
        columns = [column.name for column in cursor.description or ()]
        for values in cursor:
            row = dict(zip(columns, values, strict=True))
            if self._holds(kind.catalogue, row):
                yield self._object(kind.catalogue, row)

    def _holds(self, catalogue: str, row: dict[str, Any]) -> bool:
        return (
            ("_relation" not in row or row["_relation"] in self.relations)
            and ("_schema" not in row or row["_schema"] in self.schemas)
            and (catalogue, row["_oid"]) not in self.members
        )

    def _object(self, catalogue: str, row: dict[str, Any]) -> DatabaseObject:
        properties = {
            name: _text(value)
            for name, value in row.items()
            if name[0] != "_" and value is not None and value is not False and value != []
        }
        comment = self.comments.get((catalogue, row["_oid"], row.get("_part", 0)))
        if comment is not None:
            properties["comment"] = comment
        owner = row.get("_owner")
        return DatabaseObject(
            kind=row["_kind"],
            name=tuple(row["_name"]),
            owner=None if owner is None else self._role(owner),
            grants={self._role(role): rights for role, rights in _grants(row).items()},
            properties=properties,
        )

    def _role(self, oid: int) -> str:
        return self.roles.get(oid, f"unknown (OID={oid})")


def differences(
    granted: Iterable[Right], by_default: Iterable[Right], owner: int
) -> dict[int, tuple[str, ...]]:
    """Return by role what is granted beyond the default, or taken away from it.

    Args:
        granted: Role, right and whether with grant option; several grantors may have given the same.
        owner: May grant anyway, whatever is written of it.
    """
    found = _merged(granted)
    default = _merged(by_default)
    rights: dict[int, list[str]] = {}
    for (role, right), grantable in found.items():
        if (role, right) not in default or (grantable and role != owner):
            rights.setdefault(role, []).append(f"{right} with grant option" if grantable else right)
    for role, right in default.keys() - found.keys():
        rights.setdefault(role, []).append(f"-{right}")
    return {role: tuple(sorted(names)) for role, names in rights.items()}


def _grants(row: dict[str, Any]) -> dict[int, tuple[str, ...]]:
    if row.get("_granted") is None:
        return {}
    owner = row["_owner"] if "_owner" in row else row["_grantor"]
    return differences(row["_granted"], row["_by_default"] or (), owner)


def _merged(rights: Iterable[Right]) -> dict[tuple[int, str], bool]:
    merged: dict[tuple[int, str], bool] = {}
    for role, right, grantable in rights:
        merged[role, right] = merged.get((role, right), False) or grantable
    return merged


def _dumped(
    rows: Iterable[tuple[Any, ...]], schemas: set[str], excluded: set[tuple[str, str]]
) -> frozenset[int]:
    """Return the relations that pg_dump takes: a table's sequences come with it, an identity's only so."""
    chosen = {oid for oid, schema, name, _, _ in rows if schema in schemas and (schema, name) not in excluded}
    for oid, _, _, owner_oid, is_identity in rows:
        if owner_oid in chosen:
            chosen.add(oid)
        elif is_identity:
            chosen.discard(oid)
    return frozenset(chosen)


def _text(value: object) -> str:
    if value is True:
        return "yes"
    return ", ".join(value) if isinstance(value, list) else str(value)
