// Elements, numbers and times. Text goes in as text, never as markup.

export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) node.append(child);
  }
  return node;
}

export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export const count = (number) => (number ?? 0).toLocaleString("en-US");

export function numberCell(number, className = "") {
  return el("td", { class: `number ${number ? className : "zero"}` }, number === null ? "–" : count(number));
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 0.001) return "< 1 ms";
  if (seconds < 1) return `${(seconds * 1000).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

// Microseconds since the epoch: Date alone drops what is below a millisecond.
function micros(text) {
  const fraction = (text.match(/\.(\d+)Z$/)?.[1] ?? "").padEnd(6, "0");
  return Math.floor(Date.parse(text) / 1000) * 1e6 + Number(fraction.slice(0, 6));
}

export const between = (from, to) => (from && to ? Math.max(micros(to) - micros(from), 0) / 1e6 : null);

export function time(text) {
  if (!text) return "–";
  const moment = new Date(text);
  const today = new Date().toDateString() === moment.toDateString();
  const clock = moment.toLocaleTimeString("en-GB");
  return el("time", { datetime: text, title: text }, today ? clock : `${moment.toLocaleDateString("en-CA")} ${clock}`);
}

export const stateBadge = (state) => el("span", { class: `state ${state}` }, state);

export function table(caption, headings, rows, empty) {
  if (!rows.length) return el("p", { class: "empty" }, empty);
  const head = headings.map((heading) =>
    typeof heading === "string" ? el("th", { scope: "col" }, heading) : el("th", { scope: "col", class: "number" }, heading[0]),
  );
  return el(
    "div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", {}, el("caption", {}, caption), el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows)),
  );
}

// A row that opens something: by mouse anywhere, by keyboard through the button in its first cell.
export function openRow(label, open, ...cells) {
  const first = el("td", { class: "mono cut" }, el("a", { href: "#", onclick: (event) => { event.preventDefault(); event.stopPropagation(); open(); } }, label));
  return el("tr", { class: "open", onclick: open }, first, cells);
}

export const json = (value) => el("pre", { tabindex: "0" }, typeof value === "string" ? value : JSON.stringify(value, null, 2));

export function facts(pairs) {
  return el("dl", {}, pairs.filter(([, value]) => value !== null && value !== undefined).map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

export function showDialog(title, ...content) {
  const dialog = document.getElementById("detail");
  const close = el("button", { type: "button", onclick: () => dialog.close() }, "Close");
  dialog.replaceChildren(
    el("div", { class: "top" }, el("h2", { id: "detail-title" }, title), close),
    el("div", { class: "body" }, content),
  );
  dialog.onclick = (event) => { if (event.target === dialog) dialog.close(); };
  if (!dialog.open) dialog.showModal();
}
