"""Failures of several destinations, told together: the first in full, none with a secret."""

import pytest

from blocks import references
from blocks.errors import ConfigurationError, StoreUnreachable
from flows.outcomes import raise_all, summed, told


def test_the_only_failure_is_raised_as_it_is() -> None:
    alone = StoreUnreachable("no answer")
    with pytest.raises(StoreUnreachable) as raised:
        raise_all("syncing shop", [alone])
    assert raised.value is alone
    raise_all("syncing shop", [])


def test_no_secret_of_a_failure_stands_in_the_words_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFSITE_KEY", "correct-horse")
    references.resolve("env:OFFSITE_KEY")
    failures = [StoreUnreachable("correct-horse is refused"), ConfigurationError("no such bucket")]
    with pytest.raises(ExceptionGroup) as raised:
        raise_all("syncing shop", failures)
    assert raised.value.message == "syncing shop failed 2 times, first: *** is refused"
    assert told(failures[0]) == "*** is refused"


def test_of_many_failures_of_one_kind_the_first_tells_how_many() -> None:
    assert [told(error) for error in summed([StoreUnreachable("a"), StoreUnreachable("b")])] == [
        "a (and 1 more)"
    ]
    assert [told(error) for error in summed([StoreUnreachable("a")])] == ["a"]
    assert summed([]) == []
