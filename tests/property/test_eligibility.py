"""Whatever a header holds, an image is admitted or refused with a code; never another error."""

from __future__ import annotations

import io
import random
import warnings

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation, ExplicitVRLittleEndian

from fixtures.eligibility import CASES, CC, coded
from mammoscope.config import EligibilityConfig
from mammoscope.dicom import read_dicom
from mammoscope.dicom.eligibility import RULES, admit, gate
from mammoscope.dicom.views import MODIFIERS, VIEWS, parse_view_position, read_projection
from mammoscope.errors import DicomError, IneligibleImageError, Reason
from mammoscope.types import Laterality, View

FIRING = [case for fires, _ in CASES.values() for case in fires]
KEYWORDS = sorted({keyword for case in FIRING for keyword in case})
WORDS = st.sampled_from(
    ["", "YES", "NO", "BOTH", "L", "R", "B", "U", "CC", "MLO", "MMLO", "XCCL", "TOMO_PROJ", "DRW",
     "GENERATED_2D", "PHANTOM", "BREAST", "MG", "FOR PROCESSING", "1.5", "-1", "nan", "inf", "9e99",
     "1.2.840.10008.5.1.4.1.1.7"]
)  # fmt: skip
CODES = st.sampled_from([code for row in (*VIEWS, *MODIFIERS) for code in row.codes] + ["X", ""])
CASE = st.sampled_from([case for fires, silent in CASES.values() for case in (*fires, *silent)])
ODD = st.one_of(WORDS, st.text(max_size=40), st.lists(WORDS, max_size=4))


def mammogram(cases) -> Dataset:
    """A mammogram with the elements of several cases."""
    dataset = Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.ImageLaterality, dataset.ViewPosition = "L", "CC"
    dataset.Rows, dataset.Columns = 160, 120
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelRepresentation = 0
    dataset.PixelData = np.zeros((160, 120), np.uint8).tobytes()
    dataset["PixelData"].VR = "OB"
    for case in cases:
        for keyword, value in case.items():
            if value is not None:
                setattr(dataset, keyword, value)
            elif keyword in dataset:
                delattr(dataset, keyword)
    return dataset


@st.composite
def files(draw):
    """The bytes of a mammogram with elements of several cases, some replaced by anything."""
    cases = draw(st.lists(CASE, max_size=4))
    odd = {}
    for keyword in draw(st.lists(st.sampled_from(KEYWORDS), max_size=4, unique=True)):
        codes = pydicom.datadict.dictionary_VR(keyword) == "SQ"
        odd[keyword] = draw(st.lists(CODES, max_size=3) if codes else ODD)
    sop_class = draw(st.sampled_from([*[None] * 9, "YES", "1.2.3", "1..2"]))
    with warnings.catch_warnings():
        # pydicom warns of what it is made to write; what we read of it is the matter.
        warnings.simplefilter("ignore")
        dataset = mammogram(cases)
        for keyword, value in odd.items():
            vr = pydicom.datadict.dictionary_VR(keyword)
            if vr == "SQ":
                setattr(dataset, keyword, [coded(code) for code in value])
            elif vr not in ("US", "UI"):
                dataset.add(as_found(keyword, value))
        if sop_class is not None:
            dataset.SOPClassUID = sop_class
        return written(dataset)


def written(dataset):
    """Encode; what was read raw is written as it was."""
    dataset.set_original_encoding(False, True, "iso8859")  # noqa: FBT003 - explicit, little endian
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def as_found(keyword, value):
    """An element as a file may hold it, whatever its value representation allows."""
    text = value if isinstance(value, str) else "\\".join(value)
    raw = text.encode("ascii", "replace")
    raw += b" " * (len(raw) % 2)
    tag, vr = pydicom.tag.Tag(keyword), pydicom.datadict.dictionary_VR(keyword)
    return pydicom.dataelem.RawDataElement(
        tag, vr, len(raw), raw, 0, is_implicit_VR=False, is_little_endian=True
    )


@st.composite
def configs(draw):
    names = [rule.code.value for rule in RULES if rule.code in EligibilityConfig.model_fields]
    chosen = draw(st.dictionaries(st.sampled_from(names), st.sampled_from(["accept", "refuse"])))
    return EligibilityConfig(**chosen)


def outcome(header, config, **table):
    """Return the reason, or the admission; anything else is a fault of ours."""
    try:
        return admit(header, config, **table)
    except (IneligibleImageError, DicomError) as error:
        return error


@settings(max_examples=150, deadline=None)
@given(file=files(), config=configs(), view=st.sampled_from([None, "CC", "MLO", "", "XYZ"]))
def test_any_header_is_admitted_or_refused_with_a_code(tmp_path_factory, file, config, view):
    path = tmp_path_factory.getbasetemp() / "any.dcm"
    path.write_bytes(file)
    try:
        header = read_dicom(path).header
    except DicomError:
        return
    found = outcome(header, config, view=view)
    if isinstance(found, IneligibleImageError | DicomError):
        assert isinstance(found.reason, Reason)
    if isinstance(found, IneligibleImageError):
        assert "(0" in str(found)
        assert "accepted: " in str(found)
        assert str(found).isprintable()
    elif not isinstance(found, DicomError):
        assert found.laterality in Laterality
        assert found.view in View


@settings(max_examples=60, deadline=None)
@given(cases=st.lists(CASE, max_size=4), seed=st.integers(0, 99))
def test_the_order_of_the_rules_decides_only_which_code_comes_first(tmp_path_factory, cases, seed):
    path = tmp_path_factory.getbasetemp() / "order.dcm"
    path.write_bytes(written(mammogram(cases)))
    try:
        header = read_dicom(path).header
    except DicomError:
        return
    first = outcome(header, EligibilityConfig())
    shuffled = list(RULES)
    random.Random(seed).shuffle(shuffled)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate, "RULES", tuple(shuffled))
        again = outcome(header, EligibilityConfig())
    assert type(first) is type(again)
    if isinstance(first, IneligibleImageError):
        assert set(str(first).split("; and ")) == set(str(again).split("; and "))
    else:
        assert set(first.warnings) == set(again.warnings)


@given(codes=st.lists(CODES, max_size=5), seed=st.integers(0, 99))
def test_the_order_of_modifiers_says_nothing(codes, seed):
    def said(order):
        dataset = Dataset()
        modifiers = [coded(code) for code in order]
        dataset.ViewCodeSequence = [coded(CC, ViewModifierCodeSequence=modifiers)]
        projection = read_projection(dataset)
        return projection.view, projection.modifiers, set(projection.notes)

    shuffled = list(codes)
    random.Random(seed).shuffle(shuffled)
    assert said(codes) == said(shuffled)


@given(position=st.one_of(WORDS, st.text(max_size=60), st.text("MSCLORID", max_size=60)))
def test_any_view_position_is_taken_apart_or_not_known(position):
    view, modifiers = parse_view_position(position)
    assert view is None or view in {row.word for row in VIEWS}
    assert set(modifiers) <= {row.word for row in MODIFIERS}
