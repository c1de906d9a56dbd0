"""The table of faults says what the tests hold the levels against, and is large enough to mean something."""

from collections import Counter
from pathlib import Path
from typing import get_args

import pytest

from flows.core.findings import Rule
from tests.faults.corpus import ELSEWHERE, IN_A_RESTORE, README, readme
from tests.faults.stored import STORED
from tests.faults.table import LEVELS, WARNING

TESTS = Path(__file__).parents[1]
LEAST_FAULTS = 40


def test_readme_says_what_the_tables_say() -> None:
    assert README.read_text() == readme(), "run python -m tests.faults.corpus"


def test_there_are_enough_faults_and_each_has_a_name_of_its_own() -> None:
    names = Counter([fault.name for fault in IN_A_RESTORE] + [fault.name for fault in STORED])
    assert len(names) >= LEAST_FAULTS
    assert names.most_common(1)[0][1] == 1


def test_a_level_that_looks_at_more_finds_no_less() -> None:
    for fault in IN_A_RESTORE:
        found = {level: bool(fault.found_at(level)) for level in LEVELS}
        assert found["content"] >= found["rows"] >= found["schema"], fault.name
        assert found["content"] >= found["sample"], fault.name


def test_what_nobody_sees_is_told_with_a_reason_and_nothing_else_is() -> None:
    for fault in IN_A_RESTORE:
        assert bool(fault.why) is not bool(fault.found), fault.name
    for stored in STORED:
        assert [bool(stored.why), bool(stored.found), bool(stored.refused)].count(True) == 1, stored.name


def test_each_finding_is_of_a_known_rule() -> None:
    rules = {finding.removeprefix(WARNING).split()[0] for fault in IN_A_RESTORE for finding in fault.found}
    assert rules <= set(get_args(Rule))


@pytest.mark.parametrize(("file", "test"), [test.split("::") for test in ELSEWHERE.values()])
def test_what_is_tested_elsewhere_is_tested_there(file: str, test: str) -> None:
    assert f"\ndef {test}(" in (TESTS / file).read_text()
