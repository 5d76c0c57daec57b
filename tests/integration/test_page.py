"""The page, in real Chromium, over a real socket, with DICOM files that a person would drop."""

from __future__ import annotations

import base64
import itertools
import math
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from mammoscope.bundle import MODEL_FILE, Companion
from mammoscope.cohort.synthetic import write_exam
from mammoscope.explain import called
from mammoscope.inference import Predictor
from mammoscope.inference.joining import joined
from mammoscope.pages import written_score
from mammoscope.types import Box, Finding

pytestmark = pytest.mark.browser

# A busy machine may take longer than Playwright's five seconds to score an exam.
expect.set_options(timeout=30_000)

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
GRID = "#hanging > .viewport"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not Path(CHROMIUM).exists() and not os.environ.get("CI"):
        pytest.skip("Chromium is absent; scripts/install-system-packages.sh installs it")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def base_url(serving) -> Iterator[str]:
    with serving(max_files=6) as client:
        yield str(client.base_url)


@pytest.fixture(scope="module")
def exam(tmp_path_factory) -> dict[str, Path]:
    """Synthetic files by view, one breast with a cancer that the fixture's model must see."""
    folder = tmp_path_factory.mktemp("exam")
    paths = write_exam(folder, seed=20_000, cancer=True, conspicuity=2.0, difficulty=0.0)
    return {path.stem.replace("_", " "): path for path in paths}


@pytest.fixture
def page(browser, base_url) -> Iterator[Page]:
    """The page, opened; whatever it logs as an error or asks of another host fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(f"exception: {error}"))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((base_url, "data:", "blob:"))
            else problems.append(f"asked another host: {request.url}")
        ),
    )
    page.on(
        "console",
        # Chromium itself logs an answer of 4xx; that the page shows it in words is tested.
        lambda message: (
            problems.append(f"console: {message.text}")
            if message.type in ("error", "warning") and "status of 4" not in message.text
            else None
        ),
    )
    page.goto(base_url)
    expect(page.locator("body.ready")).to_be_visible()
    yield page
    context.close()
    assert problems == []


def drop(page: Page, *paths: Path) -> None:
    page.set_input_files("#files", [str(path) for path in paths])


def views(page: Page) -> list[str]:
    return [view.get_attribute("data-view") for view in page.locator(GRID).all()]


def test_four_views_hang_right_breast_first_with_chest_walls_meeting(page, exam):
    drop(page, *exam.values())
    expect(page.locator(f"{GRID} img.grey")).to_have_count(4)
    assert views(page) == ["R CC", "L CC", "R MLO", "L MLO"]
    boxes = {v.get_attribute("data-view"): v.bounding_box() for v in page.locator(GRID).all()}
    stacks = {
        name: page.locator(f"{GRID}[data-view='{name}'] .stack").bounding_box() for name in boxes
    }
    for view in ("CC", "MLO"):
        right, left = boxes[f"R {view}"], boxes[f"L {view}"]
        assert right["x"] + right["width"] == pytest.approx(left["x"], abs=1)
        assert right["y"] == left["y"]
        # The images themselves meet there, not their frames alone.
        inner = stacks[f"R {view}"]["x"] + stacks[f"R {view}"]["width"]
        assert inner == pytest.approx(stacks[f"L {view}"]["x"], abs=2)
    assert boxes["R CC"]["y"] < boxes["R MLO"]["y"]
    heights = [stack["height"] for stack in stacks.values()]
    assert max(heights) == pytest.approx(min(heights), abs=1), "images of one size differ in scale"
    sides = page.evaluate(
        """() => [...document.querySelectorAll('#hanging .viewport')].map((view) => {
          const image = view.querySelector('img.grey');
          const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
          const context = canvas.getContext('2d', {willReadFrequently: true});
          context.drawImage(image, 0, 0);
          const middle = image.naturalHeight / 2;
          const at = (x) => context.getImageData(x, middle, 6, 1).data[0];
          return at(0) > at(image.naturalWidth - 6) ? 'left' : 'right';
        })"""
    )
    assert sides == ["right", "left", "right", "left"], "tissue must lie at the chest wall"


def test_scores_stand_against_the_operating_point_and_the_model_is_named(page, exam):
    drop(page, *exam.values())
    panel = page.locator("#panel")
    expect(panel).to_contain_text("Right breast")
    expect(panel).to_contain_text("at or above the operating point")
    expect(panel).to_contain_text("0.70 for exams, 0.60 for breasts, 0.50 for images")
    expect(panel).to_contain_text("bright-cells")
    expect(panel).not_to_contain_text("Scored by")
    expect(panel).to_contain_text("81 %")
    ticks = [panel.locator(".row .tick").nth(n) for n in range(3)]
    # The exam's, then the breasts'.
    assert [t.evaluate("node => node.style.left") for t in ticks] == ["70%", "60%", "60%"]
    expect(page.locator("#synthetic")).to_be_visible()
    expect(page.locator(".notice")).to_contain_text("not for diagnosis")
    expect(page.get_by_role("status")).to_contain_text("Scored 4 images")


def test_where_exams_were_not_measured_the_page_says_so(
    browser, serving, predictor, exam, tmp_path
):
    """All validation exams were of one class: theirs is the breasts' threshold, without figures."""
    points = predictor.bundle.operating_points.model_copy(update={"exam": (), "scored_by": "folds"})
    bundle = predictor.bundle.model_copy(update={"operating_points": points})
    with serving(Predictor(bundle, predictor._scorer)) as client:
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        page = context.new_page()
        page.goto(str(client.base_url))
        # What is dropped before the page listens is lost.
        expect(page.locator("body.ready")).to_be_visible()
        drop(page, *exam.values())
        panel = page.locator("#panel")
        expect(panel).to_contain_text("0.60 for exams, which is the breasts', 0.60 for breasts")
        expect(panel).to_contain_text("not measured; judged at the breasts' threshold")
        expect(panel).to_contain_text("by single folds; the model is their mean")
        expect(panel).not_to_contain_text("Sensitivity, exam")
        context.close()


