"""The chain: whatever was done to a trail, its verification says so, and says where."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.audit import GENESIS, Actor, ActorKind, Change, Entry, Facts, Head, changed, link, verify

KEY = b"k" * 32
BEGAN = datetime(2026, 11, 26, 12, tzinfo=UTC)


def chain(length: int, key: bytes = KEY) -> list[Entry]:
    entries: list[Entry] = []
    for number in range(1, length + 1):
        entry = Entry(
            sequence=number,
            at=BEGAN + timedelta(seconds=number),
            actor=Actor(kind=ActorKind.USER, id="usr_1", name="Ada", address="192.0.2.1", agent="x", request_id="r"),
            change=Change(
                tenant_id="ten_1", action="key.created", target=f"key_{number}", target_name="n", after={"name": "n"}
            ),
        )
        previous = entries[-1].link if entries else GENESIS
        entries.append(replace(entry, link=link(key, previous, entry)))
    return entries


def head_of(entries: list[Entry]) -> Head:
    return Head(sequence=entries[-1].sequence, link=entries[-1].link) if entries else Head()


@pytest.mark.parametrize("length", [0, 1, 5])
def test_a_chain_as_it_was_written_is_intact(length: int) -> None:
    entries = chain(length)
    assert verify(KEY, Head(), entries, head_of(entries)) is None


@pytest.mark.parametrize("start", [0, 1, 4, 5])
def test_a_chain_is_intact_from_any_of_its_links_on(start: int) -> None:
    entries = chain(5)
    assert verify(KEY, head_of(entries[:start]), entries[start:], head_of(entries)) is None


FORGERIES = {
    "when": lambda e: replace(e, at=e.at + timedelta(microseconds=1)),
    "who": lambda e: replace(e, actor=replace(e.actor, id="usr_2")),
    "what kind": lambda e: replace(e, actor=replace(e.actor, kind=ActorKind.SYSTEM)),
    "name": lambda e: replace(e, actor=replace(e.actor, name="Bob")),
    "from where": lambda e: replace(e, actor=replace(e.actor, address="")),
    "with what": lambda e: replace(e, actor=replace(e.actor, agent="")),
    "request": lambda e: replace(e, actor=replace(e.actor, request_id="")),
    "fields run together": lambda e: replace(e, actor=replace(e.actor, agent="xr", request_id="")),
    "tenant": lambda e: replace(e, change=replace(e.change, tenant_id="ten_2")),
    "action": lambda e: replace(e, change=replace(e.change, action="key.revoked")),
    "target": lambda e: replace(e, change=replace(e.change, target="key_9")),
    "target's name": lambda e: replace(e, change=replace(e.change, target_name="")),
    "before": lambda e: replace(e, change=replace(e.change, before={})),
    "after": lambda e: replace(e, change=replace(e.change, after={"name": "m"})),
    "after, gone": lambda e: replace(e, change=replace(e.change, after=None)),
    "link": lambda e: replace(e, link=bytes(32)),
}


@pytest.mark.parametrize("forgery", FORGERIES)
@pytest.mark.parametrize("at", [0, 2, 4])
def test_an_entry_that_was_changed_is_found(forgery: str, at: int) -> None:
    entries = chain(5)
    head = head_of(entries)
    entries[at] = FORGERIES[forgery](entries[at])
    fault = verify(KEY, Head(), entries, head)
    assert fault is not None
    assert fault.sequence == at + 1


@given(st.integers(2, 8), st.data())
def test_no_subset_and_no_other_order_passes_for_the_chain(length: int, data: st.DataObject) -> None:
    entries = chain(length)
    kept = data.draw(st.lists(st.sampled_from(entries), max_size=length + 2).filter(lambda some: some != entries))
    assert verify(KEY, Head(), kept, head_of(entries)) is not None


def test_who_has_not_the_key_cannot_write_a_chain_anew() -> None:
    forged = chain(3, key=b"another" * 5)
    fault = verify(KEY, Head(), forged, head_of(forged))
    assert fault is not None
    assert fault.sequence == 1


def test_the_finding_names_what_is_missing() -> None:
    entries = chain(6)
    one = verify(KEY, Head(), entries[:2] + entries[3:], head_of(entries))
    more = verify(KEY, Head(), entries[:2] + entries[5:], head_of(entries))
    tail = verify(KEY, Head(), entries[:4], head_of(entries))
    assert [fault and fault.finding for fault in (one, more, tail)] == [
        "Entry 3 was removed.",
        "Entries 3 to 5 were removed.",
        "Entries 5 to 6 were removed.",
    ]


def test_only_what_differs_is_told() -> None:
    before: Facts = {"name": "a", "role": "viewer", "scopes": ["x"]}
    after: Facts = {"name": "a", "role": "admin", "note": ""}
    assert changed(before, after) == (
        {"note": None, "role": "viewer", "scopes": ["x"]},
        {"note": "", "role": "admin", "scopes": None},
    )
