"""An exam's scores: every image scored or refused, nothing ever scored by default."""

from __future__ import annotations

import dataclasses
import time

import jsonschema
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import mammoscope
from mammoscope.bundle import HIGHEST, Companion, OperatingPoints
from mammoscope.config import PreprocessConfig
from mammoscope.errors import BundleError, IncompleteExamError
from mammoscope.evaluation.calibration import Calibration
from mammoscope.graphs import write_calibrated
from mammoscope.inference import Predictor, Scorer, read_exam
from mammoscope.inference.ahead import AheadReader
from mammoscope.inference.companions import Rating, Verdict
from mammoscope.preprocessing import Preprocessor, read_pixels
from mammoscope.results import results_document, results_schema
from mammoscope.types import Box, Finding


def constant_graph(path, logit):
    """A model that gives one logit whatever it sees."""
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["none"]),
        helper.make_node("Add", ["none", "value"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["score"]),
        helper.make_node("ReduceMean", ["image", "channel"], ["grey"], keepdims=0),
        helper.make_node("Mul", ["grey", "zero"], ["heatmap"]),
    ]
    constants = {
        "axes": np.array([1, 2, 3], np.int64),
        "channel": np.array([1], np.int64),
        "zero": np.float32(0),
        "value": np.float32(logit),
    }
    outputs = [("logit", ["B"]), ("score", ["B"]), ("heatmap", ["B", "h", "w"])]
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["B", 1, "H", "W"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)
    return path


def test_the_library_in_three_lines(bundle_dir, exam_folder):
    predictor = mammoscope.load_bundle(bundle_dir)
    exam = mammoscope.read_exam(exam_folder)
    result = predictor(exam)
    assert isinstance(result, mammoscope.ExamResult)
    assert 0 <= result.score <= 1
    assert len(result.images) == 4


def test_a_breast_is_the_mean_of_its_images_and_an_exam_its_higher_breast(predictor, exam_folder):
    result = predictor(read_exam(exam_folder))
    by_side = {breast.laterality: breast for breast in result.breasts}
    for side, breast in by_side.items():
        own = [image.score for image in result.images if image.laterality is side]
        assert len(own) == 2
        assert breast.score == pytest.approx(sum(own) / 2)
        assert breast.suspicious == (breast.score >= 0.6)
    assert result.score == max(breast.score for breast in result.breasts)
    assert result.suspicious == (result.score >= 0.7)
    assert result.missing_views == ()
    assert result.warnings == ()


def test_a_counterpart_is_named_by_its_place_whatever_the_order_of_companions(
    predictor, exam_folder
):
    def companion(task):
        config = predictor.bundle.input.preprocess
        values = {"name": task, "file": f"{task}.onnx", "synthetic": True, "target": "any"}
        return Companion(task=task, threshold=0.1, preprocess=config, **values)

    rating = Rating(logit=0.0, score=0.5)

    ring = ((1.0, 1.0), (5.0, 1.0), (5.0, 6.0))

    def outlines(seen, _):
        alone = Finding(Box(20, 20, 29, 29), 0.9, found_by="segmenter")
        shared = Finding(Box(1, 1, 5, 6), 0.5, found_by="segmenter", outline=ring)
        return [Verdict(rating, (alone, shared))] * len(seen)

    def detects(seen, _):
        others = [one.image.image_id for one in seen[::-1]]
        box = Box(1, 1, 5, 5)
        return [
            Verdict(rating, (Finding(box, 0.4, found_by="detector", matched=(o, 0)),))
            for o in others
        ]

    beside = tuple(companion(task) for task in ("segment", "detect"))
    bundle = predictor.bundle.model_copy(update={"companions": beside})
    outlines.notes = detects.notes = ("told once",)
    result = Predictor(bundle, predictor._scorer, [outlines, detects])(read_exam(exam_folder))
    assert result.warnings.count("told once") == 1
    by_name = {image.image_id: image for image in result.images}
    for image in result.images:
        assert [finding.found_by for finding in image.findings] == ["detector", "segmenter"]
        # What both find is one finding, and what it is matched with is one too.
        assert (image.findings[0].score, image.findings[0].outline) == (0.4, ring)
        name, place = image.findings[0].matched
        other = by_name[name].findings[place]
        assert [one.found_by for one in other.sightings] == ["detector", "segmenter"]


def test_a_breast_is_its_highest_image_where_the_bundle_says_so(predictor, exam_folder):
    aggregation = predictor.bundle.aggregation | {"breast": HIGHEST}
    bundle = predictor.bundle.model_copy(update={"aggregation": aggregation})
    result = Predictor(bundle, predictor._scorer)(read_exam(exam_folder))
    for breast in result.breasts:
        own = [image.score for image in result.images if image.laterality is breast.laterality]
        assert len(set(own)) == 2
        assert breast.score == max(own)
    assert result.score == max(breast.score for breast in result.breasts)