class TellingApart(Predictor):
    """Says of every image what a segmenter with a second stage says, and has no map."""

    def __call__(self, exam, on_image=None):
        found = Finding(Box(60, 60, 90, 99), 0.61, "malignant", "segmenter", kind_score=0.83)

        def told(image, pixels):
            if on_image is not None:
                on_image(replace(image, heatmap=None), pixels)

        result = super().__call__(exam, told)
        images = tuple(replace(image, findings=(found,)) for image in result.images)
        return replace(result, images=images)


def test_thresholds_that_normal_images_alone_chose_promise_no_sensitivity(
    browser, serving, predictor, exam
):
    judge = Companion(
        task="anomaly",
        name="own",
        file=MODEL_FILE,
        synthetic=True,
        preprocess=predictor.bundle.input.preprocess,
        threshold=0.5,
        target="specificity=0.95",
    )
    bundle = predictor.bundle.model_copy(update={"companions": (judge,)})
    with serving(Predictor(bundle, predictor._scorer)) as client:
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        page = context.new_page()
        page.goto(str(client.base_url))
        expect(page.locator("body.ready")).to_be_visible()
        drop(page, exam["R CC"])
        panel = page.locator("#panel")
        expect(panel).to_contain_text("chosen on normal validation images alone")
        expect(panel).to_contain_text("Scored by an anomaly model")
        expect(panel).to_contain_text("Specificity, image")
        expect(panel).not_to_contain_text("Sensitivity")
        context.close()


def test_a_model_that_is_no_classifier_says_what_its_score_is_and_may_have_no_heatmap(
    browser, serving, predictor, exam
):
    said = {"name": "own", "synthetic": True, "preprocess": predictor.bundle.input.preprocess}
    companions = tuple(
        Companion(task=task, file=file, threshold=threshold, target=target, **said)
        for task, file, threshold, target in (
            ("segment", MODEL_FILE, 0.4, "at most 1 false positive per image"),
            ("segment-then-classify", "cutouts.onnx", 0.0, "tells apart benign, malignant"),
        )
    )
    aggregation = {"image": "the score of its highest pixel", **predictor.bundle.aggregation}
    bundle = predictor.bundle.model_copy(
        update={"companions": companions, "aggregation": aggregation}
    )
    with serving(TellingApart(bundle, predictor._scorer)) as client:
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        page = context.new_page()
        page.goto(str(client.base_url))
        expect(page.locator("body.ready")).to_be_visible()
        drop(page, *exam.values())
        panel = page.locator("#panel")
        expect(panel).to_contain_text("Image: the score of its highest pixel.")
        expect(panel).to_contain_text("Scored by a segmenter: a rank, not a probability of cancer.")
        expect(panel).to_contain_text("R CC: malignant (0.83), 0.61")
        expect(panel).to_contain_text("own, from 0.40 on (at most 1 false positive per image)")
        expect(panel).to_contain_text("own, tells apart benign, malignant")
        expect(panel).to_contain_text("the share that the second stage gives that kind")
        listed = panel.locator(".findings li").all_inner_texts()
        assert [text.partition(":")[0] for text in listed] == ["R CC", "R MLO", "L CC", "L MLO"]
        expect(page.locator(f"{GRID} img.grey")).to_have_count(4)
        expect(page.locator("img.heat")).to_have_count(0)
        expect(page.get_by_role("button", name="Heatmap")).to_be_hidden()
        expect(page.get_by_role("button", name="Findings")).to_be_visible()
        context.close()


