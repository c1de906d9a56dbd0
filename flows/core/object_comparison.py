"""What a restored database's catalogue holds against the facts: object by object, with pandas.

Apart from the rest of core because only verification needs pandas. A finding names an object, the properties
that differ, roles and rights; it never holds a property's value.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from flows.core.facts import CatalogObject
from flows.core.findings import Finding, Severity, quoted
from flows.core.object_places import Key, key_of, roots, shown
from flows.core.sql_text import same_sql

_KEY = ["kind", "name"]
_STATUS = {"both": "equal", "left_only": "missing", "right_only": "unexpected"}
_COUNTS = ["expected", "restored", "equal", "missing", "unexpected", "different"]
_RUNNING = frozenset(
    ("aggregate", "event trigger", "function", "policy", "procedure", "rule", "trigger", "window function")
)
# Restored without their owner, who has to be a superuser.
_OWNERLESS = frozenset(("event trigger", "foreign data wrapper", "publication"))
# What somebody wrote, as against what the server makes of it when it is asked.
_VERBATIM = frozenset(
    ("body", "comment", "comments on attributes", "labels", "options", "library", "settings")
)
_PUBLIC: Key = ("schema", ("public",))


@dataclass(frozen=True)
class ObjectComparison:
    """What differs, and by kind how much.

    Args:
        counts: One line a kind, sorted; columns `expected`, `restored`, `equal`, `missing`, `unexpected`
            and `different`, which count every single object.
    """

    counts: pd.DataFrame
    findings: list[Finding]


def compare_objects(
    expected: Iterable[CatalogObject],
    restored: Iterable[CatalogObject],
    *,
    majors: tuple[int, int],
    ignored_roles: Collection[str] = (),
) -> ObjectComparison:
    """Return how the objects of a restored database differ from those of the snapshot.

    An error: what is missing or is not as it was, and what nobody expected and could run. Only a warning:
    anything else that nobody expected, another version of an extension, for a dump names none, and rights
    on the schema public of servers before 15, which a dump does not always tell. What belongs to something
    missing or unexpected is not reported beside it, unless it could run.

    Args:
        majors: Of the server that the facts are of, and of the one that was restored into. What a major
            gives or names differently is no difference.
        ignored_roles: What is theirs or granted to them is not compared.

    Raises:
        pandas.errors.MergeError: A side names an object twice.
    """
    items = [(key_of(item), item) for item in expected], [(key_of(item), item) for item in restored]
    frame = _merged(*([key for key, _ in side] for side in items))
    sides = tuple(map(dict, items))
    rules = _Rules(majors, frozenset(ignored_roles))
    different: dict[Key, list[Finding]] = {}
    for key in _keys(frame, "equal"):
        if findings := list(rules.differences(sides[0][key], sides[1][key])):
            different[key] = findings
    frame["status"] = frame["status"].mask(pd.Series([key in different for key in _keys(frame)]), "different")
    findings = [
        *_missing({key: sides[0][key] for key in _keys(frame, "missing")}),
        *_unexpected({key: sides[1][key] for key in _keys(frame, "unexpected") if key != _PUBLIC}),
        *(finding for key in _keys(frame, "different") for finding in different[key]),
    ]
    return ObjectComparison(_counts(frame), findings)


def _merged(expected: list[Key], restored: list[Key]) -> pd.DataFrame:
    left, right = (pd.DataFrame(side, columns=_KEY, dtype="object") for side in (expected, restored))
    frame = left.merge(right, how="outer", on=_KEY, indicator="status", validate="one_to_one")
    frame["status"] = frame["status"].map(_STATUS).astype("str")
    return frame.sort_values(_KEY, ignore_index=True)


def _keys(frame: pd.DataFrame, status: str = "") -> Iterator[Key]:
    lines = frame[frame["status"] == status] if status else frame
    return zip(lines["kind"], lines["name"], strict=True)


def _counts(frame: pd.DataFrame) -> pd.DataFrame:
    counts = pd.crosstab(frame["kind"], frame["status"]).reindex(columns=_COUNTS, fill_value=0)
    both = counts["equal"] + counts["different"]
    counts["expected"], counts["restored"] = both + counts["missing"], both + counts["unexpected"]
    return counts.rename_axis(columns=None)


def _missing(found: Mapping[Key, CatalogObject]) -> Iterator[Finding]:
    sizes = Counter(roots(found).values())
    for key, item in found.items():
        if key in sizes:
            also = f", nor were {sizes[key] - 1:,} objects that belong to it" if sizes[key] > 1 else ""
            yield _finding("OBJECT_MISSING", "error", item, f"the {item.kind} was not restored{also}")


def _unexpected(found: Mapping[Key, CatalogObject]) -> Iterator[Finding]:
    belonging = roots(found)
    for key, item in found.items():
        if belonging[key] == key or item.kind in _RUNNING:
            severity: Severity = "error" if item.kind in _RUNNING else "warning"
            message = f"the facts do not know this {item.kind}"
            yield _finding("OBJECT_UNEXPECTED", severity, item, message)


@dataclass(frozen=True)
class _Rules:
    """What counts as a difference between two objects of one kind and name."""

    majors: tuple[int, int]
    ignored_roles: frozenset[str]

    def differences(self, expected: CatalogObject, restored: CatalogObject) -> Iterator[Finding]:
        yield from self._properties(expected, restored)
        if self._owner_counts(expected) and expected.owner != restored.owner:
            message = f"it belongs to {_role(restored.owner)}, {_role(expected.owner)} was expected"
            yield _finding("OWNER_DIFFERS", "error", expected, message)
        if changes := list(self._changed_grants(expected, restored)):
            severity: Severity = "warning" if self._is_old_public(expected) else "error"
            yield _finding("GRANT_DIFFERS", severity, expected, "; ".join(changes))

    def _properties(self, expected: CatalogObject, restored: CatalogObject) -> Iterator[Finding]:
        if expected.properties == restored.properties:
            return
        names = sorted(expected.properties.keys() | restored.properties.keys())
        differing = [name for name in names if not self._same(name, expected, restored)]
        if "populated" in differing:
            differing.remove("populated")
            if "populated" not in restored.properties:
                message = "the materialized view was restored without its rows"
                yield _finding("MATVIEW_UNPOPULATED", "error", expected, message)
        if expected.kind == "extension" and "version" in differing:
            differing.remove("version")
            message = "the extension is of another version; the dump does not fix one"
            yield _finding("DEFINITION_DIFFERS", "warning", expected, message)
        if differing:
            message = f"not as it was: {', '.join(differing)}"
            yield _finding("DEFINITION_DIFFERS", "error", expected, message)

    def _same(self, name: str, expected: CatalogObject, restored: CatalogObject) -> bool:
        left, right = expected.properties.get(name), restored.properties.get(name)
        if left == right or (name == "comment" and self._is_old_public(expected)):
            return True
        if name == "unlogged" and expected.kind == "sequence":
            return self._begins(15)
        if left is None or right is None or name in _VERBATIM:
            return False
        return same_sql(left, right, across_majors=self.majors[0] != self.majors[1])

    def _owner_counts(self, expected: CatalogObject) -> bool:
        return not (
            expected.kind in _OWNERLESS
            or expected.owner in self.ignored_roles
            or self._is_old_public(expected)
        )

    def _changed_grants(self, expected: CatalogObject, restored: CatalogObject) -> Iterator[str]:
        # the owner's own rights on it are restored with the owner, that is not at all
        owners = {expected.owner, restored.owner} if self._is_old_public(expected) else set()
        for role in sorted((expected.grants.keys() | restored.grants.keys()) - owners):
            if role not in self.ignored_roles:
                yield from _change(role, self._rights(expected, role), self._rights(restored, role))

    def _rights(self, item: CatalogObject, role: str) -> set[str]:
        rights = set(item.grants.get(role, ()))
        if self._begins(17):  # GRANT ALL gives it there, and only there
            rights -= {"MAINTAIN", "-MAINTAIN", "MAINTAIN with grant option"}
        if self._begins(15) and role == "" and key_of(item) == _PUBLIC:
            rights -= {"CREATE"}
        return rights

    def _is_old_public(self, item: CatalogObject) -> bool:
        """Tell whether it is the schema public of a server whose dumps tell of its grants only."""
        return self.majors[0] < 15 and key_of(item) == _PUBLIC

    def _begins(self, major: int) -> bool:
        """Tell whether what `major` brought is known to one of the two servers only."""
        return min(self.majors) < major <= max(self.majors)


def _change(role: str, before: set[str], after: set[str]) -> Iterator[str]:
    """Yield what a role lost and gained; a right with a minus sign is one that was taken away."""
    taken, given = before - after, after - before
    lost = [right for right in taken if right[0] != "-"] + [right[1:] for right in given if right[0] == "-"]
    gained = [right for right in given if right[0] != "-"] + [right[1:] for right in taken if right[0] == "-"]
    words = [
        f"{word} {', '.join(sorted(rights))}"
        for word, rights in (("lost", lost), ("gained", gained))
        if rights
    ]
    if words:
        yield f"{_role(role)} {' and '.join(words)}"


def _finding(
    rule: Literal[
        "OBJECT_MISSING",
        "OBJECT_UNEXPECTED",
        "DEFINITION_DIFFERS",
        "OWNER_DIFFERS",
        "GRANT_DIFFERS",
        "MATVIEW_UNPOPULATED",
    ],
    severity: Severity,
    item: CatalogObject,
    message: str,
) -> Finding:
    return Finding(rule, severity, shown(item), message, item.kind)


def _role(name: str | None) -> str:
    return "nobody" if name is None else quoted(name) if name else "PUBLIC"
