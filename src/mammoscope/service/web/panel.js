// Scores against the operating point, what is missing, and which model said it.

import { byId, el, gauge, named, score, verdict } from "./dom.js";
import { nameOf } from "./hanging.js";

const SIDES = { R: "Right breast", L: "Left breast" };
const BESIDE = {
  detect: "Detector", segment: "Segmenter", "segment-then-classify": "Second stage", anomaly: "Unusual images",
};
const SCORED_BY = { detect: "a detector", segment: "a segmenter", anomaly: "an anomaly model" };
const percent = (value) => (value === null ? "undefined" : `${Math.round(100 * value)} %`);
const interval = ({ value, low, high }) =>
  low === null || high === null ? percent(value) : `${percent(value)} (${percent(low)}–${percent(high)})`;

function row(label, value, threshold, reached) {
  return el(
    "div",
    { class: `row ${reached ? "reached" : "below"}` },
    el("span", { class: "label" }, label),
    el("span", { class: "number" }, score(value)),
    gauge(value, threshold, reached),
    el("span", { class: "verdict" }, verdict(reached)),
  );
}

// The right breast first, as images hang and breasts are listed above; CC before MLO.
const hung = (a, b) => b.laterality.localeCompare(a.laterality) || a.view.localeCompare(b.view);

// What detectors and segmenters found, view by view; boxes of the heatmap speak for themselves.
function findings(images) {
  return [...images].sort(hung).flatMap((image) =>
    image.findings
      .filter((finding) => finding.found_by !== "heatmap")
      .map((finding) => {
        const twin = finding.matched && images.find(({ image_id: id }) => id === finding.matched.image_id);
        return el("span", { title: image.image_id }, `${nameOf(image)}: ${named(finding)}` +
          (twin ? `, seen in ${nameOf(twin)} too` : ""));
      }));
}

// What the numbers behind a finding are; a detector or segmenter that scores does so by its findings.
function aboutFindings(images, model) {
  const told = images.some((image) => image.findings.some((finding) => finding.kind_score !== null));
  return (told
    ? "In brackets: the share that the second stage gives that kind. Last: the score of what found it. "
    : "Last: the score of what found it. ") +
    (SCORED_BY[model.task] ? "" : "Findings do not change the scores above.");
}

function anomaly(exam) {
  return exam.anomaly
    ? el("p", { class: exam.anomaly.unusual ? "reached" : "below" },
        `Unlike normal images of training: ${score(exam.anomaly.score)}, ` +
        (exam.anomaly.unusual ? "unusual" : "not unusual"))
    : null;
}

function list(title, kind, items, about = null) {
  return items.length === 0
    ? null
    : el("section", { class: kind }, el("h2", {}, title),
        el("ul", {}, ...items.map((item) => el("li", {}, item))), about && el("p", { class: "fine" }, about));
}

export const refusalItem = (refusal) =>
  el("span", {}, el("b", {}, refusal.image_id), " ", el("code", {}, refusal.reason), el("br"), refusal.message);

export function fillPanel(exam, images, model) {
  const point = model.operating_point;
  const threshold = point.breast.threshold;
  const warnings = [
    ...exam.warnings,
    ...images.flatMap((image) =>
      image.warnings.map((warning) => `${nameOf(image)}: ${warning}`)),
  ];
  byId("panel").replaceChildren(
    ...[
      el(
        "section",
        { class: "scores" },
        el("h2", {}, "Exam"),
        el("div", { class: "whole" }, row(model.level === "exam" ? "Both breasts" : "Highest breast",
          exam.score, point.exam_threshold, exam.suspicious)),
        el("h2", {}, "Breasts"),
        ...["R", "L"].map((side) => {
          const breast = exam.breasts.find((item) => item.laterality === side);
          return breast
            ? row(SIDES[side], breast.score, threshold, breast.suspicious)
            : el("div", { class: "row none" }, el("span", { class: "label" }, SIDES[side]),
                el("span", { class: "verdict" }, "no image, no score"));
        }),
        el("p", { class: "key" }, el("i", { class: "line" }),
          `operating point: ${score(point.exam_threshold)} for exams` +
          `${point.exam ? "" : ", which is the breasts'"}, ${score(threshold)} for breasts, ` +
          `${score(point.image.threshold)} for images`),
        anomaly(exam),
        el("p", { class: "fine" }, `${model.aggregation.image ? `Image: ${model.aggregation.image}. ` : ""}` +
          `Breast: ${model.aggregation.breast}. Exam: ${model.aggregation.exam}.`),
        SCORED_BY[model.task]
          ? el("p", { class: "fine scored-by" },
              `Scored by ${SCORED_BY[model.task]}: a rank, not a probability of cancer.`)
          : null,
      ),
      list("Findings", "findings", findings(images), aboutFindings(images, model)),
      list("Read with care", "warnings", warnings),
      list("Not scored", "refused", exam.refused.map(refusalItem)),
      facts(model),
    ].filter(Boolean),
  );
}

function facts(model) {
  const point = model.operating_point;
  const normalOnly = model.task === "anomaly";
  const measured = (level, found) => [
    ...(normalOnly ? [] : [[`Sensitivity, ${level}`, interval(found.sensitivity)]]),
    [`Specificity, ${level}`, interval(found.specificity)],
  ];
  const sha = el("code", { title: model.bundle_sha256 }, model.bundle_sha256.slice(0, 12));
  const entries = [
    ["Name", model.name],
    ["Bundle SHA-256", sha],
    ["Operating point", `${point.name}, chosen on ${normalOnly ? "normal " : ""}validation images` +
      (normalOnly ? " alone, of which no sensitivity follows" : "") +
      (point.scored_by === "folds" ? " by single folds; the model is their mean" : "")],
    ...(point.exam
      ? measured("exam", point.exam)
      : [["Exam", "not measured; judged at the breasts' threshold"]]),
    ...measured("breast", point.breast),
    ...measured("image", point.image),
    ...model.companions.map((one) => [BESIDE[one.task],
      `${one.name}, ${one.task === "segment-then-classify" ? one.target : `from ${score(one.threshold)} on (${one.target})`}` +
      (one.synthetic ? ", synthetic" : "")]),
  ];
  return el(
    "section",
    { class: "facts" },
    el("h2", {}, "Model"),
    el("dl", {}, ...entries.flatMap(([term, value]) => [el("dt", {}, term), el("dd", {}, value)])),
    el("p", { class: "fine" },
      `Measured on validation ${model.synthetic ? "images that are synthetic" : "images"}, ` +
      `with ${percent(point.breast.confidence)} intervals. ${model.intended_use}`),
  );
}
