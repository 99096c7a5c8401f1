// The HTTP API as this page uses it: a failed call throws an Error with the problem's own words.

export async function get(path, query = {}) {
  const asked = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const text = new URLSearchParams(asked).toString();
  return read(await fetch(text ? `${path}?${text}` : path, { headers: { Accept: "application/json" }, cache: "no-store" }));
}

export async function post(path, body) {
  return read(await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }));
}

async function read(answer) {
  const document = await answer.json().catch(() => ({}));
  if (answer.ok) return document;
  throw new Error(document.detail ?? `${answer.url} answered ${answer.status}`);
}
