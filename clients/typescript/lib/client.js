// The client for every platform with `fetch`, such as browsers and Node.

import {
  ClientError,
  DownloadFailed,
  JobFailed,
  JobNotFound,
  LimitReached,
  NotFound,
  Refused,
  ServerAway,
  WaitTimeout,
} from "./errors.js";
import * as protocol from "./protocol.js";
import { EventParser, Limit, Lines, Tries } from "./protocol.js";

/** @import { Routes } from "../api.js" */
/** @import {
 *   Abortable, Asset, AuditFilters, Bytes, ClientOptions, Delivery, DeliveryFilters, DeliveryWithAttempts, Endpoint,
 *   EndpointChange, Event, EventFilters, FactsSource, Job, JobFilters, Key, NewEndpoint, NewKey, NewStore, NewTemplate,
 *   Operations, Plan, PlanOptions, ReplayRequest, Result, RunOptions, Scopes, Sink, Source, Store,
 *   SubmitOptions, Template, TemplateSummary, UsageFilters, WaitOptions
 * } from "../types.js"
 */

/** @typedef {"GET /jobs" | "GET /deliveries" | "GET /dead-letters" | "GET /usage"} Listing */

/**
 * @typedef {object} Sending
 * @property {Record<string, string>} [headers]
 * @property {BodyInit} [body] instead of JSON
 * @property {boolean} [repeatable] whether the request may be sent twice; default: true, except for a POST
 * @property {number} [timeoutSeconds]
 * @property {AbortSignal | undefined} [signal]
 */

/** Talks to one PixTools server. */
export class Client {
  /**
   * Address of the server.
   * @readonly
   * @type {string}
   */
  server;
  #patience;
  #onRetry;
  #fetch;
  /**
   * Headers of requests to the server itself; other servers, to which its links may lead, do not get the key.
   * @type {Record<string, string>}
   */
  #own;

  /**
   * Makes a client, without a request yet.
   * @param {string | URL} [server] address of the server; default: in a browser the page's own server
   * @param {ClientOptions} [options]
   */
  constructor(server = globalThis.location?.origin, options = {}) {
    const { key, patienceSeconds = protocol.PATIENCE, onRetry } = options;
    if (!server) throw new Refused("The address of the server is missing.");
    this.server = String(server).replace(/\/+$/, "");
    this.#patience = patienceSeconds;
    this.#onRetry = onRetry;
    this.#fetch = options.fetch ?? globalThis.fetch.bind(globalThis);
    this.#own = key ? { Authorization: `Bearer ${key}` } : {};
  }

  // -- requests -------------------------------------------------------------------------------------------------------

  /**
   * Make one request; returns the decoded answer, or undefined if it has no body.
   * @template {keyof Routes} R
   * @param {R} route such as `GET /jobs/{job_id}`
   * @param {Pick<Routes[R], "path" | "query" | "json">} ask values for the path, the query and the body
   * @param {Sending} [sending]
   * @returns {Promise<Routes[R]["answer"]>}
   * @throws {Refused} the server refuses the request.
   * @throws {ServerAway} the server does not answer, or cannot at the moment.
   */
  async call(route, ask, sending = {}) {
    const { path, query, json } = /** @type {{ path?: any, query?: any, json?: unknown }} */ (ask);
    const [method = "", template = ""] = route.split(" ");
    const url = protocol.addressOf(this.server, template, path, query);
    const headers = protocol.headersOf({ ...this.#own, ...sending.headers });
    if (json !== undefined) headers.set("Content-Type", "application/json");
    const body = json === undefined ? sending.body : JSON.stringify(json);
    const tries = new Tries((sending.repeatable ?? method !== "POST") ? this.#patience : 0);
    for (;;) {
      const text = await this.#try(url, { method, headers, body }, tries, sending);
      if (text !== undefined) return this.#decoded(text);
    }
  }

  /**
   * The text of the answer; undefined: try again.
   * @param {URL} url
   * @param {RequestInit} request
   * @param {Tries} tries
   * @param {Sending} sending
   */
  async #try(url, request, tries, { timeoutSeconds = protocol.TIMEOUT, signal }) {
    const limit = new Limit(timeoutSeconds, [signal]);
    let response, text;
    try {
      response = await this.#fetch(url, { ...request, signal: limit.signal });
      text = await response.text();
    } catch (error) {
      await this.#later(tries, this.#away(error, limit), signal);
      return undefined;
    } finally {
      limit.clear();
    }
    if (response.ok) return text;
    const error = protocol.failure(response.status, text);
    if (!protocol.mayPass(response.status, error.code)) throw error;
    await this.#later(tries, error, signal, response.headers.get("Retry-After"));
    return undefined;
  }

  /** @param {string} text */
  #decoded(text) {
    try {
      return text ? JSON.parse(text) : undefined;
    } catch (cause) {
      throw new ServerAway(`${this.server} does not answer as PixTools does: ${text.slice(0, 80)}`, { cause });
    }
  }

  /**
   * The error for a request that broke off.
   * @param {unknown} error
   * @param {Limit} limit
   * @returns {ServerAway}
   * @throws the signal's reason, if the caller has ended the request.
   */
  #away(error, limit) {
    if (limit.signal.aborted && !limit.isOver) throw limit.signal.reason;
    const cause = /** @type {Error} */ (limit.isOver ? limit.signal.reason : error);
    const said = cause.cause instanceof Error ? cause.cause.message || cause.message : cause.message;
    return new ServerAway(`${this.server} does not answer: ${said}`, { cause });
  }

