"""Every mutation by name, and how a case is drawn from a seed and a number."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from fuzz.raw import RawFile

#: Changes a file in place; returns bytes where the result is no list of elements any more,
#: and False where the seed has not what it takes.
Mutation = Callable[[RawFile, Random], bytes | bool | None]
PictureMutation = Callable[[bytes, Random], bytes | None]

MUTATIONS: dict[str, Mutation] = {}
PICTURE_MUTATIONS: dict[str, PictureMutation] = {}


def mutation(function: Mutation) -> Mutation:
    MUTATIONS[function.__name__] = function
    return function


def picture_mutation(function: PictureMutation) -> PictureMutation:
    PICTURE_MUTATIONS[function.__name__] = function
    return function


def damaged(data: bytes, draw: Random, most: int = 12) -> bytes:
    """Flip, cut out, repeat or blank a few bytes somewhere."""
    broken = bytearray(data)
    for _ in range(draw.randint(1, most)):
        if not broken:
            break
        at = draw.randrange(len(broken))
        kind = draw.choice(("flip", "byte", "out", "repeat", "blank", "ones"))
        if kind == "flip":
            broken[at] ^= 1 << draw.randrange(8)
        elif kind == "byte":
            broken[at] = draw.randrange(256)
        elif kind == "out":
            del broken[at : at + draw.choice((1, 2, 3, 8, 64))]
        elif kind == "repeat":
            broken[at:at] = broken[at : at + draw.choice((1, 2, 4, 64))]
        else:
            size = min(draw.choice((1, 2, 4, 16, 256)), len(broken) - at)
            broken[at : at + size] = (b"\0" if kind == "blank" else b"\xff") * size
    return bytes(broken)
