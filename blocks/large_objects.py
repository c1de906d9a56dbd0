"""Large objects: how many, how large, whose, and a fingerprint of what they hold.

pg_largeobject holds them in pages, a quarter of the server's block each. Whoever has no right to read it
opens one object after the other, as pg_dump does. Both ways obey the session's snapshot and give the same.

A hole in an object comes back from a restore as zeros: so a page counts without the zeros at its end, and
an empty one does not count.
"""

from dataclasses import dataclass

from psycopg import sql

from blocks.fingerprints import set_up, sum_of_hashes
from blocks.postgres import Session
from blocks.server_errors import translated

_BATCH = 1_000
_PIECE_PAGES = 512
_SITUATION = """
    SELECT has_table_privilege('pg_largeobject', 'SELECT'), current_setting('block_size')::int4 / 4,
           (SELECT count(*) FROM pg_largeobject_metadata)"""
_HASHES = sum_of_hashes([sql.SQL("loid"), sql.SQL("pageno"), sql.SQL("trimmed")])
_TABLE = sql.SQL("""
    SELECT sum(size), sum(hashes)
    FROM (SELECT max(pageno * {page_bytes} + length) AS size, {hashes} AS hashes
          FROM (SELECT loid, pageno::int8, octet_length(data) AS length, rtrim(data, '\\x00') AS trimmed
                FROM pg_largeobject) AS pages
          GROUP BY loid) AS objects""")
# A right that its owner has anyway may stand in the catalogue or not; a dump tells it only if it was taken.
_RIGHTS = sql.SQL("""
    SELECT {hashes}
    FROM pg_largeobject_metadata m
    LEFT JOIN pg_description d ON d.classoid = 'pg_largeobject'::regclass AND d.objoid = m.oid
    CROSS JOIN LATERAL (SELECT pg_get_userbyid(m.lomowner)::text COLLATE "C" AS owner,
                               d.description COLLATE "C" AS comment) AS texts
    CROSS JOIN LATERAL (
        SELECT string_agg(DISTINCT entry, ',' ORDER BY entry) AS rights
        FROM aclexplode(coalesce(m.lomacl, acldefault('L', m.lomowner))) AS a
        CROSS JOIN LATERAL (
            SELECT format('%L %s %s', CASE a.grantee WHEN 0 THEN '' ELSE pg_get_userbyid(a.grantee) END,
                          a.privilege_type, a.is_grantable AND a.grantee <> m.lomowner) COLLATE "C" AS entry
            ) AS entries) AS granted""").format(
    hashes=sum_of_hashes([sql.SQL(name) for name in ("m.oid", "owner", "rights", "comment")])
)
_ALL_HASHES = sql.SQL("{} FILTER (WHERE octet_length(trimmed) > 0)").format(_HASHES)
# 262144 is INV_READ, and 2 SEEK_END
_SIZES = """
    SELECT oid, lo_lseek64(lo_open(oid, 262144), 0, 2)
    FROM (SELECT oid FROM pg_largeobject_metadata WHERE oid > %s ORDER BY oid LIMIT %s) AS objects"""
_PIECES = sql.SQL("""
    SELECT {hashes}
    FROM unnest(%s::oid[], %s::int8[]) AS objects (loid, size)
    CROSS JOIN generate_series(0, (size - 1) / ({page_bytes} * {piece_pages})) AS piece
    CROSS JOIN LATERAL (
        SELECT lo_get(loid, piece * {page_bytes} * {piece_pages}, {page_bytes} * {piece_pages}) AS data
        OFFSET 0) AS pieces
    CROSS JOIN generate_series(0, (octet_length(data) - 1) / {page_bytes}) AS nth
    CROSS JOIN LATERAL (
        SELECT piece * {piece_pages} + nth AS pageno,
               rtrim(substr(data, nth * {page_bytes} + 1, {page_bytes}), '\\x00') AS trimmed
        OFFSET 0) AS pages
    WHERE octet_length(trimmed) > 0""")


@dataclass(frozen=True)
class LargeObjectTotals:
    """All large objects of a database together.

    Args:
        rights: A fingerprint of owners, rights and comments, a decimal number.
        content: The same of what they hold; None where none was taken.
    """

    count: int
    size_bytes: int
    rights: str
    content: str | None = None


def measure(session: Session, *, content: bool = False) -> LargeObjectTotals:
    """Measure all large objects.

    Args:
        content: Whether to fingerprint them as well.

    Raises:
        RightsMissing: The role may not read one of them, so that pg_dump may not either.
    """
    with translated("measuring large objects"), session.transaction(force_rollback=True):
        set_up(session)
        ((may_read_table, page_bytes, count),) = session.execute(_SITUATION)
        measured = _from_table if may_read_table else _one_by_one
        size_bytes, hashes = measured(session, page_bytes, content=content)
        ((rights,),) = session.execute(_RIGHTS)
    return LargeObjectTotals(count, size_bytes, str(rights or 0), str(hashes) if content else None)


def _from_table(session: Session, page_bytes: int, *, content: bool) -> tuple[int, int]:
    hashes = _ALL_HASHES if content else sql.SQL("NULL::numeric")
    ((size_bytes, summed),) = session.execute(_TABLE.format(page_bytes=page_bytes, hashes=hashes))
    return int(size_bytes or 0), int(summed or 0)


def _one_by_one(session: Session, page_bytes: int, *, content: bool) -> tuple[int, int]:
    query = _PIECES.format(hashes=_HASHES, page_bytes=page_bytes, piece_pages=_PIECE_PAGES)
    size_bytes, hashes = 0, 0
    sizes = _sizes(session, after=0)
    while sizes:
        size_bytes += sum(sizes.values())
        if content:
            ((summed,),) = session.execute(query, [list(sizes), list(sizes.values())])
            hashes += int(summed or 0)
        sizes = _sizes(session, after=max(sizes))
    return size_bytes, hashes


def _sizes(session: Session, *, after: int) -> dict[int, int]:
    """Return the sizes of the next objects by their OIDs."""
    with session.transaction(force_rollback=True):  # which closes them
        return dict(session.execute(_SIZES, [after, _BATCH]).fetchall())
