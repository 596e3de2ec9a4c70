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
     * Makes a client, without a request yet.
     * @param {string | URL} [server] address of the server; default: in a browser the page's own server
     * @param {ClientOptions} [options]
     */
    constructor(server?: string | URL, options?: ClientOptions);
    /**
     * Address of the server.
     * @readonly
     * @type {string}
     */
    readonly server: string;
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
    call<R extends keyof Routes>(route: R, ask: Pick<Routes[R], "path" | "query" | "json">, sending?: Sending): Promise<Routes[R]["answer"]>;
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
    submit(source: Source, what: Operations | SubmitOptions, options?: SubmitOptions): Promise<Job>;
    /**
     * What a request would do and cost; no job is made, and nothing is fetched.
     * @param {Source | FactsSource} source as for `submit`, or `{ facts: { format, width, height, bytes } }` of an image
     *   that is not sent
     * @param {Operations | PlanOptions} what as for `submit`
     * @param {PlanOptions} [options] as for `submit`
     * @returns {Promise<Plan>}
     * @throws {Refused} `submit` would be refused too; `errors` has every mistake.
     */
    plan(source: Source | FactsSource, what: Operations | PlanOptions, options?: PlanOptions): Promise<Plan>;
    /**
     * The content of an image to send.
     * @protected
     * @param {Bytes | string} source
     * @returns {Promise<Blob>}
     */
    protected _open(source: Bytes | string): Promise<Blob>;
    /**
     * Send an image, or a reference to one that the server fetches, and wait for its results.
     * @param {Source} source as for `submit`
     * @param {Operations | RunOptions} what as for `submit`
     * @param {RunOptions} [options] as for `submit` and `wait`
     * @returns {Promise<Job>}
     * @throws {JobFailed} the job ended without all of its results.
     * @throws {WaitTimeout} the job has not ended in time.
     */
    run(source: Source, what: Operations | RunOptions, options?: RunOptions): Promise<Job>;
    /**
     * A job as it is now, with fresh links to its results.
     * @param {string} jobId
     * @returns {Promise<Job>}
     * @throws {JobNotFound} there is no job with this id.
     */
    job(jobId: string): Promise<Job>;
    /**
     * Jobs, newest first, fetched page by page.
     * @param {JobFilters} [filters] `limit` is the largest number of jobs
     * @returns {AsyncGenerator<Job, void, void>}
     */
    jobs(filters?: JobFilters): AsyncGenerator<Job, void, void>;
    /**
     * The job after every change, until it has ended: by live events, or by polling if the server has none.
     * @param {Job | string} job or its id
     * @param {WaitOptions} [options]
     * @returns {AsyncGenerator<Job, void, void>}
     * @throws {WaitTimeout} the job has not ended in time.
     */
    follow(job: Job | string, { timeoutSeconds, signal }?: WaitOptions): AsyncGenerator<Job, void, void>;
    /**
     * The job when it has ended, whether or not it succeeded.
     * @param {Job | string} job or its id
     * @param {WaitOptions} [options]
     * @returns {Promise<Job>}
     * @throws {WaitTimeout} the job has not ended in time; it goes on.
     */
    wait(job: Job | string, options?: WaitOptions): Promise<Job>;
    /**
     * End a job now; its results so far are kept.
     * @param {string} jobId
     * @returns {Promise<Job>}
     */
    cancel(jobId: string): Promise<Job>;
    /**
     * Repeat the steps that failed, were skipped or were cancelled.
     * @param {string} jobId
     * @returns {Promise<Job>}
     */
    retry(jobId: string): Promise<Job>;
    /**
     * Erase a job and all its objects.
     * @param {string} jobId
     * @returns {Promise<void>}
     */
    delete(jobId: string): Promise<void>;
    /**
     * The timeline of a job in words, one line for each event.
     * @param {string} jobId
     * @returns {Promise<string[]>}
     */
    timeline(jobId: string): Promise<string[]>;
    /**
     * The content of one result. Its checksum is checked if there is WebCrypto, which in browsers needs TLS.
     * @param {Result} result of a job
     * @param {Abortable} [options]
     * @returns {Promise<Blob>}
     * @throws {DownloadFailed} the result cannot be fetched, or its checksum is wrong.
     */
    read(result: Result, { signal }?: Abortable): Promise<Blob>;
    /**
     * All results of a job as one ZIP.
     * @param {string} jobId
     * @param {Abortable} [options]
     * @returns {Promise<Blob>}
     * @throws {DownloadFailed} the archive cannot be fetched.
     */
    readArchive(jobId: string, { signal }?: Abortable): Promise<Blob>;
    /**
     * @protected
     * @param {Result} result
     * @param {Sink} sink
     * @param {AbortSignal} [signal]
     */
    protected _fetch({ name, url }: Result, sink: Sink, signal?: AbortSignal): Promise<void>;
    /**
     * @protected
     * @param {string} jobId
     * @param {Sink} sink
     * @param {AbortSignal} [signal]
     */
    protected _fetchArchive(jobId: string, sink: Sink, signal?: AbortSignal): Promise<void>;
    /**
     * The stored events, oldest first, up to the end of the log.
     * @param {EventFilters} [filters]
     * @returns {AsyncGenerator<Event, void, void>}
     */
    events({ after, type }?: EventFilters): AsyncGenerator<Event, void, void>;
    /**
     * Events as they happen, without end. The iterator waits for a server that restarts, and misses no event.
     * @param {EventFilters & Abortable} [options] without `after`: only new events
     * @returns {AsyncGenerator<Event, void, void>}
     */
    liveEvents({ after, type, signal }?: EventFilters & Abortable): AsyncGenerator<Event, void, void>;
    /**
     * All receivers.
     * @returns {Promise<Endpoint[]>}
     */
    webhooks(): Promise<Endpoint[]>;
    /**
     * Register a receiver; the answer has its `secret`, which is shown only once.
     * @param {string} url
     * @param {NewEndpoint} [options]
     */
    createWebhook(url: string, options?: NewEndpoint): Promise<import("../api.js").EndpointWithSecret>;
    /**
     * @param {string} endpointId
     * @param {EndpointChange} changes
     * @returns {Promise<Endpoint>}
     */
    updateWebhook(endpointId: string, changes: EndpointChange): Promise<Endpoint>;
    /**
     * Delete a receiver with its deliveries.
     * @param {string} endpointId
     * @returns {Promise<void>}
     */
    deleteWebhook(endpointId: string): Promise<void>;
    /**
     * Give a receiver a new secret; for `overlap_seconds`, by default a day, the old one signs as well.
     * @param {string} endpointId
     * @param {{ overlap_seconds?: number }} [options]
     * @returns {Promise<string>}
     */
    rotateWebhook(endpointId: string, options?: {
        overlap_seconds?: number;
    }): Promise<string>;
    /**
     * Send an event of type `webhook.test`.
     * @param {string} endpointId
     */
    testWebhook(endpointId: string): Promise<import("../api.js").DeliveryView>;
    /**
     * Send all events of a period again.
     * @param {string} endpointId
     * @param {ReplayRequest} times
     */
    replayWebhook(endpointId: string, times: ReplayRequest): Promise<import("../api.js").ReplayView>;
    /**
     * Replays of a receiver, newest first.
     * @param {string} endpointId
     */
    replays(endpointId: string): Promise<import("../api.js").ReplayView[]>;
    /**
     * Deliveries to receivers, newest first.
     * @param {DeliveryFilters} [filters]
     * @returns {AsyncGenerator<Delivery, void, void>}
     */
    deliveries(filters?: DeliveryFilters): AsyncGenerator<Delivery, void, void>;
    /**
     * One delivery with its attempts.
     * @param {string} deliveryId
     * @returns {Promise<DeliveryWithAttempts>}
     */
    delivery(deliveryId: string): Promise<DeliveryWithAttempts>;
    /**
     * Send one event again.
     * @param {string} deliveryId
     * @returns {Promise<Delivery>}
     */
    replayDelivery(deliveryId: string): Promise<Delivery>;
    /**
     * All images and fonts that trees can use.
     * @returns {Promise<Asset[]>}
     */
    assets(): Promise<Asset[]>;
    /**
     * The properties of an image or a font.
     * @param {string} name
     * @returns {Promise<Asset>}
     */
    asset(name: string): Promise<Asset>;
    /**
     * Store an image or a font, or replace it.
     * @param {string} name
     * @param {Bytes} content
     * @returns {Promise<Asset>}
     * @throws {Refused} the content is neither an image nor a font, or exceeds a limit.
     */
    putAsset(name: string, content: Bytes): Promise<Asset>;
    /**
     * Delete an image or a font; refused while an unfinished job uses it.
     * @param {string} name
     * @returns {Promise<void>}
     */
    deleteAsset(name: string): Promise<void>;
    /**
     * The latest version of each template, without its tree.
     * @returns {Promise<TemplateSummary[]>}
     */
    templates(): Promise<TemplateSummary[]>;
    /**
     * A template, or one version of it: `shop@2`.
     * @param {string} name
     * @returns {Promise<Template>}
     */
    template(name: string): Promise<Template>;
    /**
     * Store a template, or a new version of one, unless it is equal to the latest version.
     * @param {string} name name in requests
     * @param {string | readonly unknown[]} operations the tree, in which `{ param: "width" }` stands for a whole value
     * @param {NewTemplate} [options] `params`: JSON schema of the parameters; `output`: a store for the results
     * @returns {Promise<Template>}
     * @throws {Invalid} the template cannot work; `errors` says where.
     * @throws {Conflict} a built-in template has this name.
     */
    putTemplate(name: string, operations: string | readonly unknown[], options?: NewTemplate): Promise<Template>;
    /**
     * Delete a template with all its versions.
     * @param {string} name
     * @returns {Promise<void>}
     */
    deleteTemplate(name: string): Promise<void>;
    /**
     * All connections to buckets.
     * @returns {Promise<Store[]>}
     */
    stores(): Promise<Store[]>;
    /**
     * A connection to a bucket, without its credentials.
     * @param {string} name
     * @returns {Promise<Store>}
     */
    store(name: string): Promise<Store>;
    /**
     * Save a connection to a bucket, or change it; the server tries it at once.
     * @param {string} name name in requests
     * @param {NewStore} connection
     * @returns {Promise<Store>}
     * @throws {Invalid} the bucket does not exist, or these credentials do not give access to it.
     */
    putStore(name: string, connection: NewStore): Promise<Store>;
    /**
     * Delete a connection; the bucket stays as it is.
     * @param {string} name
     * @returns {Promise<void>}
     */
    deleteStore(name: string): Promise<void>;
    /**
     * All keys of the tenant.
     * @param {{ tenant?: string }} [filters]
     * @returns {Promise<Key[]>}
     */
    keys(filters?: {
        tenant?: string;
    }): Promise<Key[]>;
    /**
     * Make a key; the answer has its text as `key`, which is shown only once.
     * @param {Scopes} scopes what the key may do
     * @param {NewKey} [options]
     */
    createKey(scopes: Scopes, options?: NewKey): Promise<import("../api.js").ApiKeyWithSecret>;
    /**
     * Revoke a key.
     * @param {string} keyId
     * @returns {Promise<void>}
     */
    revokeKey(keyId: string): Promise<void>;
    /**
     * Usage by day, key and template; days are texts like `2026-11-29`.
     * @param {UsageFilters} [filters]
     */
    usage(filters?: UsageFilters): AsyncGenerator<import("../api.js").UsageView, void, void>;
    /**
     * The audit log, oldest first.
     * @param {AuditFilters & Abortable} [filters]
     * @returns {AsyncGenerator<Record<string, unknown>, void, void>}
     */
    audit({ signal, ...filters }?: AuditFilters & Abortable): AsyncGenerator<Record<string, unknown>, void, void>;
    /** All tenants; needs the scope `admin`. */
    tenants(): Promise<import("../api.js").TenantView[]>;
    /**
     * Work that was given up, newest first.
     * @param {{ limit?: number }} [options]
     */
    deadLetters(options?: {
        limit?: number;
    }): AsyncGenerator<import("../api.js").LetterView, void, void>;
    /**
     * Redrive a dead letter: run its work again.
     * @param {string} letterId
     */
    redrive(letterId: string): Promise<import("../api.js").RedriveView>;
    /** All operations, each with the JSON schema of its parameters. */
    operations(): Promise<import("../api.js").OperationView[]>;
    /** Check that the server answers at all; throw if it does not. */
    live(): Promise<void>;
    /** Whether the server can take work. */
    health(): Promise<import("../api.js").Readiness>;
    /**
     * The state of every part of the service, by name; needs a key with the scope `admin`.
     * @returns {Promise<import("../api.js").HealthView["checks"]>}
     */
    checks(): Promise<import("../api.js").HealthView["checks"]>;
    #private;
}
export type Listing = "GET /jobs" | "GET /deliveries" | "GET /dead-letters" | "GET /usage";
export type Sending = {
    headers?: Record<string, string> | undefined;
    /**
     * instead of JSON
     */
    body?: BodyInit | undefined;
    /**
     * whether the request may be sent twice; default: true, except for a POST
     */
    repeatable?: boolean | undefined;
    timeoutSeconds?: number | undefined;
    signal?: AbortSignal | undefined;
};
import type { Routes } from "../api.js";
import type { Source } from "../types.js";
import type { Operations } from "../types.js";
import type { SubmitOptions } from "../types.js";
import type { Job } from "../types.js";
import type { FactsSource } from "../types.js";
import type { PlanOptions } from "../types.js";
import type { Plan } from "../types.js";
import type { Bytes } from "../types.js";
import type { RunOptions } from "../types.js";
import type { JobFilters } from "../types.js";
import type { WaitOptions } from "../types.js";
import type { Result } from "../types.js";
import type { Abortable } from "../types.js";
import type { Sink } from "../types.js";
import type { EventFilters } from "../types.js";
import type { Event } from "../types.js";
import type { Endpoint } from "../types.js";
import type { NewEndpoint } from "../types.js";
import type { EndpointChange } from "../types.js";
import type { ReplayRequest } from "../types.js";
import type { DeliveryFilters } from "../types.js";
import type { Delivery } from "../types.js";
import type { DeliveryWithAttempts } from "../types.js";
import type { Asset } from "../types.js";
import type { TemplateSummary } from "../types.js";
import type { Template } from "../types.js";
import type { NewTemplate } from "../types.js";
import type { Store } from "../types.js";
import type { NewStore } from "../types.js";
import type { Key } from "../types.js";
import type { Scopes } from "../types.js";
import type { NewKey } from "../types.js";
import type { UsageFilters } from "../types.js";
import type { AuditFilters } from "../types.js";
import type { ClientOptions } from "../types.js";
