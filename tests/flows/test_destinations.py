"""Destinations are given up one by one: who works for a lost one is stopped, and the last is the end."""

from blocks.errors import StoreUnreachable
from blocks.stores.memory import MemoryStore
from flows.destinations import Destinations

HERE, THERE = MemoryStore(name="here"), MemoryStore(name="there")
CAUSE = StoreUnreachable("there does not answer", "mend it")


def test_a_lost_destination_stops_who_works_for_it_and_nobody_else() -> None:
    ended, stopped = list[BaseException](), dict[str, BaseException]()
    destinations = Destinations([HERE, THERE], ended.append)
    destinations.when_lost(HERE, lambda cause: stopped.update(here=cause))
    destinations.when_lost(THERE, lambda cause: stopped.update(there=cause))
    destinations.give_up(THERE, CAUSE)
    assert (stopped, ended) == ({"there": CAUSE}, [])
    assert destinations.live == [HERE]


def test_who_begins_to_work_for_a_lost_destination_is_stopped_at_once() -> None:
    stopped = list[BaseException]()
    destinations = Destinations([HERE, THERE], lambda _: None)
    destinations.give_up(THERE, CAUSE)
    destinations.when_lost(THERE, stopped.append)
    assert stopped == [CAUSE]


def test_the_loss_of_the_last_one_is_the_end() -> None:
    ended, later = list[BaseException](), StoreUnreachable("here does not answer")
    destinations = Destinations([HERE, THERE], ended.append)
    destinations.give_up(THERE, CAUSE)
    destinations.give_up(THERE, later)
    assert ended == []
    destinations.give_up(HERE, later)
    assert ended == [later]


def test_warnings_tell_of_lost_destinations_and_of_what_was_noted() -> None:
    destinations = Destinations([HERE, THERE], lambda _: None)
    destinations.give_up(THERE, CAUSE)
    destinations.notes.append("the dump waited")
    assert destinations.warnings == [
        "there does not hold this backup: there does not answer",
        "the dump waited",
    ]
