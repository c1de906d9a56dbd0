"""What the plan accepts does not count, is still shown, and must not outlive its reason."""

import pytest
from pydantic import ValidationError

from flows.core.findings import Finding, Rule
from flows.core.ignoring import Ignored, judged


def finding(rule: Rule, name: str) -> Finding:
    return Finding(rule, "error", name, "differs")


ORDERS = finding("ROWS_DIFFER", "public.orders")
OWNER = finding("OWNER_DIFFERS", "public.orders")


def ignored(rule: str, name: str, reason: str = "known") -> Ignored:
    return Ignored.model_validate({"rule": rule, "object": name, "reason": reason})


@pytest.mark.parametrize(
    ("name", "is_covered"),
    [
        ("public.orders", True),
        ("public.*", True),
        ("*", True),
        ("public.order?", True),
        ("public.Orders", False),
        ("orders", False),
        ("public.order", False),
    ],
)
def test_an_object_is_matched_whole_and_by_case(name: str, is_covered: bool) -> None:
    result = judged([ORDERS], [ignored("ROWS_DIFFER", name)])
    assert result.counting == ([] if is_covered else [ORDERS])
    assert [found for found, _ in result.set_aside] == ([ORDERS] if is_covered else [])


def test_only_the_rules_own_findings_are_ignored() -> None:
    known = ignored("OWNER_DIFFERS", "public.*")
    assert judged([ORDERS, OWNER], [known]) == ([ORDERS], [(OWNER, known)], [])


def test_the_first_ignore_gives_the_reason_and_no_other_that_matches_is_unused() -> None:
    first, second = ignored("OWNER_DIFFERS", "*", "one"), ignored("OWNER_DIFFERS", "public.*", "two")
    result = judged([OWNER], [first, second])
    assert result.set_aside == [(OWNER, first)]
    assert result.unused == []


def test_an_ignore_that_matches_nothing_is_told_with_its_reason() -> None:
    idle = ignored("GRANT_DIFFERS", "public.orders", "until March")
    result = judged([ORDERS], [idle])
    assert result.unused == [idle]
    (warning,) = result.warnings
    assert "GRANT_DIFFERS of public.orders (until March)" in warning


def test_an_error_of_the_restore_is_ignored_by_the_object_it_is_about() -> None:
    error = finding("RESTORE_ERROR", "public.touch on public.orders")
    assert judged([error], [ignored("RESTORE_ERROR", "*touch*")]).counting == []
    assert judged([error], [ignored("RESTORE_ERROR", "public.orders")]).counting == [error]


def test_an_empty_restore_always_counts() -> None:
    with pytest.raises(ValidationError, match="EMPTY_RESTORE cannot be ignored; a restore without any table"):
        ignored("EMPTY_RESTORE", "*")
    smuggled = Ignored.model_construct(rule="EMPTY_RESTORE", object="*", reason="no")
    empty = finding("EMPTY_RESTORE", "shop")
    assert judged([empty], [smuggled]).counting == [empty]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"rule": "OWNER_DIFFER"}, "no rule is called 'OWNER_DIFFER'; did you mean OWNER_DIFFERS?"),
        ({"rule": "grants_differ"}, "did you mean GRANT_DIFFERS?"),
        ({"rule": "xyz"}, "known are ROWS_DIFFER, CONTENT_DIFFERS"),
        ({"rule": 7}, "Input should be"),
        ({"reason": "  "}, "the reason is empty; say why"),
        ({"object": ""}, "at least 1 character"),
        ({"objects": "*"}, "Extra inputs"),
    ],
)
def test_a_wrong_word_is_told_with_the_right_one(wrong: dict[str, object], words: str) -> None:
    given = {"rule": "OWNER_DIFFERS", "object": "*", "reason": "known"} | wrong
    with pytest.raises(ValidationError) as caught:
        Ignored.model_validate(given)
    assert words in str(caught.value)


def test_nothing_ignored_leaves_everything_counting() -> None:
    assert judged([ORDERS, OWNER], []) == ([ORDERS, OWNER], [], [])


def test_what_is_about_no_object_cannot_be_ignored() -> None:
    """Such as errors of which no words were kept."""
    finding = Finding("RESTORE_ERROR", "error", "", "2 more errors of which no words were kept")
    assert not Ignored(rule="RESTORE_ERROR", object="*", reason="known").covers(finding)


def test_brackets_of_an_objects_name_are_no_wildcards() -> None:
    finding = Finding("DEFINITION_DIFFERS", "error", "public.f(integer[], text[])", "", "function")
    assert Ignored(rule="DEFINITION_DIFFERS", object="public.f(integer[], *", reason="known").covers(finding)
