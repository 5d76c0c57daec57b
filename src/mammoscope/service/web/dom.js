// Elements with attributes and children; text is always text, never markup.

export function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const MOST_DIGITS = 6;

export const byId = (id) => document.getElementById(id);

// A score or cut-off next to 0 or 1 is not shown as 0 or 1; the rule of pages/scores.py.
export function score(value, digits = 2) {
  if (value === 0 || value === 1) return value.toFixed(digits);
  for (let places = digits; places <= MOST_DIGITS; places += 1) {
    const text = value.toFixed(places);
    if (![0, 1].includes(Number(text))) return text;
  }
  if (value > 1) return "> 1";
  const end = 10 ** -MOST_DIGITS;
  return value > 0.5 ? `> ${(1 - end).toFixed(MOST_DIGITS)}` : `< ${end.toFixed(MOST_DIGITS)}`;
}

// What a finding is taken for, each word once, and how sure a second stage is of its own; as
// called in explain.py. Results of earlier versions do not say who has seen it.
function called({ kind, kind_score, seen_by: seen = [{ kind, kind_score }] }) {
  const told = new Map(seen.map((one) => [one.kind, one.kind_score]));
  const known = [...told].filter(([name]) => name !== "suspicious");
  return (known.length ? known : [...told])
    .map(([name, sure]) => (sure === null ? name : `${name} (${score(sure)})`))
    .join(", ");
}

// The same with its score, and those of others that found it too.
export function named(finding) {
  const others = (finding.seen_by ?? []).slice(1);
  return [
    called(finding), score(finding.score), ...others.map((one) => `${one.found_by} ${score(one.score)}`),
  ].join(", ");
}

// A bar from 0 to 1 with a line at the operating point.
export function gauge(value, threshold, reached) {
  const fill = el("span", { class: "fill" });
  const tick = el("span", { class: "tick" });
  fill.style.width = `${100 * value}%`;
  tick.style.left = `${100 * threshold}%`;
  return el("span", { class: `gauge ${reached ? "reached" : "below"}`, "aria-hidden": "true" }, fill, tick);
}

export const verdict = (reached) =>
  reached ? "at or above the operating point" : "below the operating point";
