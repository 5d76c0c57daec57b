"""A case is drawn from a seed and its number, and from nothing else."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

# Imported for the mutations that they register.
from fuzz import codestreams, pictures, structure  # noqa: F401
from fuzz.pictures import pictures as sound_pictures
from fuzz.registry import MUTATIONS, PICTURE_MUTATIONS
from fuzz.seeds import seeds

# Shares of cases: plain pictures, and files with a second mutation before the named one.
_PICTURES, _TWICE = 0.1, 0.2


@dataclass(frozen=True)
class Case:
    """One bad file: what it was made from, by which mutation, and its bytes."""

    seed: int
    number: int
    origin: str
    mutation: str
    suffix: str
    data: bytes


def mutation_of(seed: int, number: int) -> str:
    """Name the mutation of a case without making it."""
    names = list(_kind(Random(f"{seed}/{number}")))
    return names[number % len(names)]


def draw_case(seed: int, number: int) -> Case:
    """Draw one case; the numbers walk through all mutations in turn."""
    draw = Random(f"{seed}/{number}")
    if _kind(draw) is PICTURE_MUTATIONS:
        return _picture(seed, number, draw)
    names = list(MUTATIONS)
    name = names[number % len(names)]
    while True:
        origin, sound = draw.choice(list(seeds().items()))
        file = sound.copy()
        try:
            if draw.random() < _TWICE:
                first = draw.choice(names)
                if "bomb" in first or isinstance(MUTATIONS[first](file, draw), bytes):
                    continue
            made = MUTATIONS[name](file, draw)
        except (ValueError, IndexError, KeyError, StopIteration, struct.error):
            # The first has left nothing that the second could change.
            continue
        if made is False:
            continue
        data = made if isinstance(made, bytes) else file.to_bytes()
        return Case(seed, number, origin, name, ".dcm", data)


def _kind(draw: Random) -> Mapping[str, object]:
    return PICTURE_MUTATIONS if draw.random() < _PICTURES else MUTATIONS


def _picture(seed: int, number: int, draw: Random) -> Case:
    names = list(PICTURE_MUTATIONS)
    name = names[number % len(names)]
    while True:
        origin, (suffix, sound) = draw.choice(list(sound_pictures().items()))
        made = PICTURE_MUTATIONS[name](sound, draw)
        if made is not None:
            return Case(seed, number, origin, name, suffix, made)
