"""A few hundred bad files in this process: the short run of what ``make fuzz`` does at length.

The short run walks through every mutation. Cases on which native code crashes or fills the
memory would take the whole run with them, which is why the long one has a process for it.
"""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from fuzz.cases import draw_case, mutation_of
from fuzz.check import outcome_of
from fuzz.registry import MUTATIONS, PICTURE_MUTATIONS
from fuzz.seeds import seeds
from mammoscope.dicom.decoders import DECODERS

SEED, CASES = 1, 240
# They decode tens of millions of pixels: for the long run.
BOMBS = {"deflate_bomb", "jpeg_2000_bomb", "jpeg_bomb", "png_bomb", "jpeg_picture_size", "rle_runs"}


@pytest.fixture(scope="module")
def cases():
    numbers = (n for n in itertools.count() if mutation_of(SEED, n) not in BOMBS)
    return [draw_case(SEED, number) for number in itertools.islice(numbers, CASES)]


@pytest.fixture(autouse=True)
def without_the_decoder_apart(monkeypatch):
    """GDCM has a process of its own, which costs more than all the rest of a case."""
    for syntax, chain in DECODERS.items():
        monkeypatch.setitem(DECODERS, syntax, tuple(d for d in chain if d.name != "gdcm"))


def test_bad_files_are_refused_by_name_or_give_whole_pixels(cases, tmp_path):
    outcomes = {case.number: outcome_of(case, tmp_path / "case") for case in cases}
    faults = {
        f"--seed {SEED} --only {number}": outcome.message
        for number, outcome in outcomes.items()
        if outcome.stage == "FAULT"
    }
    assert not faults
    ends = Counter(outcome.stage for outcome in outcomes.values())
    # Neither is everything refused nor everything let through.
    assert min(ends["ingest"], ends["prepare"], ends["accepted"]) > CASES // 10
    assert len({outcome.reason for outcome in outcomes.values()}) >= 14


def test_the_short_run_draws_every_mutation(cases):
    drawn = {case.mutation for case in cases}
    assert drawn | BOMBS >= set(MUTATIONS)
    assert len(drawn & set(PICTURE_MUTATIONS)) >= 5


def test_a_case_is_drawn_again_from_its_seed_and_number(cases):
    again = draw_case(SEED, cases[7].number)
    assert again == cases[7]
    assert draw_case(SEED + 1, cases[7].number).data != cases[7].data


def test_seeds_cover_every_transfer_syntax_and_are_accepted_as_they_are(tmp_path):
    from fuzz.cases import Case

    syntaxes = set()
    for name, sound in seeds().items():
        case = Case(0, 0, name, "none", ".dcm", sound.copy().to_bytes())
        assert outcome_of(case, tmp_path / "case").stage == "accepted", name
        syntaxes.add(sound.get("TransferSyntaxUID").value.rstrip(b"\0 ").decode())
    assert syntaxes >= set(DECODERS)