def test_an_image_is_scored_as_preprocessor_and_graph_say(predictor, bundle_dir, exam_folder):
    """Serving is the training path: the same preprocessor, the same graph, nothing between."""
    result = predictor(read_exam(exam_folder / "R_MLO.dcm"))
    pixels = read_pixels(exam_folder / "R_MLO.dcm").pixels
    config = PreprocessConfig(height=256, width=128)
    prepared = Preprocessor(config)(pixels, result.images[0].laterality)
    expected = Scorer(bundle_dir / "model.onnx")([prepared.pixels])
    assert result.images[0].logit == float(expected.logit[0])
    assert result.images[0].score == float(expected.score[0])


def test_two_of_four_views_are_scored_and_what_is_missing_is_said(predictor, exam_folder):
    (exam_folder / "R_CC.dcm").unlink()
    (exam_folder / "L_MLO.dcm").unlink()
    result = predictor(read_exam(exam_folder))
    assert len(result.images) == 2
    assert result.missing_views == ("R CC", "L MLO")
    assert "2 of the 4 screening views are missing: R CC, L MLO" in result.warnings


def test_a_blank_image_is_refused_by_name_and_never_scored(predictor, exam_folder, write_mammogram):
    write_mammogram(
        exam_folder / "R_CC.dcm", np.zeros((320, 256), np.uint16), laterality="R", view="CC"
    )
    result = predictor(read_exam(exam_folder))
    (refusal,) = result.refused
    assert (refusal.image_id, refusal.reason) == ("R_CC.dcm", "blank_image")
    assert "R_CC.dcm" not in {image.image_id for image in result.images}
    assert result.missing_views == ("R CC",)
    right = result.breasts[0]
    assert right.image_ids == ("R_MLO.dcm",)


def test_images_are_read_side_by_side_in_order_and_few_of_them_lie_ready(
    predictor, exam_folder, monkeypatch
):
    monkeypatch.setattr(predictor, "_ahead", AheadReader(2))
    exam = predictor.read(exam_folder)
    exam = dataclasses.replace(exam, images=exam.images * 5)
    scored, begun, most = [], [], []
    alone, read = predictor._alone, predictor._read

    def counted(image):
        begun.append(image.image_id)
        return read(image)

    def slowly(pixels):
        time.sleep(0.02)
        most.append(len(begun) - len(scored))
        scored.append(len(begun))
        return alone(pixels)

    monkeypatch.setattr(predictor, "_read", counted)
    monkeypatch.setattr(predictor, "_alone", slowly)
    result = predictor(exam)
    assert [image.image_id for image in result.images] == [one.image_id for one in exam.images]
    assert len(scored) == 20
    assert max(most) <= 3


def test_an_exam_without_a_single_image_to_score_is_an_error_that_says_why(
    predictor, tmp_path, write_mammogram
):
    write_mammogram(tmp_path / "e" / "a.dcm", np.zeros((320, 256), np.uint16))
    with pytest.raises(IncompleteExamError, match=r"a\.dcm: blank_image"):
        predictor(read_exam(tmp_path / "e"))


def test_a_score_that_is_not_finite_is_an_error(predictor, exam_folder, tmp_path):
    scorer = Scorer(constant_graph(tmp_path / "nan.onnx", float("nan")))
    with pytest.raises(BundleError, match="not a finite number"):
        Predictor(predictor.bundle, scorer)(read_exam(exam_folder))


def test_at_the_threshold_is_suspicious(predictor, exam_folder, tmp_path):
    scorer = Scorer(constant_graph(tmp_path / "half.onnx", 0.0))
    result = Predictor(predictor.bundle, scorer)(read_exam(exam_folder))
    # The image threshold is 0.5, the breast's 0.6 and the exam's 0.7; every score is 0.5.
    assert all(image.suspicious for image in result.images)
    assert not result.suspicious


def test_findings_lie_in_the_original_image_over_what_is_bright(
    predictor, tmp_path, write_mammogram
):
    from mammoscope.types import Laterality

    y, x = np.mgrid[0:640, 0:512]
    breast = ((y - 320) / 280) ** 2 + (x / 400) ** 2 < 1
    pixels = np.where(breast, 1200, 0).astype(np.uint16)
    pixels[(y - 400) ** 2 + (x - 200) ** 2 < 40**2] = 4000
    write_mammogram(tmp_path / "e" / "a.dcm", pixels, laterality="L")
    mirrored = np.ascontiguousarray(pixels[:, ::-1])
    write_mammogram(tmp_path / "e" / "b.dcm", mirrored, laterality="R")
    result = predictor(read_exam(tmp_path / "e"))
    for image in result.images:
        centre = 200 if image.laterality is Laterality.L else 511 - 200
        box = image.findings[0].box
        assert box.x_min <= centre <= box.x_max
        assert box.y_min <= 400 <= box.y_max
        assert 0 <= box.x_min < box.x_max <= 512
        assert 0 <= box.y_min < box.y_max <= 640
        assert box.x_max - box.x_min < 200


