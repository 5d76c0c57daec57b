import pytest
from pydicom.dataset import Dataset

from mammoscope.dicom.elements import items, number, shown, tag_name, word, words


def test_a_value_is_shown_on_one_short_line():
    assert shown("MLO") == "MLO"
    assert shown("a\nb\x1b[31m") == "a?b?[31m"
    assert len(shown("x" * 999)) == 64


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
    with pytest.raises(ValueError, match=r"\(0028,1053\) RescaleSlope is .*finite"):
        number(dataset, "RescaleSlope", None)


def test_items_of_what_is_no_sequence_are_none():
    dataset = Dataset()
    dataset.add_new(0x00540220, "LO", "CC")
    assert items(dataset, "ViewCodeSequence") == ()


def test_a_word_that_is_no_keyword_has_no_tag():
    with pytest.raises(ValueError, match="Lateral is not a DICOM keyword"):
        tag_name("Lateral")