class FoundByTwo(Predictor):
    """Says of every image what a detector and a segmenter with a second stage find together."""

    def __call__(self, exam, on_image=None):
        result = super().__call__(exam, on_image)
        names = [image.image_id for image in result.images]
        ring = ((62.0, 62.0), (95.0, 70.0), (75.0, 99.0))
        images = []
        for image, other in zip(result.images, names[::-1], strict=True):
            found = joined(
                [
                    Finding(Box(60, 60, 99, 99), 0.41, "mass", "detector", matched=(other, 0)),
                    Finding(Box(10, 10, 30, 30), 0.35, "mass", "detector"),
                    Finding(
                        Box(62, 62, 95, 99), 0.9958, "malignant", "segmenter", ring, kind_score=0.83
                    ),
                ]
            )
            images.append(replace(image, findings=found))
        return replace(result, images=tuple(images))


def test_what_detector_and_segmenter_both_find_stands_once_with_what_each_says(
    browser, serving, predictor, exam
):
    with serving(FoundByTwo(predictor.bundle, predictor._scorer)) as client:
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        page = context.new_page()
        page.goto(str(client.base_url))
        expect(page.locator("body.ready")).to_be_visible()
        drop(page, exam["L CC"], exam["L MLO"])
        items = page.locator("#panel .findings li")
        expect(items).to_have_text(
            [
                line
                for own, other in (("CC", "MLO"), ("MLO", "CC"))
                for line in (
                    f"L {own}: mass, malignant (0.83), 0.41, segmenter 0.996, "
                    f"seen in L {other} too",
                    f"L {own}: mass, 0.35",
                )
            ]
        )
        marks = page.locator(f"{GRID}[data-view='L CC'] svg.boxes > .finding")
        expect(marks).to_have_count(2)
        # One mark of both shapes; the box of what is matched is drawn thicker.
        expect(marks.first.locator("polygon")).to_have_count(1)
        expect(marks.first.locator("rect")).to_have_css("stroke-width", "2.5px")
        expect(marks.last.locator("polygon")).to_have_count(0)
        expect(marks.last.locator("rect")).to_have_css("stroke-width", "1.5px")
        expect(page.locator(f"{GRID}[data-view='L CC']")).to_have_attribute(
            "aria-label", re.compile(", 2 findings$")
        )
        context.close()


class SeenInTwoOfAView(Predictor):
    """Finds a mass in every image, and the first of a view again in the next of it."""

    def __call__(self, exam, on_image=None):
        result = super().__call__(exam, on_image)
        names = [image.image_id for image in result.images]
        images = [
            replace(
                image,
                warnings=("odd",),
                findings=(Finding(Box(9, 9, 30, 30), 0.5, "mass", "detector", matched=(other, 0)),),
            )
            for image, other in zip(result.images, [*names[1:], names[0]], strict=True)
        ]
        return replace(result, images=tuple(images))


def test_two_images_of_one_view_are_numbered_wherever_they_are_named(
    browser, serving, predictor, exam, write_mammogram, tmp_path
):
    again = write_mammogram(tmp_path / "again.dcm", patient="SYN20000")
    with serving(SeenInTwoOfAView(predictor.bundle, predictor._scorer)) as client:
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        page = context.new_page()
        page.goto(str(client.base_url))
        expect(page.locator("body.ready")).to_be_visible()
        drop(page, exam["L CC"], again, exam["L MLO"])
        panel = page.locator("#panel")
        expect(panel.locator(".findings li")).to_have_count(3)
        lines = panel.locator(".findings li").all_inner_texts()
        assert sorted(line.partition(":")[0] for line in lines) == ["L CC 1", "L CC 2", "L MLO"]
        seen = sorted(line.partition("seen in ")[2] for line in lines)
        assert seen == ["L CC 1 too", "L CC 2 too", "L MLO too"]
        warned = panel.locator(".warnings li").all_inner_texts()
        assert {"L CC 1: odd", "L CC 2: odd", "L MLO: odd"} <= set(warned)
        # The list, the views and the enlarged view call an image alike, and tell its file.
        for number, view in ((1, page.locator("#hanging")), (2, page.locator("#strip"))):
            shown = view.locator("[data-view='L CC']")
            expect(shown.locator(".mark")).to_have_text(f"L CC {number}")
            file = shown.get_attribute("title")
            line = panel.locator(".findings li", has_text=f"L CC {number}: ")
            expect(line.locator("span")).to_have_attribute("title", file)
            shown.click()
            expect(page.locator("#loupe-title")).to_contain_text(f"L CC {number} ·")
            page.keyboard.press("Escape")
        context.close()


