// What is shown of one job and one dead letter.

import { get, post } from "./api.js";
import { between, duration, el, facts, json, showDialog, stateBadge, time } from "./dom.js";

const quoted = encodeURIComponent;

export async function showJob(id, group) {
  let job;
  try {
    job = await get(`/v1/jobs/${quoted(id)}`, { group });
  } catch (error) {
    return showDialog(id, el("p", { class: "notice bad" }, error.message));
  }
  const position = `${job.topic}, partition ${job.partition}, offset ${job.offset}`;
  const record = el("div", {}, el("p", { class: "muted" }, "Reading the record…"));
  showDialog(
    job.id,
    facts([
      ["State", stateBadge(job.state)],
      ["Type", job.type ?? "unknown"],
      ["Queue", job.queue],
      ["Tenant", job.tenant],
      ["Attempt", String(job.attempt)],
      ["Replayed", job.replay ? `${job.replay} times` : null],
      ["Created", time(job.created_at)],
      ["Due", job.due_at ? time(job.due_at) : null],
      ["Started", job.started_at ? time(job.started_at) : null],
      ["Finished", job.finished_at ? time(job.finished_at) : null],
      ["Waited", job.started_at ? duration(between(job.created_at, job.started_at)) : null],
      ["Ran for", job.finished_at && job.started_at ? duration(between(job.started_at, job.finished_at)) : null],
      ["Expires", job.expires_at ? time(job.expires_at) : null],
      ["Group", job.group],
      ["Replay group", job.shadow],
      ["Worker", job.worker],
      ["In the log", el("a", { href: logLink(job.topic, job.partition, job.offset), onclick: closeDialog }, position)],
    ]),
    job.error && [el("h2", {}, `Error: ${job.error.type}`), json(job.error.message || "(no message)")],
    job.result !== null && [el("h2", {}, "Result"), json(job.result)],
    Object.keys(job.details).length > 0 && [el("h2", {}, "Details"), json(job.details)],
    record,
  );
  try {
    const page = await get(`/v1/topics/${quoted(job.topic)}/records`, { partition: job.partition, offset: job.offset, limit: 1 });
    const found = page.items[0];
    if (!found || found.offset !== job.offset) throw new Error("The log no longer holds this record.");
    record.replaceChildren(el("h2", {}, "Arguments"), json(found.value), el("h2", {}, "Headers"), headerTable(found.headers));
  } catch (error) {
    record.replaceChildren(el("p", { class: "muted" }, error.message));
  }
}

export function showRecord(topic, partition, record) {
  showDialog(
    `${topic}, partition ${partition}, offset ${record.offset}`,
    facts([["Key", record.key ?? "none"], ["Time", time(record.timestamp)], ["Size", `${record.size} bytes`], ["Value is", record.value_format ?? "absent"]]),
    el("h2", {}, "Value"), json(record.value), el("h2", {}, "Headers"), headerTable(record.headers),
  );
}

export async function showLetter(letter, refresh) {
  const message = el("p", { role: "status" });
  const replayed = el("span", {}, letter.is_open ? "no" : "yes");
  const replay = el("button", { type: "button", class: "primary", onclick: () => sendRound(letter, replay, replayed, message, refresh) }, "Run this job again");
  const value = el("div", {}, json(letter.preview));
  showDialog(
    letter.id,
    letter.error && el("p", { class: "notice bad" }, el("strong", {}, `${letter.error.type} `), letter.error.message),
    facts([
      ["Type", letter.type ?? "unknown"], ["Queue", letter.queue], ["Group", letter.group], ["Tenant", letter.tenant],
      ["Class", letter.error?.class], ["Attempts", String(letter.attempt)], ["Died", time(letter.died_at)],
      ["First failed", letter.first_failed_at ? time(letter.first_failed_at) : null],
      ["Replayed", replayed],
      ["Dead letter", el("a", { href: logLink(letter.topic, letter.partition, letter.offset), onclick: closeDialog }, `${letter.topic}, partition ${letter.partition}, offset ${letter.offset}`)],
      ["Job record", letter.origin && el("a", { href: logLink(letter.origin.topic, letter.origin.partition, letter.origin.offset), onclick: closeDialog }, `${letter.origin.topic}, partition ${letter.origin.partition}, offset ${letter.origin.offset}`)],
    ]),
    el("p", {}, replay), message,
    el("h2", {}, "Value"), value,
    el("h2", {}, "Headers"), headerTable(Object.entries(letter.headers).map(([name, held]) => ({ name, value: held }))),
  );
}

async function sendRound(letter, button, replayed, message, refresh) {
  button.disabled = true;
  try {
    const done = await post(`/v1/dlq/${quoted(letter.queue)}:replay`, { group: letter.group, ids: [letter.id] });
    message.textContent = `Sent round again (${done.replayed}).`;
    if (done.replayed) replayed.textContent = "yes";
    refresh();
  } catch (error) {
    message.textContent = error.message;
    button.disabled = false;
  }
}

const headerTable = (headers) => (headers.length ? facts(headers.map(({ name, value }) => [el("span", { class: "mono" }, name), el("span", { class: "mono" }, value)])) : el("p", { class: "muted" }, "None."));

export const logLink = (topic, partition, offset) => `#/log?${new URLSearchParams({ topic, partition, offset })}`;

function closeDialog() {
  document.getElementById("detail").close();
}
