// Chooses the view by the address, refreshes it while it is seen, and says how the service is.

import { el } from "./dom.js";
import { overview } from "./overview.js";
import { dead, groups, jobs, log } from "./lists.js";

const NOWHERE = "no such page";
const VIEWS = { "": overview, jobs, dead, groups, log, [NOWHERE]: nowhere };
const INTERVALS = { "": 1000, jobs: 2000, dead: 5000, groups: 3000, log: 3000, [NOWHERE]: 60000 };
const HEALTH_INTERVAL = 2000;

const content = document.getElementById("content");
let current = 0; // the visit: what an earlier one still fetches is thrown away
let refreshNow = () => {};

async function visit() {
  const mine = ++current;
  const [path, text] = location.hash.replace(/^#\/?/, "").split("?");
  const name = Object.hasOwn(VIEWS, path) ? path : NOWHERE;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === `#/${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const room = el("div");
  let refresh = null;
  let timer = null;
  const turn = async () => {
    clearTimeout(timer);
    try {
      refresh ??= await VIEWS[name](room, Object.fromEntries(new URLSearchParams(text)));
      const kept = keepOpen(room);
      await refresh();
      kept();
      say(room, null);
    } catch (error) {
      say(room, error.message);
    }
    if (mine !== current) return;
    if (!room.isConnected) content.replaceChildren(room);
    timer = setTimeout(() => (document.hidden ? document.addEventListener("visibilitychange", turn, { once: true }) : turn()), INTERVALS[name]);
  };
  refreshNow = turn;
  await turn();
}

async function nowhere(room) {
  room.replaceChildren(el("h1", {}, "No such page"), el("p", {}, "The address names none of the pages above. ", el("a", { href: "#/" }, "Overview")));
  return async () => {};
}

// <details> stay as they were, opened or closed, and focus stays where it was, when a view is drawn again.
function keepOpen(room) {
  const open = new Map([...room.querySelectorAll("details")].map((node) => [node.dataset.key, node.open]));
  const focused = room.contains(document.activeElement) ? document.activeElement.textContent : null;
  return () => {
    for (const node of room.querySelectorAll("details")) node.open = open.get(node.dataset.key) ?? node.open;
    if (focused && !room.contains(document.activeElement)) {
      [...room.querySelectorAll("a, button, summary")].find((node) => node.textContent === focused)?.focus({ preventScroll: true });
    }
  };
}

function say(room, problem) {
  room.querySelector(".notice.problem")?.remove();
  if (problem) room.prepend(el("p", { class: "notice bad problem", role: "alert" }, problem));
}

async function health() {
  const mark = document.getElementById("health");
  let kind = "bad";
  let words = "the API does not answer";
  try {
    const answer = await fetch("/readyz", { cache: "no-store" });
    const document_ = await answer.json();
    kind = answer.ok ? "ok" : "warn";
    words = answer.ok ? `log ${document_.bootstrap}${document_.lag ? `, view ${document_.lag.toLocaleString("en-US")} behind` : ""}` : document_.detail;
  } catch {
    // said by the words above
  }
  mark.className = `health ${kind}`;
  const said = mark.querySelector(".text");
  if (said.textContent !== words) said.textContent = words;
  setTimeout(health, HEALTH_INTERVAL);
}

window.addEventListener("hashchange", visit);
window.addEventListener("refresh", () => refreshNow());
health();
visit();
