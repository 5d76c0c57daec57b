// One view enlarged: zoom about the pointer, move, and nothing else.

import { byId, score, verdict } from "./dom.js";
import { nameOf, stack } from "./hanging.js";

const LARGEST = 12;
const STEP = 1.25;
let view = null;

export function enlarge(image) {
  const stage = byId("loupe-stage");
  const content = stack(image);
  stage.replaceChildren(content);
  byId("loupe-title").textContent =
    `${nameOf(image)} · score ${score(image.score)}, ${verdict(image.suspicious)}`;
  byId("loupe").showModal();
  stage.focus();
  view = { image, content, zoom: 1, x: 0, y: 0 };
  fit();
}

function fit() {
  if (view === null) return;
  const stage = byId("loupe-stage");
  const { image, content } = view;
  const factor = Math.min(stage.clientWidth / image.width, stage.clientHeight / image.height);
  content.style.width = `${image.width * factor}px`;
  content.style.height = `${image.height * factor}px`;
  Object.assign(view, { zoom: 1, x: 0, y: 0 });
  draw();
}

function draw() {
  const { content, zoom, x, y } = view;
  content.style.transform = `translate(${x}px, ${y}px) scale(${zoom})`;
  byId("loupe-zoom").textContent = `${zoom.toFixed(1)}×`;
}

// Zoom so that the point at (x, y), measured from the stage's centre, stays where it is.
function zoomBy(factor, x = 0, y = 0) {
  const zoom = Math.min(LARGEST, Math.max(1, view.zoom * factor));
  const ratio = zoom / view.zoom;
  view.x = zoom === 1 ? 0 : x - (x - view.x) * ratio;
  view.y = zoom === 1 ? 0 : y - (y - view.y) * ratio;
  view.zoom = zoom;
  draw();
}

function moveBy(x, y) {
  view.x += x;
  view.y += y;
  draw();
}

const KEYS = {
  "+": () => zoomBy(STEP),
  "=": () => zoomBy(STEP),
  "-": () => zoomBy(1 / STEP),
  0: () => fit(),
  ArrowLeft: () => moveBy(60, 0),
  ArrowRight: () => moveBy(-60, 0),
  ArrowUp: () => moveBy(0, 60),
  ArrowDown: () => moveBy(0, -60),
};

export function prepareLoupe() {
  const dialog = byId("loupe");
  const stage = byId("loupe-stage");
  byId("loupe-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    view = null;
    stage.replaceChildren();
  });
  dialog.addEventListener("keydown", (event) => {
    if (!(event.key in KEYS) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    KEYS[event.key]();
  });
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    const area = stage.getBoundingClientRect();
    const x = event.clientX - area.left - area.width / 2;
    const y = event.clientY - area.top - area.height / 2;
    zoomBy(STEP ** (-event.deltaY / 100), x, y);
  }, { passive: false });
  stage.addEventListener("pointerdown", (event) => stage.setPointerCapture(event.pointerId));
  stage.addEventListener("pointermove", (event) => {
    if (view !== null && stage.hasPointerCapture(event.pointerId)) moveBy(event.movementX, event.movementY);
  });
  window.addEventListener("resize", fit);
}