  /**
   * Wait until the next try.
   * @param {Tries} tries
   * @param {ClientError} error error to throw when the patience is used up
   * @param {AbortSignal} [signal]
   * @param {string | null} [asked] `Retry-After`
   */
  async #later(tries, error, signal, asked) {
    const pause = tries.pause(asked);
    if (pause === undefined) throw error;
    this.#onRetry?.(error, pause);
    await protocol.sleep(pause, signal);
  }

  /**
   * The entries of a list, page by page, up to `limit`.
   * @template {Listing} R
   * @param {R} route
   * @param {Routes[R]["query"]} query
   * @returns {AsyncGenerator<Routes[R]["answer"]["data"][number], void, void>}
   */
  async *#pages(route, query) {
    let left = query?.limit ?? Infinity;
    /** @type {string | null} */
    let cursor = null;
    while (left > 0) {
      /** @type {any} */
      const ask = { query: { ...query, limit: Math.min(left, protocol.MAX_PAGE), cursor } };
      const page = await this.call(route, ask);
      yield* page.data;
      if (!page.has_more) return;
      left -= page.data.length;
      cursor = page.next_cursor;
    }
  }

  /**
   * The text of an answer, piece by piece as it arrives.
   * @param {URL} url
   * @param {Record<string, string>} headers
   * @param {AbortSignal} [signal]
   * @throws {ServerAway} the connection broke off.
   */
  async *#text(url, headers, signal) {
    const limit = new Limit(protocol.MOST_SILENT, [signal]);
    let reader;
    try {
      const response = await this.#fetch(url, { headers: { ...this.#own, ...headers }, signal: limit.signal });
      if (!response.ok) throw protocol.failure(response.status, await response.text());
      reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = (await reader?.read()) ?? { done: true };
        if (done) return;
        limit.restart();
        yield value ?? "";
      }
    } catch (error) {
      throw error instanceof ClientError ? error : this.#away(error, limit);
    } finally {
      limit.clear();
      await reader?.cancel().catch(() => undefined); // a lost connection has nothing left to close
    }
  }

  /**
   * The server-sent events of a stream, until the server ends it.
   * @param {URL} url
   * @param {EventParser} parser
   * @param {AbortSignal} [signal]
   */
  async *#stream(url, parser, signal) {
    /** @type {Record<string, string>} */
    const behind = parser.lastId === undefined ? {} : { "Last-Event-ID": parser.lastId };
    for await (const text of this.#text(url, { Accept: "text/event-stream", ...behind }, signal)) {
      yield* parser.feed(text);
    }
  }

  // -- jobs -----------------------------------------------------------------------------------------------------------

  /**
   * Send an image, or a reference to one that the server fetches; returns the accepted job.
   * @param {Source} source a file, a blob, bytes or a stream; or an image that the server fetches: a URL,
   *   `{ url, headers }`, `{ store, key }`, `{ job, result }`
   * @param {Operations | SubmitOptions} what the operations, or options with a `template`
   * @param {SubmitOptions} [options] further fields of the request, with the names of the API
   * @returns {Promise<Job>}
   * @throws {Refused} the server refuses the request.
   * @throws {ServerAway} the server does not answer, or cannot at the moment.
   */
  async submit(source, what, options) {
    const { idempotencyKey, ...rest } = protocol.optionsOf(what, options);
    const headers = { "Idempotency-Key": idempotencyKey ?? protocol.newId() };
    return this.#order("POST /process", source, rest, headers);
  }

  /**
   * What a request would do and cost; no job is made, and nothing is fetched.
   * @param {Source | FactsSource} source as for `submit`, or `{ facts: { format, width, height, bytes } }` of an image
   *   that is not sent
   * @param {Operations | PlanOptions} what as for `submit`
   * @param {PlanOptions} [options] as for `submit`
   * @returns {Promise<Plan>}
   * @throws {Refused} `submit` would be refused too; `errors` has every mistake.
   */
  async plan(source, what, options) {
    return this.#order("POST /plan", source, protocol.optionsOf(what, options), {});
  }

  /**
   * Send an image and its operations: as a form, or as JSON if the server fetches the image.
   * @template {"POST /process" | "POST /plan"} R
   * @param {R} route
   * @param {Source | FactsSource} source
   * @param {PlanOptions} options
   * @param {Record<string, string>} headers
   * @returns {Promise<Routes[R]["answer"]>}
   */
  async #order(route, source, { operations, filename, signal, ...order }, headers) {
    const remote = protocol.elsewhere(source);
    if (remote) {
      const json = protocol.bodyOf(remote, operations, { ...order, filename });
      return this.call(route, /** @type {any} */ ({ json }), { headers, signal, repeatable: true });
    }
    const blob = await this._open(/** @type {Bytes | string} */ (source));
    const body = protocol.formOf(blob, filename ?? protocol.nameOf(blob), operations, order);
    const timeoutSeconds = protocol.UPLOAD_TIMEOUT;
    return this.call(route, /** @type {any} */ ({}), { headers, signal, body, timeoutSeconds, repeatable: true });
  }

  /**
   * The content of an image to send.
   * @protected
   * @param {Bytes | string} source
   * @returns {Promise<Blob>}
   */
  async _open(source) {
    return protocol.blobOf(source);
  }

  /**
   * Send an image, or a reference to one that the server fetches, and wait for its results.
   * @param {Source} source as for `submit`
   * @param {Operations | RunOptions} what as for `submit`
   * @param {RunOptions} [options] as for `submit` and `wait`
   * @returns {Promise<Job>}
   * @throws {JobFailed} the job ended without all of its results.
   * @throws {WaitTimeout} the job has not ended in time.
   */
  async run(source, what, options) {
    const { timeoutSeconds, ...rest } = protocol.optionsOf(what, options);
    const job = await this.wait(await this.submit(source, rest), { timeoutSeconds, signal: rest.signal });
    if (job.status !== "completed") throw new JobFailed(job);
    return job;
  }

  /**
   * A job as it is now, with fresh links to its results.
   * @param {string} jobId
   * @returns {Promise<Job>}
   * @throws {JobNotFound} there is no job with this id.
   */
  async job(jobId) {
    return this.call("GET /jobs/{job_id}", { path: { job_id: jobId } });
  }

  /**
   * Jobs, newest first, fetched page by page.
   * @param {JobFilters} [filters] `limit` is the largest number of jobs
   * @returns {AsyncGenerator<Job, void, void>}
   */
  jobs(filters) {
    return this.#pages("GET /jobs", protocol.dated(filters));
  }

  /**
   * The job after every change, until it has ended: by live events, or by polling if the server has none.
   * @param {Job | string} job or its id
   * @param {WaitOptions} [options]
   * @returns {AsyncGenerator<Job, void, void>}
   * @throws {WaitTimeout} the job has not ended in time.
   */
  async *follow(job, { timeoutSeconds = Infinity, signal } = {}) {
    const time = new Limit(timeoutSeconds, [signal]);
    const id = typeof job === "string" ? job : job.id;
    let streams = true;
    let tries = new Tries(this.#patience);
    try {
      let latest = typeof job === "string" ? await this.job(job) : job;
      yield latest;
      while (protocol.isOpen(latest)) {
        try {
          for await (latest of streams ? this.#streamed(id, time.signal) : this.#held(id, time.signal)) {
            tries = new Tries(this.#patience);
            yield latest;
          }
        } catch (error) {
          if (time.isOver) throw new WaitTimeout(latest);
          if (error instanceof ServerAway) await this.#later(tries, error, time.signal);
          else if (streams && isNoStream(error)) streams = false;
          else throw error;
        }
      }
    } finally {
      time.clear();
    }
  }

  /**
   * @param {string} id
   * @param {AbortSignal} signal
   */
  async *#streamed(id, signal) {
    const url = protocol.addressOf(this.server, "/jobs/{job_id}/events", { job_id: id });
    for await (const { name, data } of this.#stream(url, new EventParser(), signal)) {
      if (name === "job") yield /** @type {Job} */ (data);
    }
  }

  /**
   * @param {string} id
   * @param {AbortSignal} signal
   */
  async *#held(id, signal) {
    const began = performance.now();
    const headers = { Prefer: `wait=${protocol.HELD}` };
    const timeoutSeconds = protocol.WAITING;
    yield await this.call("GET /jobs/{job_id}", { path: { job_id: id } }, { headers, timeoutSeconds, signal });
    if (performance.now() - began < 1000 * protocol.POLL) await protocol.sleep(protocol.POLL, signal);
  }

  /**
   * The job when it has ended, whether or not it succeeded.
   * @param {Job | string} job or its id
   * @param {WaitOptions} [options]
   * @returns {Promise<Job>}
   * @throws {WaitTimeout} the job has not ended in time; it goes on.
   */
  async wait(job, options) {
    for await (const latest of this.follow(job, options)) {
      if (!protocol.isOpen(latest)) return latest;
    }
    throw new ServerAway(`${this.server} no longer reports the job`);
  }

  /**
   * End a job now; its results so far are kept.
   * @param {string} jobId
   * @returns {Promise<Job>}
   */
  async cancel(jobId) {
    return this.call("POST /jobs/{job_id}/cancel", { path: { job_id: jobId } }, { repeatable: true });
  }

  /**
   * Repeat the steps that failed, were skipped or were cancelled.
   * @param {string} jobId
   * @returns {Promise<Job>}
   */
  async retry(jobId) {
    return this.call("POST /jobs/{job_id}/retry", { path: { job_id: jobId } });
  }

  /**
   * Erase a job and all its objects.
   * @param {string} jobId
   * @returns {Promise<void>}
   */
  async delete(jobId) {
    await this.call("DELETE /jobs/{job_id}", { path: { job_id: jobId } });
  }

  /**
   * The timeline of a job in words, one line for each event.
   * @param {string} jobId
   * @returns {Promise<string[]>}
   */
  async timeline(jobId) {
    return (await this.call("GET /jobs/{job_id}/timeline", { path: { job_id: jobId } })).lines;
  }

  // -- results --------------------------------------------------------------------------------------------------------

  /**
   * The content of one result. Its checksum is checked if there is WebCrypto, which in browsers needs TLS.
   * @param {Result} result of a job
   * @param {Abortable} [options]
   * @returns {Promise<Blob>}
   * @throws {DownloadFailed} the result cannot be fetched, or its checksum is wrong.
   */
  async read(result, { signal } = {}) {
    const parts = new Parts();
    await this._fetch(result, parts, signal);
    const content = new Blob(parts.chunks, { type: result.content_type });
    const digest = await crypto.subtle?.digest("SHA-256", await content.arrayBuffer());
    if (digest) protocol.check(result, protocol.hex(new Uint8Array(digest)));
    return content;
  }

  /**
   * All results of a job as one ZIP.
   * @param {string} jobId
   * @param {Abortable} [options]
   * @returns {Promise<Blob>}
   * @throws {DownloadFailed} the archive cannot be fetched.
   */
  async readArchive(jobId, { signal } = {}) {
    const parts = new Parts();
    await this._fetchArchive(jobId, parts, signal);
    return new Blob(parts.chunks, { type: "application/zip" });
  }

  /**
   * @protected
   * @param {Result} result
   * @param {Sink} sink
   * @param {AbortSignal} [signal]
   */
  async _fetch({ name, url }, sink, signal) {
    await this.#download(name, new URL(url), {}, sink, signal);
  }

  /**
   * @protected
   * @param {string} jobId
   * @param {Sink} sink
   * @param {AbortSignal} [signal]
   */
  async _fetchArchive(jobId, sink, signal) {
    const url = protocol.addressOf(this.server, "/jobs/{job_id}/archive", { job_id: jobId });
    await this.#download(`job ${jobId}`, url, this.#own, sink, signal);
  }

  /**
   * @param {string} name for messages
   * @param {URL} url
   * @param {Record<string, string>} headers
   * @param {Sink} sink
   * @param {AbortSignal} [signal]
   */
  async #download(name, url, headers, sink, signal) {
    const tries = new Tries(this.#patience);
    for (;;) {
      await sink.restart();
      try {
        return await this.#downloadOnce(url, headers, sink, signal);
      } catch (error) {
        if (error instanceof Refused) throw new DownloadFailed(`${name}: ${error.message}`, { cause: error });
        if (!(error instanceof ServerAway)) throw error;
        const failed = new DownloadFailed(`${name}: ${error.message}`, { cause: error });
        await this.#later(tries, failed, signal);
      }
    }
  }

  /**
   * @param {URL} url
   * @param {Record<string, string>} headers
   * @param {Sink} sink
   * @param {AbortSignal} [signal]
   */
  async #downloadOnce(url, headers, sink, signal) {
    const limit = new Limit(protocol.TIMEOUT, [signal]);
    try {
      const response = await this.#fetch(url, { headers, signal: limit.signal });
      if (!response.ok) throw protocol.failure(response.status, await response.text());
      const reader = response.body?.getReader();
      for (;;) {
        const { done, value } = (await reader?.read()) ?? { done: true };
        if (done) return;
        limit.restart();
        if (value) await sink.write(value);
      }
    } catch (error) {
      throw error instanceof ClientError ? error : this.#away(error, limit);
    } finally {
      limit.clear();
    }
  }

  // -- events ---------------------------------------------------------------------------------------------------------

  /**
   * The stored events, oldest first, up to the end of the log.
   * @param {EventFilters} [filters]
   * @returns {AsyncGenerator<Event, void, void>}
   */
  async *events({ after = "0", type } = {}) {
    for (;;) {
      const page = await this.call("GET /events", { query: { after, type, limit: protocol.MAX_PAGE } });
      yield* page.data;
      if (!page.has_more) return;
      after = page.next_after;
    }
  }

  /**
   * Events as they happen, without end. The iterator waits for a server that restarts, and misses no event.
   * @param {EventFilters & Abortable} [options] without `after`: only new events
   * @returns {AsyncGenerator<Event, void, void>}
   */
  async *liveEvents({ after, type, signal } = {}) {
    const url = protocol.addressOf(this.server, "/events/stream", {}, { type });
    const parser = new EventParser(after);
    let tries = new Tries(this.#patience);
    for (;;) {
      try {
        for await (const { data } of this.#stream(url, parser, signal)) {
          tries = new Tries(this.#patience);
          yield /** @type {Event} */ (data);
        }
      } catch (error) {
        if (!(error instanceof ServerAway)) throw error;
        await this.#later(tries, error, signal);
      }
    }
  }

  // -- webhooks -------------------------------------------------------------------------------------------------------

  /**
   * All receivers.
   * @returns {Promise<Endpoint[]>}
   */
  async webhooks() {
    return (await this.call("GET /webhooks", {})).data;
  }

  /**
   * Register a receiver; the answer has its `secret`, which is shown only once.
   * @param {string} url
   * @param {NewEndpoint} [options]
   */
  async createWebhook(url, options) {
    return this.call("POST /webhooks", { json: { url, ...options } });
  }

  /**
   * @param {string} endpointId
   * @param {EndpointChange} changes
   * @returns {Promise<Endpoint>}
   */
  async updateWebhook(endpointId, changes) {
    return this.call("PATCH /webhooks/{endpoint_id}", { path: { endpoint_id: endpointId }, json: changes });
  }

  /**
   * Delete a receiver with its deliveries.
   * @param {string} endpointId
   * @returns {Promise<void>}
   */
  async deleteWebhook(endpointId) {
    await this.call("DELETE /webhooks/{endpoint_id}", { path: { endpoint_id: endpointId } });
  }

  /**
   * Give a receiver a new secret; for `overlap_seconds`, by default a day, the old one signs as well.
   * @param {string} endpointId
   * @param {{ overlap_seconds?: number }} [options]
   * @returns {Promise<string>}
   */
  async rotateWebhook(endpointId, options = {}) {
    const ask = { path: { endpoint_id: endpointId }, json: options };
    return (await this.call("POST /webhooks/{endpoint_id}/rotate", ask)).secret;
  }

  /**
   * Send an event of type `webhook.test`.
   * @param {string} endpointId
   */
  async testWebhook(endpointId) {
    return this.call("POST /webhooks/{endpoint_id}/test", { path: { endpoint_id: endpointId } });
  }

  /**
   * Send all events of a period again.
   * @param {string} endpointId
   * @param {ReplayRequest} times
   */
  async replayWebhook(endpointId, times) {
    const ask = { path: { endpoint_id: endpointId }, json: protocol.dated(times) };
    return this.call("POST /webhooks/{endpoint_id}/replay", ask);
  }

  /**
   * Replays of a receiver, newest first.
   * @param {string} endpointId
   */
  async replays(endpointId) {
    return (await this.call("GET /webhooks/{endpoint_id}/replays", { path: { endpoint_id: endpointId } })).data;
  }

  /**
   * Deliveries to receivers, newest first.
   * @param {DeliveryFilters} [filters]
   * @returns {AsyncGenerator<Delivery, void, void>}
   */
  deliveries(filters) {
    return this.#pages("GET /deliveries", filters);
  }

  /**
   * One delivery with its attempts.
   * @param {string} deliveryId
   * @returns {Promise<DeliveryWithAttempts>}
   */
  async delivery(deliveryId) {
    return this.call("GET /deliveries/{delivery_id}", { path: { delivery_id: deliveryId } });
  }

  /**
   * Send one event again.
   * @param {string} deliveryId
   * @returns {Promise<Delivery>}
   */
  async replayDelivery(deliveryId) {
    return this.call("POST /deliveries/{delivery_id}/replay", { path: { delivery_id: deliveryId } });
  }

  // -- assets ---------------------------------------------------------------------------------------------------------

  /**
   * All images and fonts that trees can use.
   * @returns {Promise<Asset[]>}
   */
  async assets() {
    return (await this.call("GET /assets", {})).data;
  }

  /**
   * The properties of an image or a font.
   * @param {string} name
   * @returns {Promise<Asset>}
   */
  async asset(name) {
    return this.call("GET /assets/{asset_name}", { path: { asset_name: name } });
  }

  /**
   * Store an image or a font, or replace it.
   * @param {string} name
   * @param {Bytes} content
   * @returns {Promise<Asset>}
   * @throws {Refused} the content is neither an image nor a font, or exceeds a limit.
   */
  async putAsset(name, content) {
    const body = await protocol.blobOf(content);
    return this.call(
      "PUT /assets/{asset_name}",
      { path: { asset_name: name } },
      { body, timeoutSeconds: protocol.UPLOAD_TIMEOUT },
    );
  }

  /**
   * Delete an image or a font; refused while an unfinished job uses it.
   * @param {string} name
   * @returns {Promise<void>}
   */
  async deleteAsset(name) {
    await this.call("DELETE /assets/{asset_name}", { path: { asset_name: name } });
  }

  // -- templates and stores -------------------------------------------------------------------------------------------

  /**
   * The latest version of each template, without its tree.
   * @returns {Promise<TemplateSummary[]>}
   */
  async templates() {
    return (await this.call("GET /templates", {})).data;
  }

  /**
   * A template, or one version of it: `shop@2`.
   * @param {string} name
   * @returns {Promise<Template>}
   */
  async template(name) {
    return this.call("GET /templates/{template_name}", { path: { template_name: name } });
  }

  /**
   * Store a template, or a new version of one, unless it is equal to the latest version.
   * @param {string} name name in requests
   * @param {string | readonly unknown[]} operations the tree, in which `{ param: "width" }` stands for a whole value
   * @param {NewTemplate} [options] `params`: JSON schema of the parameters; `output`: a store for the results
   * @returns {Promise<Template>}
   * @throws {Invalid} the template cannot work; `errors` says where.
   * @throws {Conflict} a built-in template has this name.
   */
  async putTemplate(name, operations, options) {
    const json = { operations: protocol.nodesOf(operations), ...options };
    return this.call("PUT /templates/{template_name}", { path: { template_name: name }, json });
  }

  /**
   * Delete a template with all its versions.
   * @param {string} name
   * @returns {Promise<void>}
   */
  async deleteTemplate(name) {
    await this.call("DELETE /templates/{template_name}", { path: { template_name: name } });
  }

  /**
   * All connections to buckets.
   * @returns {Promise<Store[]>}
   */
  async stores() {
    return (await this.call("GET /stores", {})).data;
  }

  /**
   * A connection to a bucket, without its credentials.
   * @param {string} name
   * @returns {Promise<Store>}
   */
  async store(name) {
    return this.call("GET /stores/{store}", { path: { store: name } });
  }

  /**
   * Save a connection to a bucket, or change it; the server tries it at once.
   * @param {string} name name in requests
   * @param {NewStore} connection
   * @returns {Promise<Store>}
   * @throws {Invalid} the bucket does not exist, or these credentials do not give access to it.
   */
  async putStore(name, connection) {
    return this.call("PUT /stores/{store}", { path: { store: name }, json: connection });
  }

  /**
   * Delete a connection; the bucket stays as it is.
   * @param {string} name
   * @returns {Promise<void>}
   */
  async deleteStore(name) {
    await this.call("DELETE /stores/{store}", { path: { store: name } });
  }

  // -- keys and accounts ----------------------------------------------------------------------------------------------

  /**
   * All keys of the tenant.
   * @param {{ tenant?: string }} [filters]
   * @returns {Promise<Key[]>}
   */
  async keys(filters = {}) {
    return (await this.call("GET /keys", { query: filters })).data;
  }

  /**
   * Make a key; the answer has its text as `key`, which is shown only once.
   * @param {Scopes} scopes what the key may do
   * @param {NewKey} [options]
   */
  async createKey(scopes, options) {
    return this.call("POST /keys", { json: { scopes, ...options } });
  }

  /**
   * Revoke a key.
   * @param {string} keyId
   * @returns {Promise<void>}
   */
  async revokeKey(keyId) {
    await this.call("DELETE /keys/{key_id}", { path: { key_id: keyId } });
  }

  /**
   * Usage by day, key and template; days are texts like `2026-11-29`.
   * @param {UsageFilters} [filters]
   */
  usage(filters) {
    return this.#pages("GET /usage", filters);
  }

  /**
   * The audit log, oldest first.
   * @param {AuditFilters & Abortable} [filters]
   * @returns {AsyncGenerator<Record<string, unknown>, void, void>}
   */
  async *audit({ signal, ...filters } = {}) {
    const lines = new Lines();
    for await (const text of this.#text(protocol.addressOf(this.server, "/audit", {}, filters), {}, signal)) {
      for (const line of lines.feed(text)) if (line) yield JSON.parse(line);
    }
  }

  // -- the operator's -------------------------------------------------------------------------------------------------

  /** All tenants; needs the scope `admin`. */
  async tenants() {
    return (await this.call("GET /tenants", {})).data;
  }

  /**
   * Work that was given up, newest first.
   * @param {{ limit?: number }} [options]
   */
  deadLetters(options) {
    return this.#pages("GET /dead-letters", options);
  }

  /**
   * Redrive a dead letter: run its work again.
   * @param {string} letterId
   */
  async redrive(letterId) {
    return this.call("POST /dead-letters/{letter_id}/redrive", { path: { letter_id: letterId } });
  }

  /** All operations, each with the JSON schema of its parameters. */
  async operations() {
    return (await this.call("GET /operations", {})).operations;
  }

  /** Check that the server answers at all; throw if it does not. */
  async live() {
    await this.call("GET /health/live", {});
  }

  /** Whether the server can take work. */
  async health() {
    return this.call("GET /health/ready", {});
  }

  /**
   * The state of every part of the service, by name; needs a key with the scope `admin`.
   * @returns {Promise<import("../api.js").HealthView["checks"]>}
   */
  async checks() {
    try {
      return (await this.call("GET /health", {})).checks;
    } catch (error) {
      const body = error instanceof ServerAway ? /** @type {Record<string, any>} */ (error.problem) : {};
      if (body.checks) return body.checks; // the answer of a service that is down
      throw error;
    }
  }
}

/** A download in memory. */
class Parts {
  /** @type {BlobPart[]} */
  chunks = [];

  restart() {
    this.chunks = [];
  }

  /** @param {Uint8Array} chunk */
  write(chunk) {
    this.chunks.push(/** @type {BlobPart} */ (chunk));
  }
}

/**
 * Whether a server refuses the stream but not the job: an older server, or one at its limit of streams.
 * @param {unknown} error
 */
function isNoStream(error) {
  return error instanceof LimitReached || (error instanceof NotFound && !(error instanceof JobNotFound));
}
