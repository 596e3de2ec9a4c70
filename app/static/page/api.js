// The HTTP API, as this page uses it. The key stays in this tab: in memory, and in its session storage if asked for.

const KEY_PLACE = "pixtools.key";
let key = sessionStorage.getItem(KEY_PLACE) ?? "";
const keyListeners = new Set();

export const hasKey = () => key !== "";

export function setKey(value, keep) {
  key = value.trim();
  if (key && keep) sessionStorage.setItem(KEY_PLACE, key);
  else sessionStorage.removeItem(KEY_PLACE);
  for (const tell of keyListeners) tell();
}

export function onKey(listener) {
  keyListeners.add(listener);
}

/** What the server refused, in its words. */
export class Problem extends Error {
  constructor(status, body, retryAfter) {
    super(body.detail ?? `The server answered ${status}.`);
    this.status = status;
    this.code = body.code ?? "";
    this.errors = body.errors ?? [];
    this.retryAfter = retryAfter;
    this.type = body.type ?? "";
  }

  get needsKey() {
    return this.status === 401;
  }

  get isBusy() {
    return this.status === 429 || this.status === 503;
  }
}

/** The server did not answer at all. */
export class Away extends Error {
  name = "Away";
}

export function headers(more = {}) {
  return key ? { ...more, Authorization: `Bearer ${key}` } : more;
}

/** An answer that says that all is well.
 * @throws {Problem} it says that it is not.
 * @throws {Away} there is none. */
export async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: headers(options.headers), credentials: "omit" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Away("The server cannot be reached.");
  }
  if (!answer.ok) throw await problemOf(answer);
  return answer;
}

async function problemOf(answer) {
  let body = {};
  try {
    body = await answer.json();
  } catch {
    // a proxy's own page
  }
  return new Problem(answer.status, body, Number(answer.headers.get("Retry-After")) || 0);
}

export const get = async (path, options) => (await ask(path, options)).json();
export const post = async (path, body) => (await ask(path, { method: "POST", ...json(body) })).json();
export const remove = (path) => ask(path, { method: "DELETE" });

function json(body) {
  if (body === undefined) return {};
  return { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
}

/** Send a form and report how much of it has gone, which `fetch` cannot. */
export function upload(path, form, { idempotencyKey, onprogress, signal }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    request.responseType = "text";
    for (const [name, value] of Object.entries(headers({ "Idempotency-Key": `"${idempotencyKey}"` }))) {
      request.setRequestHeader(name, value);
    }
    request.upload.addEventListener("progress", (event) => onprogress(event.total ? event.loaded / event.total : 0));
    request.addEventListener("error", () => reject(new Away("The server cannot be reached.")));
    request.addEventListener("abort", () => reject(new DOMException("stopped", "AbortError")));
    request.addEventListener("load", () => settle(request, resolve, reject));
    signal.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

function settle(request, resolve, reject) {
  let body = {};
  try {
    body = JSON.parse(request.responseText);
  } catch {
    // a proxy's own page
  }
  if (request.status >= 200 && request.status < 300) resolve(body);
  else if (request.status === 0) reject(new Away("The server cannot be reached."));
  else reject(new Problem(request.status, body, Number(request.getResponseHeader("Retry-After")) || 0));
}

/** Whether an input may be an address on the web; `data:` alone would be of no use here. */
function takesUrl({ properties }) {
  const pattern = properties?.url?.pattern;
  return pattern !== undefined && new RegExp(pattern).test("https://example.com/photo.jpg");
}

/** What this server can do beyond the least, by its own description. */
export async function capabilities() {
  const { paths } = await get("openapi.json");
  const bodies = paths["/process"]?.post?.requestBody?.content ?? {};
  return {
    plan: "/plan" in paths,
    templates: "/templates" in paths,
    events: "/jobs/{job_id}/events" in paths,
    urls: (bodies["application/json"]?.schema?.properties?.input?.oneOf ?? []).some(takesUrl),
    usage: "/usage" in paths,
    deadLetters: "/dead-letters" in paths,
    tenants: "/tenants" in paths,
    timeline: "/jobs/{job_id}/timeline" in paths,
  };
}

/** Events of a stream (SSE), read by `fetch`: `EventSource` sends no key. */
export async function* events(path, signal) {
  const answer = await ask(path, { headers: { Accept: "text/event-stream" }, signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (waiting + value).replaceAll("\r\n", "\n").split("\n\n");
    waiting = blocks.pop();
    yield* blocks.map(eventOf).filter((event) => event.data);
  }
}

function eventOf(block) {
  const event = { type: "message", data: "" };
  for (const line of block.split("\n")) {
    const [, name, value] = /^([^:]*): ?(.*)$/.exec(line) ?? [null, line, ""];
    if (name === "event") event.type = value;
    if (name === "data") event.data += (event.data ? "\n" : "") + value;
  }
  return event;
}

/** The address of a result for this page: of this server it is asked under the name that the page itself has. */
export function addressOf(result, jobId) {
  const url = new URL(result.url, location.href);
  return url.pathname.startsWith(`/jobs/${jobId}/results/`) ? url.pathname + url.search : url.href;
}

/** A random name; `crypto.randomUUID` is not there on pages without TLS. */
export function newId() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
