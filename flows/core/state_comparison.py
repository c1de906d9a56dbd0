"""What a database holds besides tables and definitions: where sequences stand, settings, large objects."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from flows.core.facts import DatabaseSetting, LargeObjects, SequenceValue
from flows.core.findings import Check, Finding, Rule, quoted


@dataclass
class Part:
    """What one part of a comparison found, which rules it looked at, and what it compared only half."""

    findings: list[Finding] = field(default_factory=list)
    checks: dict[Rule, Check] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def compare_sequences(
    expected: Sequence[SequenceValue], restored: Sequence[SequenceValue], why_no_values: str = ""
) -> Part:
    """Return sequences that are missing, unexpected or behind.

    Args:
        why_no_values: Why none was set, if none was: then they need only be there.
    """
    findings = list(_sequence_findings(expected, restored))
    if why_no_values:
        kept = [finding for finding in findings if finding.rule != "SEQUENCE_BEHIND"]
        return Part(kept, {"SEQUENCE_BEHIND": Check(None, why_no_values)})
    used = sum(sequence.last_value is not None for sequence in expected)
    return Part(findings, {"SEQUENCE_BEHIND": Check(used, "no sequence whose value is known")})


def compare_settings(expected: Sequence[DatabaseSetting], restored: Sequence[DatabaseSetting] | None) -> Part:
    """Return settings that are missing, unexpected or other; None are those that nobody applied."""
    if restored is None:
        return Part([], {"SETTING_DIFFERS": Check(None, "the database's settings were not applied here")})
    check = Check(len(expected), "the database has no settings of its own")
    return Part(list(_setting_findings(expected, restored)), {"SETTING_DIFFERS": check})


def compare_large_objects(
    expected: LargeObjects | None, restored: LargeObjects | None, why_not: str = ""
) -> Part:
    """Return whether all large objects together are as many, as large and the same.

    Args:
        why_not: Why they were not restored, if they were not.
    """
    if expected is None:
        why_not = "the facts do not tell of large objects"
    elif restored is None:
        why_not = why_not or "the restored large objects were not read"
    if expected is None or restored is None or why_not:
        return Part([], {"LARGE_OBJECTS_DIFFER": Check(None, why_not)})
    message = _difference(expected, restored)
    findings = (
        [Finding("LARGE_OBJECTS_DIFFER", "error", "large objects", message, "large object")]
        if message
        else []
    )
    is_half = expected.count and (expected.content is None or restored.content is None)
    notes = ["the content of large objects was not compared, only their number and size"] if is_half else []
    return Part(findings, {"LARGE_OBJECTS_DIFFER": Check(expected.count, "no large objects")}, notes)


def _difference(expected: LargeObjects, restored: LargeObjects) -> str:
    if (expected.count, expected.size_bytes) != (restored.count, restored.size_bytes):
        return (
            f"{expected.count:,} with {expected.size_bytes:,} bytes were expected,"
            f" {restored.count:,} with {restored.size_bytes:,} were restored"
        )
    if expected.count and _differ(expected.content, restored.content):
        return "as many bytes as expected, but not the same"
    if expected.count and _differ(expected.rights, restored.rights):
        return "their owners, rights or comments are not what they were"
    return ""


def _differ(expected: str | None, restored: str | None) -> bool:
    return None not in (expected, restored) and expected != restored


def _sequence_findings(
    expected: Iterable[SequenceValue], restored: Iterable[SequenceValue]
) -> Iterator[Finding]:
    found = {(sequence.schema_name, sequence.sequence): sequence for sequence in restored}
    for sequence in sorted(expected, key=lambda item: (item.schema_name, item.sequence)):
        key = (sequence.schema_name, sequence.sequence)
        counterpart = found.pop(key, None)
        if counterpart is None:
            message = "the sequence was not restored"
            yield Finding("OBJECT_MISSING", "error", quoted(*key), message, "sequence")
        elif _is_behind(counterpart, sequence):
            message = "the sequence would hand out values again"
            yield Finding("SEQUENCE_BEHIND", "error", quoted(*key), message, "sequence")
    for key in sorted(found):
        message = "the facts do not know this sequence"
        yield Finding("OBJECT_UNEXPECTED", "warning", quoted(*key), message, "sequence")


def _is_behind(restored: SequenceValue, expected: SequenceValue) -> bool:
    """Tell whether a sequence stands before where it stood when the facts were read.

    It may stand beyond: sequences ignore snapshots, and the source went on while pg_dump began. Beyond
    is downwards for a negative increment; a sequence that cycles may stand anywhere, once it was used.
    """
    if expected.last_value is None:
        return False
    if restored.last_value is None:
        return True
    progress = restored.last_value - expected.last_value
    if progress == 0:
        return restored.is_called < expected.is_called
    return not expected.cycles and (progress < 0) == (expected.increment >= 0)


def _setting_findings(
    expected: Iterable[DatabaseSetting], restored: Iterable[DatabaseSetting]
) -> Iterator[Finding]:
    wanted = {(setting.role, setting.name): setting.value for setting in expected}
    found = {(setting.role, setting.name): setting.value for setting in restored}
    for role, name in sorted(wanted.keys() | found.keys(), key=lambda key: (key[0] or "", key[1])):
        setting = f"{name} of role {quoted(role)}" if role is not None else name
        if (role, name) not in found:
            yield Finding("SETTING_DIFFERS", "error", setting, "the setting was not restored", "setting")
        elif (role, name) not in wanted:
            message = "the facts do not know this setting"
            yield Finding("SETTING_DIFFERS", "warning", setting, message, "setting")
        elif wanted[role, name] != found[role, name]:
            yield Finding("SETTING_DIFFERS", "error", setting, "the setting has another value", "setting")