def test_the_page_writes_scores_and_kinds_as_overlays_and_reports_do(page):
    scores = [0, 1, 0.41, 0.0049, 0.9949, 0.9958, 0.99972, 0.9999999, 1e-9, math.nextafter(1, 2)]
    written = page.evaluate(
        """async (scores) => {
          const { score } = await import('/static/dom.js');
          return scores.flatMap((one) => [2, 3, 4].map((digits) => score(one, digits)));
        }""",
        scores,
    )
    assert written == [written_score(one, digits) for one in scores for digits in (2, 3, 4)]
    words = ("suspicious", "mass", "malignant")
    place = Box(0, 0, 10, 10)
    for first, second in itertools.product(words, words):
        sure = 0.9958 if second == "malignant" else None
        (one,) = joined(
            [
                Finding(place, 0.4, first, "detector"),
                Finding(place, 0.9, second, "segmenter", ((1.0, 1.0),) * 3, kind_score=sure),
            ]
        )
        told = page.evaluate(
            "async (one) => (await import('/static/dom.js')).named(one)",
            {
                "kind": one.kind,
                "kind_score": one.kind_score,
                "score": one.score,
                "seen_by": [asdict(sighting) for sighting in one.sightings],
            },
        )
        assert told == f"{called(one)}, 0.40, segmenter 0.90"


def test_the_heatmap_and_the_findings_go_and_come_by_button_and_key(page, exam):
    drop(page, *exam.values())
    heat = page.locator(f"{GRID} img.heat").first
    boxes = page.locator(f"{GRID} svg.boxes").first
    button = page.get_by_role("button", name="Heatmap")
    expect(heat).to_have_css("opacity", "0.45")
    button.click()
    expect(heat).to_have_css("opacity", "0")
    expect(button).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("h")
    expect(heat).to_have_css("opacity", "0.45")
    page.get_by_label("Opacity").fill("80")
    expect(heat).to_have_css("opacity", "0.8")
    expect(boxes).to_be_visible()
    page.keyboard.press("b")
    expect(boxes).to_be_hidden()


def test_finding_boxes_lie_on_the_heat_in_the_hung_image(page, exam):
    drop(page, exam["R CC"])
    view = page.locator(f"{GRID}[data-view='R CC']")
    expect(view.locator("rect").first).to_be_visible()
    share = view.evaluate(
        """async (view) => {
          const image = view.querySelector('img.heat');
          await image.decode();
          const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
          const context = canvas.getContext('2d', {willReadFrequently: true});
          context.drawImage(image, 0, 0);
          const {data} = context.getImageData(0, 0, canvas.width, canvas.height);
          let best = 0, at = 0;
          for (let i = 3; i < data.length; i += 4)
            if (data[i] > best) { best = data[i]; at = i >> 2; }
          const svg = view.querySelector('svg').viewBox.baseVal;
          const x = (at % canvas.width + 0.5) / canvas.width * svg.width;
          const y = (Math.floor(at / canvas.width) + 0.5) / canvas.height * svg.height;
          const {x: left, y: top, width, height} = view.querySelector('rect').getBBox();
          return x >= left && x <= left + width && y >= top && y <= top + height;
        }"""
    )
    assert share, "the hottest point must lie in the first box"


def test_missing_views_keep_their_place_and_are_named(page, exam):
    drop(page, exam["L CC"], exam["R MLO"])
    expect(page.locator(f"{GRID}.missing")).to_have_count(2)
    assert views(page) == ["R CC", "L CC", "R MLO", "L MLO"]
    expect(page.locator(f"{GRID}[data-view='R CC']")).to_have_text("R CC missing")
    expect(page.locator(f"{GRID}[data-view='L MLO']")).to_have_text("L MLO missing")
    expect(page.locator("#panel")).to_contain_text("2 of the 4 screening views are missing")


def test_a_breast_without_images_has_no_score(page, exam):
    drop(page, exam["L CC"], exam["L MLO"])
    row = page.locator("#panel .row", has_text="Right breast")
    expect(row).to_contain_text("no image, no score")
    expect(row.locator(".number")).to_have_count(0)


