"""Who is one person: cases grouped by what links them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from calvaria.datasets.layouts import SkullCase, skull_name


def digest_of(person: str) -> str:
    """A person's id as weights files hold it: it tells whether somebody was learned from, and does not say who.

    >>> digest_of("train-004") == digest_of("train-004"), len(digest_of("train-004"))
    (True, 16)
    """
    return hashlib.sha256(f"person {person}".encode()).hexdigest()[:16]


def connected(pairs: Iterable[tuple[str, str]]) -> tuple[tuple[str, ...], ...]:
    """Groups of names that are linked by pairs, directly or through others; sorted.

    >>> connected([("a", "b"), ("c", "d"), ("b", "e")])
    (('a', 'b', 'e'), ('c', 'd'))
    """
    group_of: dict[str, set[str]] = {}
    for a, b in pairs:
        joined = group_of.get(a, {a}) | group_of.get(b, {b})
        group_of.update(dict.fromkeys(joined, joined))
    groups = {id(group): tuple(sorted(group)) for group in group_of.values() if len(group) > 1}
    return tuple(sorted(groups.values()))


def with_groups(cases: Sequence[SkullCase], groups: Iterable[Sequence[str]]) -> list[SkullCase]:
    """The cases with persons joined.

    Args:
        cases: as they were read.
        groups: ids, names of skulls or persons that are one person; what is not among the cases is passed over.

    Returns:
        The same cases in the same order; all cases of a group, and of the persons it touches, have one person.
    """
    persons: dict[str, str] = {case.person: case.person for case in cases}
    persons.update({skull_name(case): case.person for case in cases})
    persons.update({case.id: case.person for case in cases})
    links = []
    for group in groups:
        known = [persons[name] for name in group if name in persons]
        links += [(known[0], other) for other in known[1:]]
    joined = {name: min(group, key=train_first) for group in connected(links) for name in group}
    return [replace(case, person=joined.get(case.person, case.person)) for case in cases]


def groups_of(cases: Iterable[SkullCase]) -> tuple[tuple[str, ...], ...]:
    """Ids of cases that share a person, training first; an id alone is in no group."""
    members: dict[str, list[str]] = {}
    for case in cases:
        members.setdefault(case.person, []).append(case.id)
    shared = {person: sorted(ids, key=train_first) for person, ids in members.items() if len(ids) > 1}
    return tuple(tuple(shared[person]) for person in sorted(shared, key=train_first))


def same_content(digests: Mapping[str, str]) -> list[list[str]]:
    """Ids by what they have in common, in lists that may hold one id only."""
    members: dict[str, list[str]] = {}
    for name, digest in digests.items():
        members.setdefault(digest, []).append(name)
    return list(members.values())


def train_first(case_id: str) -> tuple[bool, str]:
    """Sorts ids: those of the training folder before all others, so that a person is called by a training case."""
    return not case_id.startswith("train"), case_id


__all__ = ["connected", "digest_of", "groups_of", "same_content", "train_first", "with_groups"]