def test_the_hook_gets_each_image_with_its_original_pixels(predictor, exam_folder):
    seen = {}
    predictor(read_exam(exam_folder), lambda result, pixels: seen.update({result.image_id: pixels}))
    assert len(seen) == 4
    assert all(p.shape == (320, 256) and p.dtype == np.float32 for p in seen.values())


def test_check_sends_an_image_through_the_graph(predictor, tmp_path):
    predictor.check()
    scorer = Scorer(constant_graph(tmp_path / "nan.onnx", float("inf")))
    with pytest.raises(BundleError):
        Predictor(predictor.bundle, scorer).check()


def test_a_file_that_is_no_graph_of_ours_is_refused(tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"not a graph")
    with pytest.raises(BundleError, match="cannot be loaded by ONNX Runtime"):
        Scorer(tmp_path / "x.onnx")
    model = onnx.load(constant_graph(tmp_path / "y.onnx", 0.0))
    model.graph.output.pop()
    onnx.save(model, tmp_path / "y.onnx")
    with pytest.raises(BundleError, match=r"gives \['logit', 'score'\]"):
        Scorer(tmp_path / "y.onnx")


def test_a_calibrated_graph_finds_the_same_regions_and_scores_them_as_images(
    predictor, bundle_dir, exam_folder, tmp_path
):
    """Scores a hundredth of what they were, the threshold with them: boxes and heat stay."""
    rare = Calibration(method="platt", fitted_prevalence=0.5, prevalence=0.01)
    write_calibrated(bundle_dir / "model.onnx", tmp_path / "rare.onnx", rare)
    exam = read_exam(exam_folder)
    # Half of what the highest image scores, so that there is something to find.
    threshold = max(image.score for image in predictor(exam).images) / 2

    def at(threshold, graph):
        told = predictor.bundle.operating_points.model_dump()
        for level in ("image", "breast"):
            told[level][0]["threshold"] = threshold
        points = OperatingPoints.model_validate(told)
        bundle = predictor.bundle.model_copy(update={"operating_points": points})
        return Predictor(bundle, Scorer(graph))(exam)

    before = at(threshold, bundle_dir / "model.onnx")
    rarer = float(rare(np.log(np.array([threshold / (1 - threshold)])))[0])
    after = at(rarer, tmp_path / "rare.onnx")
    assert any(image.findings for image in before.images)
    for ours, theirs in zip(after.images, before.images, strict=True):
        assert ours.logit == theirs.logit
        assert ours.suspicious == theirs.suspicious
        np.testing.assert_array_equal(ours.heatmap, theirs.heatmap)
        assert [f.box for f in ours.findings] == [f.box for f in theirs.findings]
        for finding in ours.findings:
            # This graph's logit is its hottest cell.
            assert finding.score <= ours.score * 1.001


def test_a_model_that_uses_facts_says_which_it_was_not_told(predictor, exam_folder):
    given = predictor.bundle.input.model_copy(update={"facts": ("age", "density")})
    bundle = predictor.bundle.model_copy(update={"input": given})
    exam = dataclasses.replace(read_exam(exam_folder), age=55.0)
    told = Predictor(bundle, predictor._scorer)(exam).warnings
    assert [text for text in told if "not known" in text] == [
        "density is not known of this exam; the model uses it, and was measured with it where "
        "the cohort knew it"
    ]
    known = dataclasses.replace(exam, density="B")
    assert not any(
        "not known" in text for text in Predictor(bundle, predictor._scorer)(known).warnings
    )
    assert not any("not known" in text for text in predictor(exam).warnings)


def test_a_threshold_that_no_score_reaches_is_no_fault_of_the_results(predictor, exam_folder):
    """Where the highest validation scores tie at 1, the one above them all is past 1."""
    told = predictor.bundle.operating_points.model_dump()
    for level in ("image", "breast", "exam"):
        told[level][0]["threshold"] = np.nextafter(1.0, 2.0)
    points = OperatingPoints.model_validate(told)
    bundle = predictor.bundle.model_copy(update={"operating_points": points})
    none = Predictor(bundle, predictor._scorer)
    result = none(read_exam(exam_folder))
    document = results_document([result], none.model_info, "0")
    jsonschema.validate(document, results_schema())
    assert not document["exams"][0]["suspicious"]