def test_further_views_hang_below_and_refused_files_say_why(page, exam, write_mammogram, tmp_path):
    again = write_mammogram(tmp_path / "again.dcm", laterality="R", view="CC", patient="SYN20000")
    letter = tmp_path / "letter.pdf"
    letter.write_bytes(b"%PDF-1.7")
    drop(page, *exam.values(), again, letter)
    expect(page.locator("#strip .viewport")).to_have_count(1)
    expect(page.locator("#strip .viewport")).to_have_attribute("data-view", "R CC")
    refused = page.locator("#panel .refused")
    expect(refused).to_contain_text("letter.pdf")
    expect(refused).to_contain_text("not_an_image")


def test_garbage_shows_the_reason_and_the_next_exam_can_follow(page, exam, tmp_path):
    letter = tmp_path / "letter.pdf"
    letter.write_bytes(b"%PDF-1.7 Jane Doe")
    drop(page, letter)
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("This upload was not scored")
    expect(alert).to_contain_text("not_an_image")
    expect(alert).to_contain_text("is not a DICOM file")
    drop(page, exam["R CC"])
    expect(page.locator(f"{GRID} img.grey")).to_have_count(1)
    expect(alert).to_be_hidden()


def test_too_many_files_are_refused_before_they_are_sent(page, exam):
    sent = []
    page.on("request", lambda request: sent.append(request.method))
    drop(page, *[exam["R CC"]] * 7)
    expect(page.get_by_role("alert")).to_contain_text("the service takes 6 files")
    assert "POST" not in sent


def test_markup_in_a_file_name_stays_text(page, tmp_path):
    name = tmp_path / "<img src=x onerror=alert(1)>.dcm"
    name.write_bytes(b"x")
    drop(page, name)
    expect(page.get_by_role("alert")).to_contain_text("<img src=x onerror=alert(1)>.dcm")
    assert page.locator("#problem img").count() == 0


def test_a_view_is_enlarged_zoomed_and_closed_by_keyboard_alone(page, exam):
    drop(page, *exam.values())
    expect(page.locator(f"{GRID} img.grey")).to_have_count(4)
    page.locator(f"{GRID}[data-view='L MLO']").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("L MLO")
    zoom = page.locator("#loupe-zoom")
    expect(zoom).to_have_text("1.0×")
    page.keyboard.press("+")
    expect(zoom).to_have_text("1.3×")
    page.mouse.move(640, 450)
    page.mouse.wheel(0, -300)
    expect(zoom).not_to_have_text("1.3×")
    page.keyboard.press("0")
    expect(zoom).to_have_text("1.0×")
    page.keyboard.press("h")
    expect(page.locator("#loupe-stage img.heat")).to_have_css("opacity", "0")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.locator(f"{GRID}[data-view='L MLO']")).to_be_focused()


def test_files_can_be_chosen_by_keyboard_alone(page, exam):
    # Listened to from the start: the dialog is caught only once Chromium knows of a listener.
    page.on("filechooser", lambda chooser: chooser.set_files([str(exam["R CC"])]))
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Choose files")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(f"{GRID} img.grey")).to_have_count(1)


def test_files_dropped_anywhere_are_scored(page, exam):
    data = page.evaluate_handle(
        """([name, bytes]) => {
          const transfer = new DataTransfer();
          const content = Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0));
          transfer.items.add(new File([content], name));
          return transfer;
        }""",
        [exam["R CC"].name, base64.b64encode(exam["R CC"].read_bytes()).decode()],
    )
    page.dispatch_event(".notice", "dragover", {"dataTransfer": data})
    expect(page.locator("#drop.over")).to_be_visible()
    page.dispatch_event(".notice", "drop", {"dataTransfer": data})
    expect(page.locator(f"{GRID} img.grey")).to_have_count(1)


def test_a_reload_shows_the_exam_again(page, exam):
    drop(page, exam["R CC"], exam["L CC"])
    expect(page.locator(f"{GRID} img.grey")).to_have_count(2)
    page.reload()
    expect(page.locator(f"{GRID} img.grey")).to_have_count(2)


@pytest.mark.parametrize("width", [1280, 800])
def test_nothing_overflows_the_window_sideways(page, exam, width):
    page.set_viewport_size({"width": width, "height": 900})
    drop(page, *exam.values())
    expect(page.locator(f"{GRID} img.grey")).to_have_count(4)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    expect(page.locator(".notice strong")).to_be_in_viewport()
    for name in ("R CC", "L MLO"):
        assert page.locator(f"{GRID}[data-view='{name}']").bounding_box()["height"] > 200
