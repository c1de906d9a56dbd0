"""Whether two texts are the same SQL, though a server has taken one in and written it down anew.

A dump and its restore is not a fixpoint: `(ARRAY['a'::character varying])::text[]` comes back as
`ARRAY[('a'::character varying)::text]`, a nameless column of a sub-select is given a name, and another major
leaves out needless parts. Texts that differ are compared in a normal form: their tokens without casts, names
of output columns, and parentheses around a single operand; across majors also without any parentheses and
without what stands before a dot.

What it cannot see, if nothing else differs: that a cast was added, dropped or is to another type, or that an
output column was renamed. Across majors neither that `(a + b) * c` became `a + b * c`, or that a name means
another schema's object. Names, constants, operators and their order always count.
"""

import re
from collections.abc import Iterator, Sequence

_TOKEN = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<string>[eE]'(?:[^'\\]|\\.|'')*' | (?:[bBxXnN]|[uU]&)?'(?:[^']|'')*'
               | \$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$)
    | (?P<quoted>(?:[uU]&)?"(?:[^"]|"")*")
    | (?P<word>[^\W\d][\w$]*)
    | (?P<number>(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    | (?P<cast>::)
    | (?P<operator>[-+*/<>=~!@\#%^&|`?]+)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_PLAIN_QUOTED = re.compile(r'^"([a-z_][a-z0-9_$]*)"$')
_NAME = re.compile(r'(?:[uU]&)?"|[^\W\d]')
_STRING = re.compile(r"(?:[eEbBxXnN]|[uU]&)?'|\$")
# What may follow a type's first word and still belongs to it.
_LONGER_TYPES = {
    "character": (("varying",),),
    "char": (("varying",),),
    "bit": (("varying",),),
    "double": (("precision",),),
    "time": (("with", "time", "zone"), ("without", "time", "zone")),
    "timestamp": (("with", "time", "zone"), ("without", "time", "zone")),
    "interval": tuple(
        tuple(fields.split())
        for fields in (
            "year to month", "day to hour", "day to minute", "day to second", "hour to minute",
            "hour to second", "minute to second", "year", "month", "day", "hour", "minute", "second",
        )
    ),
}  # fmt: skip
# A server writes its keywords in capitals, and names that are not in quotes never so. Before a parenthesis
# these are no function that is called.
_WORDS = """
    ALL AND ANY AS ASC BETWEEN BY CASE CHECK COLLATE DEFAULT DESC DISTINCT ELSE END EXCEPT EXCLUDE FILTER FOR
    FOREIGN FROM GENERATED GROUP HAVING ILIKE IN INCLUDE INTERSECT IS JOIN KEY LATERAL LIKE LIMIT NOT NULL OF
    OFFSET ON OR ORDER OVER PARTITION PRIMARY RANGE REFERENCES RETURN RETURNING ROWS SELECT SET SIMILAR SOME
    THEN UNION UNIQUE USING VALUES WHEN WHERE WITH WITHIN
"""
_KEYWORDS = frozenset(_WORDS.split())
_AFTER_AS = _KEYWORDS | {"MATERIALIZED", "PERMISSIVE", "RESTRICTIVE"}
_CLOSING = {"(": ")", "[": "]"}


def same_sql(left: str, right: str, *, across_majors: bool = False) -> bool:
    """Tell whether two of a server's own texts say the same.

    Args:
        across_majors: The texts are of servers of two majors.
    """
    return left == right or _normal(left, across_majors) == _normal(right, across_majors)


def tokens(text: str) -> Iterator[str]:
    """Yield the tokens of a text, without the space between them; a plain name loses its quotes."""
    for found in _TOKEN.finditer(text):
        if not found["space"]:
            yield _PLAIN_QUOTED.sub(r"\1", found[0]) if found["quoted"] else found[0]


def _normal(text: str, across_majors: bool) -> list[str]:
    found = _without_output_names(_without_casts(list(tokens(text))))
    if not across_majors:
        return _without_needless_parentheses(found)
    return _without_qualifiers([one for one in found if one not in ("(", ")")])


def _without_casts(found: Sequence[str]) -> list[str]:
    kept: list[str] = []
    position = 0
    while position < len(found):
        if found[position] == "::":
            position = _after_type(found, position + 1)
        else:
            kept.append(found[position])
            position += 1
    return kept


def _after_type(found: Sequence[str], start: int) -> int:
    """Return where the type that begins at `start` ends: its name, modifiers and brackets."""
    end = start + 1
    while end + 1 < len(found) and found[end] == ".":
        end += 2
    end = _after_group(found, end, "(")
    for words in _LONGER_TYPES.get(found[start], ()) if start < len(found) else ():
        if tuple(found[end : end + len(words)]) == words:
            end = _after_group(found, end + len(words), "(")
            break
    while end < len(found) and found[end] == "[":
        end = _after_group(found, end, "[")
    return end


def _after_group(found: Sequence[str], start: int, opening: str) -> int:
    """Return where the group that begins at `start` ends, or `start` if none does."""
    if start >= len(found) or found[start] != opening:
        return start
    depth = 0
    for position in range(start, len(found)):
        depth += (found[position] == opening) - (found[position] == _CLOSING[opening])
        if depth == 0:
            return position + 1
    return len(found)


def _without_needless_parentheses(found: Sequence[str]) -> list[str]:
    """Drop the parentheses around a single operand, from the inside outwards."""
    kept: list[str] = []
    opened: list[int] = []
    for one in found:
        if one == "(":
            opened.append(len(kept))
        kept.append(one)
        if one == ")" and opened:
            start = opened.pop()
            if not _is_call(kept, start) and _is_operand(kept[start + 1 : -1]):
                del kept[-1], kept[start]
    return kept


def _is_call(kept: Sequence[str], start: int) -> bool:
    """Tell whether the parenthesis at `start` holds a function's arguments, or a type's modifiers."""
    before = kept[start - 1] if start else ""
    return bool(_NAME.match(before)) and before not in _KEYWORDS


def _is_operand(inside: Sequence[str]) -> bool:
    """Tell whether this is a constant, a name, a call, an array or another group, with its subscripts."""
    if not inside:
        return False
    first = inside[0]
    end = 1
    if first == "(":
        end = _after_group(inside, 0, "(")
    elif _NAME.match(first):
        if first in _KEYWORDS and first != "NULL":
            return False
        while end + 1 < len(inside) and inside[end] == ".":
            end += 2
        end = _after_group(inside, end, "(")
    elif not (_STRING.match(first) or first[0].isdigit()):
        return False
    while end < len(inside) and inside[end] == "[":
        end = _after_group(inside, end, "[")
    return end == len(inside)


def _without_qualifiers(found: Sequence[str]) -> list[str]:
    kept: list[str] = []
    for one in found:
        if len(kept) > 1 and kept[-1] == "." and _NAME.match(kept[-2]) and (one == "*" or _NAME.match(one)):
            del kept[-2:]
        kept.append(one)
    return kept


def _without_output_names(found: Sequence[str]) -> list[str]:
    kept: list[str] = []
    for one in found:
        if kept and kept[-1] == "AS" and _NAME.match(one) and one not in _AFTER_AS:
            del kept[-1]
        else:
            kept.append(one)
    return kept
