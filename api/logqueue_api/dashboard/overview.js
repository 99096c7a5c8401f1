// The overview: figures, queues by state, and the newest jobs.

import { get } from "./api.js";
import { between, count, duration, el, numberCell, openRow, stateBadge, svg, table, time } from "./dom.js";
import { showJob } from "./details.js";

const ENDED = ["succeeded", "dead", "cancelled", "expired"];
const ORDER = ["succeeded", "running", "retrying", "queued", "scheduled", "blocked", "parked", "dead", "cancelled", "expired"];
const HISTORY = 60;
const samples = [];

export async function overview(content) {
  const figures = el("div", { class: "figures", "aria-label": "Figures" });
  const queues = el("section", { class: "card" });
  const recent = el("section", { class: "card" });
  content.replaceChildren(el("h1", {}, "Overview"), figures, queues, recent);
  return async () => {
    const [found, page] = await Promise.all([get("/v1/queues"), get("/v1/jobs", { limit: 15 })]);
    const total = totals(found.items);
    remember(total);
    figures.replaceChildren(...figureCards(total));
    queues.replaceChildren(queueTable(found.items));
    recent.replaceChildren(jobTable("Newest jobs", page.items));
  };
}

export function jobTable(caption, jobs, group) {
  const rows = jobs.map((job) =>
    openRow(
      job.id, () => showJob(job.id, group),
      el("td", {}, stateBadge(job.state)),
      el("td", {}, job.type ?? el("span", { class: "muted" }, "unknown")),
      el("td", {}, job.queue), el("td", { class: "cut" }, job.tenant),
      el("td", { class: "number" }, String(job.attempt)),
      el("td", {}, time(job.created_at)),
      el("td", { class: "number" }, duration(between(job.started_at, job.finished_at))),
      el("td", { class: "cut" }, outcome(job)),
    ),
  );
  const headings = ["Job", "State", "Type", "Queue", "Tenant", ["Attempt"], "Created", ["Ran for"], "Outcome"];
  return table(caption, headings, rows, "No jobs yet.");
}

function outcome(job) {
  if (job.error) return el("span", { class: job.state, title: job.error.message }, `${job.error.type}: ${job.error.message}`);
  if (job.result === null) return el("span", { class: "muted" }, "–");
  const text = JSON.stringify(job.result);
  return el("span", { class: "mono", title: text.slice(0, 500) }, text.slice(0, 120));
}

function totals(items) {
  const sum = {};
  for (const item of items) for (const [state, jobs] of Object.entries(item.counts)) sum[state] = (sum[state] ?? 0) + jobs;
  return sum;
}

function remember(total) {
  const now = performance.now();
  const ended = ENDED.reduce((sum, state) => sum + (total[state] ?? 0), 0);
  const last = samples.at(-1);
  const rate = last && now > last.now ? Math.max(0, (ended - last.ended) / ((now - last.now) / 1000)) : 0;
  samples.push({ now, ended, rate });
  if (samples.length > HISTORY + 1) samples.shift();
}

function figureCards(total) {
  const rates = samples.slice(1).map((sample) => sample.rate);
  const window = rates.slice(-5);
  const rate = window.length ? window.reduce((sum, value) => sum + value, 0) / window.length : 0;
  const card = (value, label, state) => el("div", { class: "card figure" }, el("b", { class: state }, value), el("span", {}, label));
  return [
    el("div", { class: "card figure wide" }, el("div", {}, el("b", {}, rate < 10 ? rate.toFixed(1) : count(Math.round(rate))), el("span", {}, "jobs ended per second")), sparkline(rates)),
    card(count((total.queued ?? 0) + (total.scheduled ?? 0)), "waiting"),
    card(count((total.running ?? 0) + (total.retrying ?? 0)), "running or retrying", "running"),
    card(count(total.succeeded), "succeeded", "succeeded"),
    card(count(total.dead), "dead", total.dead ? "dead" : ""),
    total.parked ? card(count(total.parked), "parked: no worker knows the type", "parked") : null,
  ].filter(Boolean);
}

function sparkline(rates) {
  const top = Math.max(...rates, 1);
  const x = (index) => HISTORY - rates.length + 1 + index;
  const points = rates.map((rate, index) => `${x(index)},${(38 - (rate / top) * 36).toFixed(2)}`);
  const line = points.length ? `M${points.join("L")}` : "";
  const area = points.length ? `${line}L${x(rates.length - 1)},40L${x(0)},40Z` : "";
  return svg("svg", { class: "spark", viewBox: `0 0 ${HISTORY} 40`, preserveAspectRatio: "none", role: "img", "aria-label": `Jobs ended per second over the last minute, at most ${Math.round(top)}` }, svg("path", { class: "area", d: area }), svg("path", { d: line }));
}

function queueTable(items) {
  const shown = ORDER.filter((state) => ["succeeded", "running", "queued", "dead"].includes(state) || items.some((item) => item.counts[state]));
  const rows = items.map((item) =>
    el(
      "tr", {},
      el("td", {}, el("a", { href: `#/jobs?${new URLSearchParams({ queue: item.queue })}` }, item.queue)),
      el("td", {}, bar(item)),
      shown.map((state) => numberCell(item.counts[state], state)),
      el("td", { class: "number" }, count(item.total)),
      el("td", { class: "number" }, duration(item.oldest_queued_age_s)),
    ),
  );
  const headings = ["Queue", "", ...shown.map((state) => [state]), ["total"], ["oldest queued"]];
  return table("Queues, with jobs by state", headings, rows, "No queue yet: put a job on one, or start a worker.");
}

function bar(item) {
  const parts = ORDER.filter((state) => item.counts[state]).map((state) => el("i", { class: state, style: null, "data-share": (100 * item.counts[state]) / item.total, title: `${state}: ${count(item.counts[state])}` }));
  for (const part of parts) part.style.width = `${part.dataset.share}%`;
  return el("div", { class: "bar", "aria-hidden": "true" }, parts);
}
