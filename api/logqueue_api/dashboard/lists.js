// Jobs by filter, dead letters, groups, and the log record by record.

import { get, post } from "./api.js";
import { count, duration, el, numberCell, openRow, table, time } from "./dom.js";
import { showJob, showLetter, showRecord } from "./details.js";
import { jobTable } from "./overview.js";

const STATES = ["queued", "scheduled", "blocked", "running", "retrying", "parked", "succeeded", "dead", "cancelled", "expired"];

export async function jobs(content, query) {
  const result = el("section", { class: "card" });
  const queues = (await get("/v1/queues")).items;
  const filters = { state: query.state ?? "", queue: query.queue ?? "", type: query.type ?? "", tenant: query.tenant ?? "", group: query.group ?? "" };
  const types = [...new Set(queues.flatMap((item) => item.types))];
  const form = filterForm("jobs", [
    choice("State", "state", ["", ...STATES], filters.state, "any"),
    choice("Queue", "queue", ["", ...queues.map((item) => item.queue)], filters.queue, "any"),
    field("Type", "type", filters.type, types),
    field("Tenant", "tenant", filters.tenant),
    field("Replay group", "group", filters.group),
  ]);
  content.replaceChildren(el("h1", {}, "Jobs"), form, result);
  if (query.id) showJob(query.id, filters.group);
  let shown = 1; // pages
  return async () => {
    let page = { items: [], next_cursor: null };
    const items = [];
    for (let number = 0; number < shown; number++) {
      page = await get("/v1/jobs", { ...filters, limit: 50, cursor: page.next_cursor });
      items.push(...page.items);
      if (!page.next_cursor) break;
    }
    const more = page.next_cursor && el("div", { class: "more" }, el("button", { type: "button", onclick: () => { shown++; window.dispatchEvent(new Event("refresh")); } }, "More"));
    const caption = `${count(items.length)}${page.next_cursor ? " newest" : ""} ${items.length === 1 ? "job" : "jobs, newest first"}`;
    result.replaceChildren(items.length ? jobTable(caption, items, filters.group) : el("p", { class: "empty" }, page.next_cursor ? "None of the newest jobs match; look further back." : "No job matches."), ...(more ? [more] : []));
  };
}

export async function dead(content, query) {
  const topics = el("section", { class: "card" });
  const letters = el("section", { class: "card" });
  const message = el("p", { role: "status", class: "muted" });
  content.replaceChildren(el("h1", {}, "Dead letters"), topics, letters);
  const refresh = () => window.dispatchEvent(new Event("refresh"));
  let seen = query; // who is about to press the button has this queue before them: it stays, though it becomes empty
  return async () => {
    const found = (await get("/v1/dlq")).items;
    const chosen = found.find((item) => item.queue === seen.queue && item.group === seen.group) ?? found.find((item) => item.open !== 0) ?? found[0];
    topics.replaceChildren(
      table("Dead-letter topics", ["Queue", "Group", "Topic", ["Open"], ["Letters"]], found.map((item) =>
        el("tr", {}, el("td", {}, el("a", { href: `#/dead?${new URLSearchParams({ queue: item.queue, group: item.group })}`, "aria-current": item === chosen ? "true" : null }, item.queue)), el("td", {}, item.group), el("td", { class: "mono" }, item.topic), numberCell(item.open, "dead"), numberCell(item.letters)),
      ), "No job has died."),
    );
    letters.hidden = !chosen;
    if (!chosen) return;
    seen = chosen;
    const open = query.all ? undefined : "true";
    const items = (await get(`/v1/dlq/${encodeURIComponent(chosen.queue)}`, { group: chosen.group, open, limit: 100 })).items;
    const switchLink = el("a", { href: `#/dead?${new URLSearchParams({ queue: chosen.queue, group: chosen.group, ...(query.all ? {} : { all: "1" }) })}` }, query.all ? "Only those not replayed" : "Show replayed ones too");
    const rows = items.map((letter) =>
      openRow(letter.id, () => showLetter(letter, refresh),
        el("td", {}, letter.type ?? "unknown"), el("td", { class: "cut" }, letter.tenant),
        el("td", { class: "cut" }, el("span", { class: "dead", title: letter.error?.message }, letter.error ? `${letter.error.type}: ${letter.error.message}` : "no reason recorded")),
        el("td", {}, letter.error?.class ?? "–"), el("td", { class: "number" }, String(letter.attempt)), el("td", {}, time(letter.died_at)), el("td", {}, letter.is_open ? "" : "replayed")),
    );
    const all = el("button", { type: "button", disabled: !items.some((letter) => letter.is_open), onclick: () => replayAll(chosen, message, refresh) }, "Run up to 1,000 again…");
    letters.replaceChildren(
      el("div", { class: "heading" }, el("h2", {}, `${chosen.queue}, given up by ${chosen.group}`), el("span", {}, switchLink, " ", all)), message,
      table(`The newest ${count(items.length)}`, ["Job", "Type", "Tenant", "Why", "Class", ["Attempts"], "Died", ""], rows, query.all ? "None." : "None that was not replayed."),
    );
  };
}

async function replayAll({ queue, group }, message, refresh) {
  const path = `/v1/dlq/${encodeURIComponent(queue)}:replay`;
  try {
    const plan = await post(path, { group, dry_run: true });
    if (!confirm(`Run ${count(plan.matched)} jobs of queue ${queue} again?`)) return;
    const done = await post(path, { group });
    message.textContent = `${count(done.replayed)} jobs were sent round again.`;
    refresh();
  } catch (error) {
    message.textContent = error.message;
  }
}

const MAX_GROUPS = 50; // each is a request of its own

