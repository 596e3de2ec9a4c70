// The parts of a client without I/O: what is sent, what an answer means, and when to try again.

import { BY_CODE, BY_STATUS, DownloadFailed, Refused, ServerAway } from "./errors.js";

/** @import { Problem } from "../api.js" */
/** @import { FactsSource, Job, Operations, RemoteSource, Result, Source } from "../types.js" */

export const MAX_PAGE = 100; // entries of one page, at most
export const TIMEOUT = 30; // seconds without an answer
export const UPLOAD_TIMEOUT = 1800; // seconds; a large upload over a slow line takes long
export const WAITING = 100; // seconds without an answer that the server holds
export const MOST_SILENT = 45; // seconds without data in a stream, which has a comment every 15
export const HELD = 20; // seconds for which the server is asked to hold an answer
export const PATIENCE = 30; // seconds
const FIRST_PAUSE = 0.25; // seconds until the second try; each pause is up to twice as long as the one before
const LONGEST_PAUSE = 5; // seconds
export const POLL = 0.5; // seconds between two requests for a job, if the server does not hold answers
/** Answers after which the same request may succeed. */
const PASSING = [429, 502, 503, 504];
const IN_FLIGHT = "idempotency_key_in_flight";
/** Matches a text that is a URL, not a path. */
const URL_TEXT = /^(?:data:[^,]*,|[a-z][a-z0-9+.-]+:\/\/)/i;
const TREE_TEXT = /^\s*[[{"]/;

// -- requests ---------------------------------------------------------------------------------------------------------

/**
 * The address of a route.
 * @param {string} server
 * @param {string} template of the path, with names in braces
 * @param {Record<string, string>} [path] values for these names
 * @param {Record<string, unknown>} [query]
 * @returns {URL}
 * @throws {Refused} the result is not a valid address.
 */
export function addressOf(server, template, path = {}, query = {}) {
  const filled = template.replace(/\{(\w+)\}/g, (_, name) => part(path[name] ?? ""));
  const url = URL.canParse(server + filled) ? new URL(server + filled) : null;
  if (!url || !/^https?:$/.test(url.protocol) || url.username) {
    throw new Refused(`The request cannot be sent: ${JSON.stringify(server)} is not the address of a server.`);
  }
  for (const [name, value] of Object.entries(query)) {
    if (value === undefined || value === null) continue;
    url.searchParams.set(name, value instanceof Date ? value.toISOString() : String(value));
  }
  return url;
}

/**
 * @param {Record<string, string>} headers
 * @returns {Headers}
 * @throws {Refused} a header cannot be sent, such as a key with a line end.
 */
export function headersOf(headers) {
  try {
    return new Headers(headers);
  } catch (cause) {
    throw new Refused(`The request cannot be sent: ${/** @type {Error} */ (cause).message}`, { cause });
  }
}

/**
 * The options of a request; the operations are one of the options, or a separate argument.
 * @template {object} T
 * @param {Operations | T} what
 * @param {T} [options]
 * @returns {T}
 */
export function optionsOf(what, options) {
  const given = typeof what === "string" || Array.isArray(what) ? { operations: what } : what;
  return /** @type {T} */ ({ ...given, ...options });
}

/**
 * The values of a request, with times as text.
 * @template {object} T
 * @param {T} [values]
 * @returns {any}
 */
export function dated(values) {
  const texts = Object.entries(values ?? {}).map(([name, value]) => [
    name,
    value instanceof Date ? value.toISOString() : value,
  ]);
  return Object.fromEntries(texts);
}

/**
 * An id as a part of a path.
 * @param {string} id
 * @returns {string}
 * @throws {Refused} the id is empty, or would change the path.
 */
function part(id) {
  if (!id.replaceAll(".", "")) throw new Refused(`An id is missing: ${JSON.stringify(id)} is not an id.`);
  return encodeURIComponent(id);
}

/**
 * The `input` of a request for an image that the server fetches; undefined: the image is sent.
 * @param {Source | FactsSource} source
 * @returns {RemoteSource | FactsSource | undefined}
 */
export function elsewhere(source) {
  if (source instanceof URL) return { url: source.href };
  if (typeof source === "string") return URL_TEXT.test(source) ? { url: source } : undefined;
  return isBytes(source) ? undefined : /** @type {RemoteSource | FactsSource} */ (source);
}

/** @param {unknown} source */
function isBytes(source) {
  return (
    source instanceof Blob ||
    source instanceof ArrayBuffer ||
    ArrayBuffer.isView(source) ||
    source instanceof ReadableStream
  );
}

/**
 * The content of an image in a form that can be sent again. A stream is read to its end first.
 * @param {Source | FactsSource} source
 * @returns {Promise<Blob>}
 * @throws {Refused} the value is not an image source.
 */
export async function blobOf(source) {
  if (source instanceof Blob) return source;
  if (source instanceof ReadableStream) return new Response(source).blob();
  if (isBytes(source)) return new Blob([/** @type {BufferSource} */ (source)]);
  throw new Refused(`${JSON.stringify(source)} is not a URL. Paths of files are for "pixtools-client/node".`);
}

/**
 * @param {Blob} blob
 * @returns {string}
 */
export function nameOf(blob) {
  return (blob instanceof File && blob.name) || "image";
}

/**
 * The tree as text; each of several names separated by commas is a branch.
 * @param {Operations | readonly unknown[]} operations
 * @returns {string}
 */
export function treeOf(operations) {
  if (typeof operations !== "string") return JSON.stringify(operations);
  return TREE_TEXT.test(operations) ? operations : JSON.stringify(operations.split(",").map((name) => name.trim()));
}

/**
 * The tree as a value.
 * @param {Operations | readonly unknown[]} operations
 * @returns {any[]}
 * @throws {Refused} the text is not JSON.
 */
export function nodesOf(operations) {
  try {
    return [JSON.parse(treeOf(operations))].flat(1);
  } catch (cause) {
    throw new Refused(`The operations are not valid JSON: ${cause}.`, { cause });
  }
}

/**
 * The fields of a request that were given.
 * @param {Record<string, unknown>} order
 * @returns {[string, unknown][]}
 */
export function given(order) {
  return Object.entries(order).filter(([, value]) => value !== undefined && value !== null && value !== "");
}

/**
 * The JSON body of a request for an image that the server fetches.
 * @param {RemoteSource | FactsSource} source
 * @param {Operations | undefined} operations
 * @param {Record<string, unknown>} order further fields
 */
export function bodyOf(source, operations, order) {
  const tree = operations === undefined ? {} : { operations: nodesOf(operations) };
  return { input: source, ...tree, ...Object.fromEntries(given(order)) };
}

/**
 * The form for an upload and its operations.
 * @param {Blob} blob
 * @param {string} filename
 * @param {Operations | undefined} operations
 * @param {Record<string, unknown>} order further fields
 * @returns {FormData}
 */
export function formOf(blob, filename, operations, order) {
  const form = new FormData();
  if (operations !== undefined) form.set("operations", treeOf(operations));
  for (const [name, value] of given(order)) form.set(name, typeof value === "string" ? value : JSON.stringify(value));
  form.set("file", blob, filename);
  return form;
}

/**
 * A random name; `crypto.randomUUID` does not exist on pages without TLS.
 * @returns {string}
 */
export function newId() {
  return hex(crypto.getRandomValues(new Uint8Array(16)));
}

/**
 * @param {Uint8Array} bytes
 * @returns {string}
 */
export function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// -- answers ----------------------------------------------------------------------------------------------------------

/**
 * The error for an answer.
 * @param {number} status
 * @param {string} text
 * @returns {Refused | ServerAway}
 */
export function failure(status, text) {
  const problem = problemOf(text);
  const message = explained(problem) || `The server answered ${status}.`;
  if (status >= 500) return new ServerAway(message, { problem });
  const kind = BY_CODE[problem.code ?? ""] ?? BY_STATUS[status] ?? Refused;
  return new kind(message, { status, problem });
}

/**
 * @param {string} text
 * @returns {Partial<Problem>}
 */
function problemOf(text) {
  try {
    const problem = JSON.parse(text);
    return problem && typeof problem === "object" && !Array.isArray(problem) ? problem : {};
  } catch {
    return {}; // a proxy's own page
  }
}

/** @param {Partial<Problem>} problem */
function explained({ code, detail, errors = [] }) {
  if (!code || !detail) return "";
  const places = errors.map((error) => `  ${error.pointer}${error.detail === detail ? "" : `: ${error.detail}`}`);
  return [`${code}: ${detail}`, ...places].join("\n");
}

/**
 * Whether the same request may succeed later.
 * @param {number} status
 * @param {string} code
 * @returns {boolean}
 */
export function mayPass(status, code) {
  return PASSING.includes(status) || (status === 409 && code === IN_FLIGHT);
}

/**
 * Throw if a download differs from what the server has stored.
 * @param {Result} result
 * @param {string} sha256 of the download
 * @throws {DownloadFailed} the checksum is wrong.
 */
export function check(result, sha256) {
  if (sha256 !== result.sha256) {
    throw new DownloadFailed(`${result.name}: the download differs from what the server has stored`);
  }
}

/**
 * @param {Job} job
 * @returns {boolean}
 */
export function isOpen(job) {
  return job.status === "pending" || job.status === "processing";
}

// -- time -------------------------------------------------------------------------------------------------------------

/** When to send a request again. */
export class Tries {
  #left;
  #pause = FIRST_PAUSE;

  /** @param {number} patience seconds */
  constructor(patience) {
    this.#left = patience;
  }

  /**
   * Seconds until the next try; undefined: the patience is used up.
   * @param {string | null} [asked] `Retry-After` of the answer
   * @returns {number | undefined}
   */
  pause(asked) {
    const least = /^\d+$/.test(asked ?? "") ? Number(asked) : 0;
    const pause = Math.max(least, this.#pause * (0.5 + Math.random() / 2));
    this.#pause = Math.min(2 * this.#pause, LONGEST_PAUSE);
    if (pause > this.#left) return undefined;
    this.#left -= pause;
    return pause;
  }
}

/** A signal that is aborted after some time, or when another signal is. */
export class Limit {
  #controller = new AbortController();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #seconds;
  #signals;
  /** Whether the time is over. */
  isOver = false;

  /**
   * @param {number} seconds may be `Infinity`
   * @param {(AbortSignal | undefined)[]} signals further signals that abort this one
   */
  constructor(seconds, signals) {
    this.#seconds = seconds;
    this.#signals = signals.filter((signal) => signal !== undefined);
    for (const signal of this.#signals) {
      if (signal.aborted) this.#controller.abort(signal.reason);
      signal.addEventListener("abort", this.#follow);
    }
    this.restart();
  }

  /** @returns {AbortSignal} */
  get signal() {
    return this.#controller.signal;
  }

  /** Start the time again. */
  restart() {
    clearTimeout(this.#timer);
    if (this.#seconds === Infinity) return;
    this.#timer = setTimeout(() => {
      this.isOver = true;
      this.#controller.abort(new ServerAway(`nothing came for ${this.#seconds} seconds`));
    }, this.#seconds * 1000);
  }

  /** Stop the time. */
  clear() {
    clearTimeout(this.#timer);
    for (const signal of this.#signals) signal.removeEventListener("abort", this.#follow);
  }

  /** @param {Event} event */
  #follow = ({ target }) => this.#controller.abort(/** @type {AbortSignal} */ (target).reason);
}

/**
 * @param {number} seconds
 * @param {AbortSignal} [signal] ends the pause, which throws its reason
 * @returns {Promise<void>}
 */
export function sleep(seconds, signal) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, seconds * 1000);
    signal?.addEventListener("abort", stop, { once: true });
  });
}

// -- streams ----------------------------------------------------------------------------------------------------------

/** Lines of a text that comes in pieces. */
export class Lines {
  #rest = "";

  /**
   * The lines that are complete after this piece.
   * @param {string} text
   * @returns {string[]}
   */
  feed(text) {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    return lines.map((line) => line.replace(/\r$/, ""));
  }
}

/** Server-sent events of a text that comes in pieces. */
export class EventParser {
  #lines = new Lines();
  #name = "";
  /** @type {string[]} */
  #data = [];
  /**
   * Id of the last event, including events without data.
   * @type {string | undefined}
   */
  lastId;

  /** @param {string} [lastId] id of the event after which to begin */
  constructor(lastId) {
    this.lastId = lastId;
  }

  /**
   * The events that are complete after this piece.
   * @param {string} text
   * @returns {{ name: string, data: any }[]}
   */
  feed(text) {
    return this.#lines.feed(text).flatMap((line) => this.#take(line));
  }

  /** @param {string} line */
  #take(line) {
    if (!line) return this.#end();
    const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line) ?? [];
    if (name === "id") this.lastId = value;
    else if (name === "event") this.#name = value ?? "";
    else if (name === "data") this.#data.push(value ?? "");
    return [];
  }

  #end() {
    const [name, data] = [this.#name || "message", this.#data];
    this.#name = "";
    this.#data = [];
    return data.length ? [{ name, data: JSON.parse(data.join("\n")) }] : [];
  }
}
