// The page: files in, an exam hung, scores beside it.

import { byId, el, score, verdict } from "./dom.js";
import { hang, joined } from "./hanging.js";
import { enlarge, prepareLoupe } from "./loupe.js";
import { fillPanel, refusalItem } from "./panel.js";
import { droppedFiles, imagesOfFolder, send } from "./upload.js";

let model = null;
let transfer = null;
let fitViews = () => {};

const say = (sentence) => { byId("status").textContent = sentence; };
const gigabytes = (bytes) =>
  bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(1)} GiB` : `${(bytes / 2 ** 20).toFixed(1)} MiB`;

async function getJson(url) {
  const answer = await fetch(url);
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error.message);
  return body;
}

function showProblem(title, message, files = []) {
  const items = files.map((file) => el("li", {}, refusalItem(file)));
  byId("problem").replaceChildren(
    el("h2", {}, title),
    ...(items.length ? [el("ul", {}, ...items)] : [el("p", {}, message)]),
  );
  byId("problem").hidden = false;
  say("");
}

function showIntake() {
  byId("reading").hidden = true;
  byId("tools").hidden = true;
  byId("intake").hidden = false;
  document.body.classList.remove("read");
  document.title = "mammoscope";
}

function busy(on) {
  byId("progress").hidden = !on;
  byId("drop").classList.toggle("busy", on);
  for (const id of ["choose-files", "choose-folder"]) byId(id).disabled = on;
}

function onProgress(share) {
  const bar = byId("progress-bar");
  if (share < 1) {
    bar.value = share;
    // Read out in tens: a screen reader should not count along.
    say(`Uploading, ${10 * Math.floor(10 * share)} %`);
  } else {
    bar.removeAttribute("value");
    byId("cancel").hidden = true;
    say("Reading and scoring the images…");
  }
}

async function scoreExam(files) {
  if (transfer !== null || files.length === 0) return;
  byId("problem").hidden = true;
  const size = files.reduce((sum, file) => sum + file.size, 0);
  const { max_files: most, max_upload_bytes: largest } = model.limits;
  if (files.length > most || size > largest) {
    showProblem("Too much for one exam", `${files.length} files of ${gigabytes(size)} were chosen; ` +
      `the service takes ${most} files of ${gigabytes(largest)} together.`);
    return;
  }
  showIntake();
  byId("cancel").hidden = false;
  busy(true);
  transfer = send(files, onProgress);
  try {
    const answer = await transfer.promise;
    if (answer === null) {
      say("Upload cancelled.");
    } else if (answer.status !== 201) {
      const error = answer.body?.error ?? { message: `The service answered with status ${answer.status}.` };
      const reference = error.id ? ` (reference ${error.id})` : "";
      showProblem("This upload was not scored", error.message + reference, error.files);
    } else {
      const display = await getJson(`${answer.location}/display`);
      window.history.replaceState(null, "", `#${display.exam_id}`);
      showExam(answer.body.exams[0], display);
    }
  } catch (error) {
    showProblem("This upload was not scored", error.message);
  } finally {
    transfer = null;
    busy(false);
  }
}

function showExam(exam, display) {
  const images = joined(exam, display, model);
  byId("intake").hidden = true;
  byId("problem").hidden = true;
  byId("reading").hidden = false;
  byId("tools").hidden = false;
  // A detector has no map to show.
  byId("heat-tool").hidden = images.every(({ shown }) => !shown.heatmap_url);
  document.body.classList.add("read");
  fillPanel(exam, images, model);
  fitViews = hang(images, enlarge);
  fitViews();
  document.title = "Exam · mammoscope";
  const missing = exam.missing_views.length ? ` Missing: ${exam.missing_views.join(", ")}.` : "";
  say(`Scored ${images.length} images. Exam score ${score(exam.score)}, ${verdict(exam.suspicious)}.${missing}`);
}

function toggle(button, hiddenClass) {
  const on = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", String(on));
  document.body.classList.toggle(hiddenClass, !on);
}

function prepareIntake() {
  const drop = byId("drop");
  const choose = (button, input, pick) => {
    byId(button).addEventListener("click", () => byId(input).click());
    byId(input).addEventListener("change", (event) => {
      const files = pick(event.target.files);
      event.target.value = "";
      scoreExam(files);
    });
  };
  choose("choose-files", "files", (files) => [...files]);
  choose("choose-folder", "folder", imagesOfFolder);
  // Anywhere on the page: nobody should lose an exam to a missed frame.
  window.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  window.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) drop.classList.remove("over");
  });
  window.addEventListener("drop", async (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    try {
      scoreExam(await droppedFiles(event.dataTransfer));
    } catch (error) {
      showProblem("These files could not be read", error.message);
    }
  });
  byId("cancel").addEventListener("click", () => transfer?.cancel());
}

function prepareTools() {
  const heat = byId("heat-toggle");
  const boxes = byId("box-toggle");
  heat.addEventListener("click", () => toggle(heat, "heat-off"));
  boxes.addEventListener("click", () => toggle(boxes, "boxes-off"));
  byId("opacity").addEventListener("input", (event) =>
    document.documentElement.style.setProperty("--heat", event.target.value / 100));
  byId("new-exam").addEventListener("click", () => {
    window.history.replaceState(null, "", "/");
    showIntake();
    say("");
    byId("choose-files").focus();
  });
  window.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || byId("reading").hidden) return;
    if (event.key === "h" || event.key === "H") toggle(heat, "heat-off");
    if (event.key === "b" || event.key === "B") toggle(boxes, "boxes-off");
  });
  new ResizeObserver(() => fitViews()).observe(byId("hanging"));
}

async function start() {
  try {
    model = await getJson("/v1/model");
  } catch (error) {
    showProblem("The service does not answer", error.message);
    return;
  }
  byId("model-name").textContent = `${model.name} · ${model.bundle_sha256.slice(0, 12)}`;
  byId("synthetic").hidden = !model.synthetic;
  byId("limits").textContent =
    `At most ${model.limits.max_files} files, ${gigabytes(model.limits.max_upload_bytes)}. ` +
    "Files are deleted once scored; results stay on this machine.";
  prepareIntake();
  prepareTools();
  prepareLoupe();
  document.body.classList.add("ready");
  const kept = window.location.hash.slice(1);
  if (kept) await reopen(kept);
}

// After a reload: the exam is still kept, or it is not.
async function reopen(examId) {
  const url = `/v1/exams/${encodeURIComponent(examId)}`;
  try {
    const [document_, display] = await Promise.all([getJson(url), getJson(`${url}/display`)]);
    showExam(document_.exams[0], display);
  } catch (error) {
    window.history.replaceState(null, "", "/");
    showProblem("This exam cannot be shown again", error.message);
  }
}

start();