export async function groups(content) {
  const list = el("div");
  content.replaceChildren(el("h1", {}, "Consumer groups"), list);
  return async () => {
    const all = (await get("/v1/groups")).items;
    const names = all.slice(0, MAX_GROUPS);
    const found = await Promise.all(names.map(({ group }) => get(`/v1/groups/${encodeURIComponent(group)}`).catch((error) => ({ group, problem: error.message }))));
    const rest = all.length > MAX_GROUPS ? [el("p", { class: "muted" }, `The first ${MAX_GROUPS} of ${count(all.length)} groups.`)] : [];
    list.replaceChildren(...(found.length ? found.map(groupCard) : [el("p", { class: "card empty" }, "No consumer group yet: start a worker.")]), ...rest);
  };
}

function groupCard(group) {
  if (group.problem) return el("section", { class: "card" }, el("h2", {}, group.group), el("p", { class: "muted" }, group.problem));
  const busy = group.partitions.filter((row) => row.lag || row.committed);
  const rows = busy.map((row) => el("tr", {}, el("td", { class: "mono" }, row.topic), el("td", { class: "number" }, String(row.partition)), el("td", { class: "number" }, row.committed === null ? "–" : count(row.committed)), el("td", { class: "number" }, count(row.end)), numberCell(row.lag, "queued"), numberCell(row.incomplete, "running")));
  const summary = `${count(group.lag)} behind, ${count(group.incomplete)} unfinished, ${group.members} ${group.members === 1 ? "member" : "members"}, ${group.state}`;
  return el(
    "section", { class: "card" },
    el("div", { class: "heading" }, el("h2", {}, group.group), el("span", { class: "muted" }, summary)),
    group.oldest_queued_age_s !== null ? el("p", { class: "muted" }, `Oldest queued job: ${duration(group.oldest_queued_age_s)}`) : null,
    el("details", { "data-key": group.group, open: group.lag > 0 }, el("summary", {}, "Partitions"), table("Progress by partition", ["Topic", ["Partition"], ["Committed"], ["End"], ["Lag"], ["Unfinished"]], rows, "Nothing committed and nothing waiting.")),
  );
}

export async function log(content, query) {
  const result = el("section", { class: "card" });
  const topics = (await get("/v1/topics")).items;
  const topic = topics.find((item) => item.topic === query.topic) ?? topics.find((item) => item.kind === "jobs") ?? topics[0];
  const partitions = topic ? (await get(`/v1/topics/${encodeURIComponent(topic.topic)}`)).partitions : [];
  const chosen = partitions.find((item) => String(item.partition) === query.partition) ?? partitions.find(holdsRecords) ?? partitions[0];
  const partition = chosen?.partition;
  const form = filterForm("log", [
    choice("Topic", "topic", topics.map((item) => item.topic), topic?.topic),
    choice("Partition", "partition", partitions.map((item) => String(item.partition)), String(partition), "", (value) => (holdsRecords(partitions[value]) ? value : `${value} (empty)`)),
    field("Offset", "offset", query.offset ?? "latest", ["earliest", "latest"]),
  ]);
  content.replaceChildren(el("h1", {}, "The log"), form, result);
  return async () => {
    if (!topic) return result.replaceChildren(el("p", { class: "empty" }, "The log has no topic yet."));
    const page = await get(`/v1/topics/${encodeURIComponent(topic.topic)}/records`, { partition, offset: query.offset ?? "latest", limit: 50 });
    const rows = page.items.map((record) =>
      openRow(String(record.offset), () => showRecord(topic.topic, partition, record), el("td", {}, time(record.timestamp)), el("td", { class: "cut" }, record.key ?? "–"), el("td", { class: "mono cut" }, preview(record)), el("td", { class: "number" }, count(record.size))),
    );
    const link = (offset, text) => el("a", { href: `#/log?${new URLSearchParams({ topic: topic.topic, partition, offset })}` }, text);
    const links = el("p", {}, page.start < page.end ? [link(Math.max(page.start, (page.items[0]?.offset ?? page.end) - 50), "Older"), " · ", link(page.next_offset, "Newer"), " · ", link("latest", "Latest")] : []);
    result.replaceChildren(table(`Offsets ${count(page.start)} to ${count(page.end)} (end)`, ["Offset", "Time", "Key", "Value", ["Bytes"]], rows, "No records here."), links);
  };
}

const holdsRecords = ({ start, end }) => end > start;

const preview = (record) => (record.value === null ? "(none)" : typeof record.value === "string" ? record.value : JSON.stringify(record.value)).slice(0, 160);

function filterForm(view, fields) {
  const form = el("form", { class: "filters", onsubmit: (event) => { event.preventDefault(); go(form, view); }, onchange: (event) => go(form, view, event.target.name) }, fields, el("button", { type: "submit", class: "primary" }, "Show"));
  return form;
}

// Partition and offset belong to the topic they were chosen for: another topic opens where it has records.
const OF_A_TOPIC = ["partition", "offset"];

function go(form, view, changed) {
  const asked = [...new FormData(form)].filter(([name, value]) => value !== "" && !(changed === "topic" && OF_A_TOPIC.includes(name)));
  location.hash = `#/${view}?${new URLSearchParams(asked)}`;
}

function choice(label, name, values, chosen, none, text = (value) => value || none) {
  return el("label", {}, label, el("select", { name }, values.map((value) => el("option", { value, selected: value === chosen }, text(value)))));
}

function field(label, name, value, suggestions = []) {
  const list = suggestions.length ? `list-${name}` : null;
  return el("label", {}, label, el("input", { name, value, list, autocomplete: "off", size: 16 }), list && el("datalist", { id: list }, suggestions.map((text) => el("option", { value: text }))));
}
