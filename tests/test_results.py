"""The published schema is the one that the documents obey."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from pydantic import ValidationError

from mammoscope.inference import read_exam
from mammoscope.inference.joining import joined
from mammoscope.results import FailedExamPart, ResultsDocument, results_document, results_schema
from mammoscope.types import Anomaly, Box, Finding

PUBLISHED = Path(__file__).parents[1] / "docs" / "reference" / "results.schema.json"


@pytest.fixture
def document(predictor, exam_folder):
    (exam_folder / "empty.dcm").write_bytes(b"")
    failed = FailedExamPart(exam_id="other", message="nothing there", refused=[])
    result = predictor(read_exam(exam_folder))
    return results_document([result], predictor.model_info, "0.1.0", [failed])


def test_the_published_schema_is_current():
    assert json.loads(PUBLISHED.read_text()) == results_schema(), "run make reference"


def test_a_document_obeys_the_published_schema(document):
    schema = json.loads(PUBLISHED.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(document, schema)
    assert document == json.loads(json.dumps(document, allow_nan=False))


def test_a_document_says_research_synthetic_and_which_bundle(document, predictor):
    assert "not for diagnosis" in document["notice"]
    assert document["model"]["synthetic"] is True
    assert document["model"]["bundle_sha256"] == predictor.bundle.sha256


def test_findings_tell_outline_kind_source_and_match_and_anomalies_are_told(predictor, exam_folder):
    plain = predictor(read_exam(exam_folder))
    box = Box(10, 20, 40, 60)
    outline = ((10.0, 20.0), (40.0, 30.0), (25.0, 60.0))
    told = Finding(box, 0.7, "mass", "segmenter", outline, matched=("other", 1))
    first = replace(plain.images[0], findings=(told,), anomaly=Anomaly(0.9, unusual=True))
    result = replace(plain, images=(first, *plain.images[1:]), anomaly=Anomaly(0.9, unusual=True))
    document = results_document([result], predictor.model_info, "0.1.0")
    jsonschema.validate(document, results_schema())
    exam = document["exams"][0]
    assert exam["anomaly"] == {"score": 0.9, "unusual": True} == exam["images"][0]["anomaly"]
    assert exam["images"][1]["anomaly"] is None
    (finding,) = exam["images"][0]["findings"]
    assert finding == {
        "box": {"x_min": 10, "y_min": 20, "x_max": 40, "y_max": 60},
        "score": 0.7,
        "kind": "mass",
        "kind_score": None,
        "found_by": "segmenter",
        "seen_by": [
            {
                "found_by": "segmenter",
                "box": {"x_min": 10, "y_min": 20, "x_max": 40, "y_max": 60},
                "score": 0.7,
                "kind": "mass",
                "kind_score": None,
            }
        ],
        "outline": [{"x": x, "y": y} for x, y in outline],
        "matched": {"image_id": "other", "finding": 1},
    }


def test_a_finding_of_two_models_tells_what_each_says(predictor, exam_folder):
    plain = predictor(read_exam(exam_folder))
    box, wider = Box(10, 20, 40, 60), Box(8, 20, 40, 66)
    outline = ((10.0, 20.0), (40.0, 30.0), (25.0, 60.0))
    found = joined(
        [
            Finding(wider, 0.4, "mass", "detector", matched=("other", 1)),
            Finding(box, 0.996, "malignant", "segmenter", outline, kind_score=0.8),
        ]
    )
    result = replace(plain, images=(replace(plain.images[0], findings=found), *plain.images[1:]))
    document = results_document([result], predictor.model_info, "0.1.0")
    jsonschema.validate(document, results_schema())
    (finding,) = document["exams"][0]["images"][0]["findings"]
    assert (finding["found_by"], finding["score"], finding["box"]["y_max"]) == ("detector", 0.4, 66)
    assert (finding["kind"], finding["kind_score"]) == ("malignant", 0.8)
    assert len(finding["outline"]) == 3
    assert finding["matched"] == {"image_id": "other", "finding": 1}
    told = [(one["found_by"], one["score"], one["kind"]) for one in finding["seen_by"]]
    assert told == [("detector", 0.4, "mass"), ("segmenter", 0.996, "malignant")]
    assert finding["seen_by"][1]["box"]["y_max"] == 60
    assert finding["seen_by"][1]["kind_score"] == 0.8


def test_refused_images_and_failed_exams_carry_no_score(document):
    (refused,) = document["exams"][0]["refused"]
    assert set(refused) == {"image_id", "reason", "message"}
    (failed,) = document["failed"]
    assert set(failed) == {"exam_id", "message", "refused"}


@pytest.mark.parametrize("score", [float("nan"), -0.1, 1.1, None])
def test_a_score_outside_0_to_1_is_no_document(document, score):
    document["exams"][0]["score"] = score
    with pytest.raises(ValidationError):
        ResultsDocument.model_validate(document)
    if score is not None and score == score:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(document, results_schema())
