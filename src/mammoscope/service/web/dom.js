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

export const byId = (id) => document.getElementById(id);

export const score = (value) => value.toFixed(2);

// What a finding is taken for, how sure a second stage is of that, and the score of what found it.
export const named = (finding) =>
  finding.kind + (finding.kind_score === null ? "" : ` (${score(finding.kind_score)})`) +
  `, ${score(finding.score)}`;

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
