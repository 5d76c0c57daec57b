// Views hung as radiologists hang them: right breast on the left, chest walls meeting,
// CC above MLO, all at one scale.

import { byId, el, gauge, named, score, verdict } from "./dom.js";

const PLACES = [["R", "CC"], ["L", "CC"], ["R", "MLO"], ["L", "MLO"]];
const SVG = "http://www.w3.org/2000/svg";
const STRIP_HEIGHT = 260;

const viewOf = (image) => `${image.laterality} ${image.view}`;

// What an image is called on the page: its view, numbered where another image shows that too.
export const nameOf = (image) => image.name;

function names(images) {
  const seen = new Map();
  return images.map((image) => {
    const view = viewOf(image);
    seen.set(view, (seen.get(view) ?? 0) + 1);
    const twice = images.filter((other) => viewOf(other) === view).length > 1;
    return twice ? `${view} ${seen.get(view)}` : view;
  });
}

// Images with what the page needs to draw them, in the order of the results.
export function joined(exam, display, model) {
  const called = names(exam.images);
  return exam.images.map((image, index) => {
    const shown = display.images[index];
    const joint = { ...image, shown, name: called[index], threshold: model.operating_point.image.threshold };
    // True proportions: pixels of a stretched file are not square.
    return { ...joint, width: image.width_px * shown.pixel_aspect, height: image.height_px, frame: frameOf(joint) };
  });
}

// Image, heatmap and boxes on top of each other; the stack fills the box it is put into.
export function stack(image) {
  const { shown } = image;
  const boxes = document.createElementNS(SVG, "svg");
  boxes.setAttribute("class", "boxes");
  boxes.setAttribute("viewBox", `0 0 ${image.width_px} ${image.height_px}`);
  boxes.setAttribute("preserveAspectRatio", "none");
  boxes.setAttribute("aria-hidden", "true");
  boxes.append(...image.findings.map((finding) => mark(finding, image)));
  const size = { width: shown.width_px, height: shown.height_px, draggable: "false" };
  return el(
    "span",
    { class: "stack" },
    el("img", { class: "grey", src: shown.image_url, alt: "", ...size }),
    shown.heatmap_url && el("img", { class: "heat", src: shown.heatmap_url, alt: "", ...size }),
    boxes,
  );
}

function drawn(name, attributes) {
  const shape = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) shape.setAttribute(key, value);
  return shape;
}

// A finding in pixels of the image as hung, as in overlays: a segmenter's is its outline, any other
// its box; what detector and segmenter both found is one mark of both.
function mark(finding, { width_px: width, shown }) {
  const { box, outline, matched, found_by: by } = finding;
  const hung = (x) => (shown.flipped ? width - x : x);
  const one = drawn("g", { class: matched ? "finding matched" : "finding" });
  if (outline.length) {
    one.append(drawn("polygon", { points: outline.map(({ x, y }) => `${hung(x)},${y}`).join(" ") }));
  }
  if (by !== "segmenter") {
    one.append(drawn("rect", {
      x: shown.flipped ? hung(box.x_max) : box.x_min, y: box.y_min,
      width: box.x_max - box.x_min, height: box.y_max - box.y_min,
    }));
  }
  const name = document.createElementNS(SVG, "title");
  name.textContent = `${named(finding)}${matched ? ", seen in another view too" : ""}`;
  one.append(name);
  return one;
}

function viewport(image, enlarge) {
  const number = image.findings.length;
  const findings = number === 1 ? "1 finding" : `${number} findings`;
  const notes = [...image.warnings];
  if (image.anomaly?.unusual) notes.push(`unusual (${score(image.anomaly.score)})`);
  if (image.shown.flipped) notes.push("mirrored for hanging");
  return el(
    "button",
    {
      type: "button",
      class: `viewport ${image.laterality}`,
      "data-view": viewOf(image),
      "aria-label": `Enlarge ${nameOf(image)}: score ${score(image.score)}, ${verdict(image.suspicious)}, ${findings}`,
      title: image.image_id,
      onclick: () => enlarge(image),
    },
    stack(image),
    el("span", { class: "mark" }, nameOf(image)),
    notes.length ? el("span", { class: "notes" }, notes.join("; ")) : null,
    el(
      "span",
      { class: `reading-score ${image.suspicious ? "reached" : "below"}` },
      el("span", { class: "number" }, score(image.score)),
      gauge(image.score, image.threshold, image.suspicious),
    ),
  );
}

const placeholder = ([side, view]) =>
  el("div", { class: `viewport missing ${side}`, "data-view": `${side} ${view}` },
    el("p", {}, `${side} ${view} missing`));

// Fill the grid and the strip; returns a function that fits them to the window.
export function hang(images, enlarge) {
  const rest = [...images];
  const placed = PLACES.map(([side, view]) => {
    const at = rest.findIndex((image) => image.laterality === side && image.view === view);
    return at < 0 ? null : rest.splice(at, 1)[0];
  });
  const views = placed.map((image) => image && viewport(image, enlarge));
  byId("hanging").replaceChildren(...views.map((view, index) => view ?? placeholder(PLACES[index])));
  const further = rest.map((image) => viewport(image, enlarge));
  byId("strip").replaceChildren(...further);
  byId("extras").hidden = rest.length === 0;
  const strip = STRIP_HEIGHT / Math.max(1, ...rest.map(({ frame }) => frame.height));
  rest.forEach((image, index) => {
    place(further[index], image, strip, STRIP_HEIGHT);
    further[index].style.width = `${Math.max(150, Math.round(image.frame.width * strip))}px`;
  });
  return () => {
    const shown = placed.map((image, index) => [image, views[index]]).filter(([image]) => image);
    // One factor for all: a lump is as large in one view as in the other.
    const factor = Math.min(
      ...shown.map(([{ frame }, view]) =>
        Math.min(view.clientWidth / frame.width, view.clientHeight / frame.height)),
    );
    for (const [image, view] of shown) place(view, image, factor);
  };
}

// What a viewport must show: the breast from the chest wall to past the skin, in rows of pixels.
function frameOf(image) {
  const { breast, pixel_aspect: aspect } = image.shown;
  const border = 0.04 * (breast.y_max - breast.y_min);
  return {
    wall: aspect * (image.laterality === "R" ? image.width_px - breast.x_max : breast.x_min),
    width: aspect * (breast.x_max - breast.x_min) + border,
    height: breast.y_max - breast.y_min + 2 * border,
    middle: (breast.y_min + breast.y_max) / 2,
  };
}

// The chest wall goes to the viewport's inner edge, the breast's middle to its middle.
function place(view, image, factor, height = view.clientHeight) {
  const { style } = view.querySelector(".stack");
  style.width = `${image.width * factor}px`;
  style.height = `${image.height * factor}px`;
  style.top = `${height / 2 - image.frame.middle * factor}px`;
  style[image.laterality === "R" ? "right" : "left"] = `${-image.frame.wall * factor}px`;
}
