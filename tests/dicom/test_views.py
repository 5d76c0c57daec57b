import pytest
from pydicom.dataset import Dataset
from pydicom.sr._cid_dict import cid_concepts
from pydicom.sr._concepts_dict import concepts
from pydicom.sr._snomed_dict import mapping

from fixtures.eligibility import CC, MLO, coded, view
from mammoscope.dicom.views import MODIFIERS, VIEWS, parse_view_position, read_projection
from mammoscope.types import Laterality, View


def said(**elements):
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return read_projection(dataset)


@pytest.mark.parametrize(("group", "table"), [(4014, VIEWS), (4015, MODIFIERS)])
def test_the_tables_hold_every_code_of_the_standards_context_groups(group, table):
    ours = {code for row in table for code in row.codes}
    theirs = {
        code
        for name in cid_concepts[group]["SCT"]
        for code, (_, groups) in concepts["SCT"][name].items()
        if group in groups
    }
    assert theirs <= ours
    older = {srt for srt, sct in mapping["SRT"].items() if sct in theirs}
    assert len(older) >= len(theirs)
    assert older <= ours
    for row in table:
        of_row = {mapping["SRT"][code] for code in row.codes if code in mapping["SRT"]}
        assert of_row <= set(row.codes), f"{row.word} mixes two concepts"


@pytest.mark.parametrize("row", VIEWS, ids=lambda row: row.word)
def test_each_code_of_a_view_says_the_same(row):
    found = [said(ViewCodeSequence=view(code)) for code in row.codes]
    assert {projection.view_word for projection in found} == {row.word}
    house = View(row.word) if row.word in View.__members__ else None
    assert {projection.view for projection in found} == {house}


@pytest.mark.parametrize("row", MODIFIERS, ids=lambda row: row.word)
def test_each_code_of_a_modifier_says_the_same_within_the_view_and_beside_it(row):
    for code in row.codes:
        assert said(ViewCodeSequence=view(CC, code)).modifiers == (row.word,)
        beside = said(ViewCodeSequence=view(CC), ViewModifierCodeSequence=[coded(code)])
        assert beside.modifiers == (row.word,)


@pytest.mark.parametrize(
    ("position", "word", "modifiers"),
    [
        ("CC", "CC", ()),
        ("mlo ", "MLO", ()),
        ("LMO", "LMO", ()),
        ("AT", "MLO", ("AT",)),
        ("CV", "CC", ("CV",)),
        ("TAN", None, ("TAN",)),
        ("XCCM", "XCCM", ()),
        ("XCCL", "XCCL", ()),
        ("SIO", "SIO", ()),
        ("SCC", "CC", ("S",)),
        ("SMMLO", "MLO", ("M", "S")),
        ("MML", "ML", ("M",)),
        ("CCM", "CC", ("M",)),
        ("CCID", "CC", ("ID",)),
        ("MLO-ID", "MLO", ("ID",)),
        ("CCRLID", "CC", ("ID", "RL")),
        ("AP", None, ()),
        ("M" * 500, None, ()),
    ],
)
def test_a_view_position_is_taken_apart(position, word, modifiers):
    assert parse_view_position(position) == (word, modifiers)


def test_axillary_tail_is_a_view_of_ours_and_exaggerated_views_are_not_cc():
    assert said(ViewCodeSequence=view(MLO, "R-102D1")).view is View.AT
    assert said(ViewPosition="AT").view is View.AT
    exaggerated = said(ViewPosition="CC", ViewCodeSequence=view("399192008"))
    assert (exaggerated.view, exaggerated.view_word) == (None, "XCCL")
    (note,) = exaggerated.notes
    assert "(0054,0220) ViewCodeSequence says XCCL, (0018,5101) ViewPosition CC" in note


def test_two_views_in_one_header_are_none():
    both = said(ViewCodeSequence=[*view(MLO), *view(CC)])
    assert (both.view, both.view_word) == (None, "CC, MLO")


def test_a_code_that_nobody_knows_is_told_and_the_position_believed():
    private = said(ViewPosition="MLO", ViewCodeSequence=[coded("X-1", "99ACME")])
    assert private.view is View.MLO
    odd = said(ViewCodeSequence=view(CC, "X-2"))
    assert odd.view is View.CC
    assert "holds X-2, which is not of CID 4015" in odd.notes[0]


def test_laterality_has_older_relatives():
    shared = Dataset()
    anatomy = Dataset()
    anatomy.FrameLaterality = "R"
    shared.FrameAnatomySequence = [anatomy]
    region = coded("76752008", AnatomicRegionModifierSequence=[coded("G-A100", "SRT")])
    for elements in (
        {"ImageLaterality": "R"},
        {"Laterality": "R"},
        {"SharedFunctionalGroupsSequence": [shared]},
        {"AnatomicRegionSequence": [region]},
        {"ImageLaterality": "U", "Laterality": "R"},
    ):
        assert said(**elements).laterality is Laterality.R, elements
    assert said().laterality is None


def test_both_breasts_are_no_side_and_a_contradiction_is_told():
    sides = [coded("7771000"), coded("24028007")]
    both = said(AnatomicRegionSequence=[coded("76752008", AnatomicRegionModifierSequence=sides)])
    assert (both.laterality, both.laterality_word) == (None, "B")
    odd = said(ImageLaterality="L", Laterality="R")
    assert odd.laterality is Laterality.L
    assert "(0020,0062) ImageLaterality is L, (0020,0060) Laterality R" in odd.notes[0]
