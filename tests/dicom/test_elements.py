import pytest
from pydicom.dataset import Dataset

from mammoscope.dicom.elements import items, number, shown, tag_name, word, words
from mammoscope.errors import DicomError


def test_a_value_is_shown_on_one_short_line():
    assert shown("MLO") == "MLO"
    assert shown("a\nb\x1b[31m") == "not printable"
    assert shown("XYZ \u9020\u93cd") == "not printable"
    assert shown("x" * 64) == "x" * 64
    assert shown("x" * 999) == "not printable"


def test_words_keep_their_places_and_a_word_is_the_first_that_is_there():
    dataset = Dataset()
    dataset.ImageType = ["DERIVED", "PRIMARY", "", "GENERATED_2D"]
    assert words(dataset, "ImageType") == ("DERIVED", "PRIMARY", "", "GENERATED_2D")
    dataset.SeriesDescription = ["", "right cc "]
    assert word(dataset, "SeriesDescription") == "RIGHT CC"
    assert (word(dataset, "Modality"), words(dataset, "Modality")) == (None, ())


def test_a_number_is_finite_or_named():
    dataset = Dataset()
    dataset.RescaleSlope = "1.5"
    assert number(dataset, "RescaleSlope", None) == 1.5
    assert number(dataset, "RescaleIntercept", 0.0) == 0.0
    dataset.RescaleSlope = float("nan")
    with pytest.raises(DicomError, match=r"\(0028,1053\) RescaleSlope is .*finite"):
        number(dataset, "RescaleSlope", None)


def test_what_should_be_a_sequence_and_is_none_is_named():
    dataset = Dataset()
    assert items(dataset, "ViewCodeSequence") == ()
    dataset.add_new(0x00540220, "LO", "CC")
    with pytest.raises(DicomError, match=r"\(0054,0220\) ViewCodeSequence is of VR LO; SQ"):
        items(dataset, "ViewCodeSequence")


def test_a_word_that_is_no_keyword_has_no_tag():
    with pytest.raises(ValueError, match="Lateral is not a DICOM keyword"):
        tag_name("Lateral")
