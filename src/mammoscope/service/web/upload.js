// Sending files, with progress in words.

// What lies beside the images in an exported study; in a dropped folder nobody meant these.
const COMPANIONS = new Set(["DICOMDIR", "LOCKFILE", "VERSION"]);
const isCompanion = (name) =>
  name.startsWith(".") || COMPANIONS.has(name) || /\.(txt|xml|html?|json|md|ini|inf|exe)$/i.test(name);

export function imagesOfFolder(files) {
  return [...files].filter((file) => !isCompanion(file.name));
}

// The files of a drop, folders walked through.
export async function droppedFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files];
  const found = await Promise.all(entries.map((entry) => walk(entry, entry.isDirectory)));
  return found.flat();
}

async function walk(entry, inFolder) {
  if (entry.isFile) {
    if (inFolder && isCompanion(entry.name)) return [];
    return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  }
  const reader = entry.createReader();
  const files = [];
  // A reader gives entries in batches and an empty one at the end.
  for (;;) {
    const batch = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (batch.length === 0) return files;
    for (const child of batch) files.push(...(await walk(child, true)));
  }
}

// Returns {promise, cancel}; the promise gives {status, body, location}.
export function send(files, onProgress) {
  const form = new FormData();
  for (const file of files) form.append("files", file, file.name);
  const request = new XMLHttpRequest();
  const promise = new Promise((resolve, reject) => {
    request.open("POST", "/v1/exams");
    request.responseType = "json";
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) onProgress(event.loaded / event.total);
    });
    request.upload.addEventListener("load", () => onProgress(1));
    request.addEventListener("load", () =>
      resolve({
        status: request.status,
        body: request.response,
        location: request.getResponseHeader("Location"),
      }),
    );
    request.addEventListener("abort", () => resolve(null));
    request.addEventListener("error", () =>
      reject(new Error("The connection to the service was lost before it answered. Is it still running?")),
    );
    request.send(form);
  });
  return { promise, cancel: () => request.abort() };
}
