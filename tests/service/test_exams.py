"""POST and GET of exams over a real socket."""

from __future__ import annotations

import cv2
import httpx
import jsonschema
import numpy as np
import pytest

from mammoscope.results import results_schema


@pytest.fixture
def scored(service, as_form, exam_folder):
    return service.post("/v1/exams", files=as_form(sorted(exam_folder.iterdir())))


def picture(answer: httpx.Response) -> np.ndarray:
    assert answer.headers["content-type"] == "image/png"
    return cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)


def outside_is_dark(pixels: np.ndarray, side: str) -> bool:
    """Whether the chest wall lies on a side: tissue there, air on the other."""
    middle = pixels[pixels.shape[0] // 3 : -pixels.shape[0] // 3]
    left, right = middle[:, :8].mean(), middle[:, -8:].mean()
    return left > 60 > 10 > right if side == "left" else right > 60 > 10 > left


def test_the_answer_is_the_results_document_and_location_names_it(service, scored):
    assert scored.status_code == 201
    document = scored.json()
    jsonschema.Draft202012Validator(results_schema()).validate(document)
    (exam,) = document["exams"]
    assert sorted((i["laterality"], i["view"]) for i in exam["images"]) == [
        ("L", "CC"), ("L", "MLO"), ("R", "CC"), ("R", "MLO"),
    ]  # fmt: skip
    assert exam["missing_views"] == []
    assert document["failed"] == []
    assert scored.headers["location"] == f"/v1/exams/{exam['exam_id']}"
    assert service.get(scored.headers["location"]).json() == document


def test_the_answer_is_what_the_predictor_says_of_the_same_files(scored, predictor, exam_folder):
    from mammoscope.inference import read_exam

    result = predictor(read_exam(exam_folder))
    (exam,) = scored.json()["exams"]
    assert exam["score"] == pytest.approx(result.score)
    served = {image["image_id"]: image["score"] for image in exam["images"]}
    assert served == pytest.approx({image.image_id: image.score for image in result.images})


def test_a_zip_scores_like_its_files(service, scored, exam_folder, as_form, make_zip, tmp_path):
    members = {f"DICOM/S1/{p.name}": p.read_bytes() for p in sorted(exam_folder.iterdir())}
    archive = make_zip(tmp_path / "exam.zip", {**members, "__MACOSX/._R_CC.dcm": b"x"})
    answer = service.post("/v1/exams", files=as_form([archive]))
    assert answer.status_code == 201
    (exam,), (expected,) = answer.json()["exams"], scored.json()["exams"]
    assert {i["image_id"]: i["score"] for i in exam["images"]} == {
        i["image_id"]: i["score"] for i in expected["images"]
    }
    assert exam["refused"] == []


def test_two_of_four_views_are_scored_and_the_missing_named(service, exam_folder, as_form):
    files = as_form([exam_folder / "R_CC.dcm", exam_folder / "L_MLO.dcm"])
    (exam,) = service.post("/v1/exams", files=files).json()["exams"]
    assert exam["missing_views"] == ["L CC", "R MLO"]
    assert len(exam["images"]) == 2
    assert any("2 of the 4 screening views are missing" in w for w in exam["warnings"])


def test_a_refused_file_has_no_score_and_does_not_stop_the_others(
    service, exam_folder, as_form, write_mammogram, tmp_path
):
    blank = write_mammogram(tmp_path / "blank.dcm", np.zeros((320, 256), np.uint16), view="MLO")
    text = tmp_path / "letter.txt"
    text.write_text("Dear colleague")
    files = as_form([exam_folder / "R_CC.dcm", blank, text])
    (exam,) = service.post("/v1/exams", files=files).json()["exams"]
    assert [image["image_id"] for image in exam["images"]] == ["R_CC.dcm"]
    assert {r["image_id"]: r["reason"] for r in exam["refused"]} == {
        "blank.dcm": "blank_image",
        "letter.txt": "not_an_image",
    }


def test_a_csv_gives_what_stripped_headers_lack(service, rsna_folder, as_form):
    files = [*sorted((rsna_folder / "train_images" / "0").iterdir()), rsna_folder / "train.csv"]
    answer = service.post("/v1/exams", files=as_form(files))
    (exam,) = answer.json()["exams"]
    assert sorted((i["laterality"], i["view"]) for i in exam["images"]) == [
        ("L", "CC"), ("L", "MLO"), ("R", "CC"),
    ]  # fmt: skip


def test_a_csv_inside_the_zip_serves_too(service, rsna_folder, as_form, make_zip, tmp_path):
    members = {p.name: p.read_bytes() for p in (rsna_folder / "train_images" / "0").iterdir()}
    members["train.csv"] = (rsna_folder / "train.csv").read_bytes()
    answer = service.post("/v1/exams", files=as_form([make_zip(tmp_path / "a.zip", members)]))
    assert answer.status_code == 201
    assert len(answer.json()["exams"][0]["images"]) == 3


def test_files_of_one_name_are_told_apart(service, exam_folder, as_form, make_zip, tmp_path):
    members = {f"{p.stem}/IM1": p.read_bytes() for p in sorted(exam_folder.iterdir())}
    answer = service.post("/v1/exams", files=as_form([make_zip(tmp_path / "a.zip", members)]))
    (exam,) = answer.json()["exams"]
    names = [image["image_id"] for image in exam["images"]]
    assert len(set(names)) == 4
    breasts = {b["laterality"]: len(set(b["image_ids"])) for b in exam["breasts"]}
    assert breasts == {"L": 2, "R": 2}


@pytest.mark.parametrize("stored", ["L", "R"])
def test_images_are_hung_with_chest_walls_towards_the_middle(
    service, write_mammogram, as_form, tmp_path, stored
):
    """However the file stores it: right breasts end, left breasts begin with the chest wall."""

    files = [
        write_mammogram(tmp_path / f"{side}.dcm", laterality=stored, ImageLaterality=side)
        for side in ("L", "R")
    ]
    answer = service.post("/v1/exams", files=as_form(files))
    base = answer.headers["location"]
    display = service.get(f"{base}/display").json()["images"]
    for index, image in enumerate(answer.json()["exams"][0]["images"]):
        shown = picture(service.get(f"{base}/images/{index}.png"))
        assert outside_is_dark(shown, "left" if image["laterality"] == "L" else "right")
        assert display[index]["flipped"] is (image["laterality"] != stored)
        breast = display[index]["breast"]
        if image["laterality"] == "R":
            assert breast["x_max"] == 256
        else:
            assert breast["x_min"] == 0


def test_renderings_are_lossless_grey_with_a_transparent_heatmap_of_the_same_size(
    service, scored, exam_folder
):
    from mammoscope.preprocessing import read_pixels

    base = scored.headers["location"]
    index = next(n for n, i in enumerate(scored.json()["exams"][0]["images"]) if i["view"] == "CC")
    grey = picture(service.get(f"{base}/images/{index}.png"))
    heat = picture(service.get(f"{base}/images/{index}/heatmap.png"))
    name = scored.json()["exams"][0]["images"][index]["image_id"]
    expected = np.rint(read_pixels(exam_folder / name).pixels * 255)
    assert grey.dtype == np.uint8
    assert np.abs(grey.astype(int) - expected).max() <= 1
    assert heat.shape == (*grey.shape, 4)
    assert heat[0, 0, 3] == 0


def test_the_heatmap_is_hottest_where_the_image_is_bright(
    service, write_mammogram, as_form, tmp_path
):
    y, x = np.mgrid[0:320, 0:256]
    pixels = np.where(((y - 160) / 140) ** 2 + (x / 180) ** 2 < 1, 1200, 0).astype(np.uint16)
    pixels[80:120, 40:90] = 4000
    # A right breast stored as a left one: image, heatmap and breast must flip together.
    path = write_mammogram(tmp_path / "bright.dcm", pixels, ImageLaterality="R")
    answer = service.post("/v1/exams", files=as_form([path]))
    (image,) = answer.json()["exams"][0]["images"]
    assert image["suspicious"]
    alpha = picture(service.get(f"{answer.headers['location']}/images/0/heatmap.png"))[..., 3]
    rows, columns = np.nonzero(alpha > 200)
    assert abs(rows.mean() - 100) < 12
    assert abs(columns.mean() - (255 - 65)) < 12
    assert alpha[200:].max() == 0


def test_large_images_are_shown_at_most_1400_pixels_high(
    service, write_mammogram, as_form, tmp_path
):
    y, x = np.mgrid[0:1800, 0:900]
    pixels = np.where(((y - 900) / 800) ** 2 + (x / 600) ** 2 < 1, 2000, 0).astype(np.uint16)
    path = write_mammogram(tmp_path / "large.dcm", pixels)
    answer = service.post("/v1/exams", files=as_form([path]))
    base = answer.headers["location"]
    assert picture(service.get(f"{base}/images/0.png")).shape == (1400, 700)
    assert picture(service.get(f"{base}/images/0/heatmap.png")).shape == (1400, 700, 4)


def test_an_image_or_exam_that_is_not_there_is_404(service, scored):
    base = scored.headers["location"]
    for path in (
        f"{base}/images/4.png",
        f"{base}/images/-1.png",
        f"{base}/images/9/heatmap.png",
        f"/v1/exams/{'0' * 32}",
        "/v1/exams/..%2F..%2Fetc",
        "/v1/exams/results.json",
    ):
        answer = service.get(path)
        assert answer.status_code == 404, path
        assert answer.json()["error"]["code"] == "not_found"


def test_only_the_last_exams_are_kept_and_no_upload_is(serving, exam_folder, as_form, tmp_path):
    data = tmp_path / "data"
    with serving(kept_exams=2, data_dir=data) as client:
        form = as_form([exam_folder / "R_CC.dcm"])
        kept = [client.post("/v1/exams", files=form).headers["location"] for _ in range(3)]
        assert [client.get(url).status_code for url in kept] == [404, 200, 200]
        assert not [path for path in data.rglob("*") if path.suffix == ".dcm"]
    with serving(kept_exams=2, data_dir=data) as client:
        assert client.get(kept[2]).status_code == 200, "a restart forgets what is on disk"


def test_the_temporary_folder_goes_with_the_server(serving, exam_folder, as_form, monkeypatch):
    import tempfile

    place = exam_folder.parent / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    with serving() as client:
        client.post("/v1/exams", files=as_form([exam_folder / "R_CC.dcm"]))
        assert list(place.iterdir())
    assert not list(place.iterdir())
