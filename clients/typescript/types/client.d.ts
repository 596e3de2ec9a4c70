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
 * @property {BodyInit} [body] in the place of JSON
 * @property {boolean} [repeatable] whether it may be sent twice; default: unless it is a POST
 * @property {number} [timeoutSeconds]
 * @property {AbortSignal | undefined} [signal]
 */
/** Talks to one PixTools server. */
export class Client {
    /**
     * Nothing is asked yet.
     * @param {string | URL} [server] its address; default: in a browser the page's own server
     * @param {ClientOptions} [options]
     */
    constructor(server?: string | URL, options?: ClientOptions);
    /**
     * Its address.
     * @readonly
     * @type {string}
     */
    readonly server: string;
    /**
     * One request; the decoded answer, or undefined if there is no body.
     * @template {keyof Routes} R
     * @param {R} route such as `GET /jobs/{job_id}`
     * @param {Pick<Routes[R], "path" | "query" | "json">} ask what is filled in and sent
     * @param {Sending} [sending]
     * @returns {Promise<Routes[R]["answer"]>}
     * @throws {Refused} the server does not take the request.
     * @throws {ServerAway} the server does not answer, or not now.
     */
    call<R extends keyof Routes>(route: R, ask: Pick<Routes[R], "path" | "query" | "json">, sending?: Sending): Promise<Routes[R]["answer"]>;
    /**
     * Send an image, or say where the server finds it; the accepted job.
     * @param {Source} source a file, a blob, bytes or a stream; or what the server fetches: a URL,
     *   `{ url, headers }`, `{ store, key }`, `{ job, result }`
     * @param {Operations | SubmitOptions} what the operations; or the options, with a `template`
     * @param {SubmitOptions} [options] further fields of the request, under the names that they have there
     * @returns {Promise<Job>}
     * @throws {Refused} the server does not take it.
     * @throws {ServerAway} the server does not answer, or not now.
     */
    submit(source: Source, what: Operations | SubmitOptions, options?: SubmitOptions): Promise<Job>;
    /**
     * What a request would do and take; no job is made, and nothing is fetched.
     * @param {Source | FactsSource} source as of `submit`, or `{ facts: { format, width, height, bytes } }` of an image
     *   that is not sent
     * @param {Operations | PlanOptions} what as of `submit`
     * @param {PlanOptions} [options] as of `submit`
     * @returns {Promise<Plan>}
     * @throws {Refused} `submit` would be refused; `errors` has every mistake.
     */
    plan(source: Source | FactsSource, what: Operations | PlanOptions, options?: PlanOptions): Promise<Plan>;
    /**
     * An image that is sent.
     * @protected
     * @param {Bytes | string} source
     * @returns {Promise<Blob>}
     */
    protected _open(source: Bytes | string): Promise<Blob>;
    /**
     * Send an image, or say where the server finds it, and wait for its results.
     * @param {Source} source as of `submit`
     * @param {Operations | RunOptions} what as of `submit`
     * @param {RunOptions} [options] as of `submit` and `wait`
     * @returns {Promise<Job>}
     * @throws {JobFailed} it ended without all its results.
     * @throws {WaitTimeout} it has not ended in time.
     */
    run(source: Source, what: Operations | RunOptions, options?: RunOptions): Promise<Job>;
    /**
     * A job as it is now, with fresh links to its results.
     * @param {string} jobId
     * @returns {Promise<Job>}
     * @throws {JobNotFound} there is none of this id.
     */
    job(jobId: string): Promise<Job>;
    /**
     * Jobs, newest first, as many pages as are needed.
     * @param {JobFilters} [filters] with `limit`: how many at most
     * @returns {AsyncGenerator<Job, void, void>}
     */
    jobs(filters?: JobFilters): AsyncGenerator<Job, void, void>;
    /**
     * The job at every change, until it has ended: by live events, or where there are none by asking again.
     * @param {Job | string} job or its id
     * @param {WaitOptions} [options]
     * @returns {AsyncGenerator<Job, void, void>}
     * @throws {WaitTimeout} the job has not ended in time.
     */
    follow(job: Job | string, { timeoutSeconds, signal }?: WaitOptions): AsyncGenerator<Job, void, void>;
    /**
     * The job when it has ended, however it did.
     * @param {Job | string} job or its id
     * @param {WaitOptions} [options]
     * @returns {Promise<Job>}
     * @throws {WaitTimeout} it has not ended in time; it goes on.
     */
    wait(job: Job | string, options?: WaitOptions): Promise<Job>;
    /**
     * End a job now; results so far stay.
     * @param {string} jobId
     * @returns {Promise<Job>}
     */
    cancel(jobId: string): Promise<Job>;
    /**
     * Repeat what failed.
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
     * What happened to a job, in words, one line each.
     * @param {string} jobId
     * @returns {Promise<string[]>}
     */
    timeline(jobId: string): Promise<string[]>;
    /**
     * The content of one result. It is checked where the page has WebCrypto: in browsers that needs TLS.
     * @param {Result} result of a job
     * @param {Abortable} [options]
     * @returns {Promise<Blob>}
     * @throws {DownloadFailed} it cannot be fetched, or is not what the server has stored.
     */
    read(result: Result, { signal }?: Abortable): Promise<Blob>;
    /**
     * All results of a job as one ZIP.
     * @param {string} jobId
     * @param {Abortable} [options]
     * @returns {Promise<Blob>}
     * @throws {DownloadFailed} it cannot be fetched.
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
     * The stored events, oldest first, to the end of the log.
     * @param {EventFilters} [filters]
     * @returns {AsyncGenerator<Event, void, void>}
     */
    events({ after, type }?: EventFilters): AsyncGenerator<Event, void, void>;
    /**
     * Events as they happen, for ever; a server that restarts is waited for, and nothing is missed meanwhile.
     * @param {EventFilters & Abortable} [options] without `after`: what is yet to come
     * @returns {AsyncGenerator<Event, void, void>}
     */
    liveEvents({ after, type, signal }?: EventFilters & Abortable): AsyncGenerator<Event, void, void>;
    /**
     * Every receiver.
     * @returns {Promise<Endpoint[]>}
     */
    webhooks(): Promise<Endpoint[]>;
    /**
     * Register a receiver; the answer has its `secret`, which is shown only now.
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
     * Remove a receiver with its deliveries.
     * @param {string} endpointId
     * @returns {Promise<void>}
     */
    deleteWebhook(endpointId: string): Promise<void>;
    /**
     * Give a receiver a new secret; the old one signs as well for so long, by default a day.
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
     * Send all events of a time again.
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
     * What was sent to receivers, newest first.
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
     * Every image and font that trees can name.
     * @returns {Promise<Asset[]>}
     */
    assets(): Promise<Asset[]>;
    /**
     * What an image or a font is.
     * @param {string} name
     * @returns {Promise<Asset>}
     */
    asset(name: string): Promise<Asset>;
    /**
     * Store an image or a font, or replace it.
     * @param {string} name
     * @param {Bytes} content
     * @returns {Promise<Asset>}
     * @throws {Refused} it is neither, or exceeds a limit.
     */
    putAsset(name: string, content: Bytes): Promise<Asset>;
    /**
     * Take it away; refused while a job that has not ended uses it.
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
     * A template; `shop@2` is one version of it.
     * @param {string} name
     * @returns {Promise<Template>}
     */
    template(name: string): Promise<Template>;
    /**
     * Store a template, or a new version of it; one that is equal to the latest makes none.
     * @param {string} name in requests
     * @param {string | readonly unknown[]} operations the tree, in which `{ param: "width" }` stands for a whole value
     * @param {NewTemplate} [options] `params`: JSON schema of the parameters; `output`: a store for the results
     * @returns {Promise<Template>}
     * @throws {Invalid} it cannot work; `errors` says where.
     * @throws {Conflict} the name is one of those that come with the server.
     */
    putTemplate(name: string, operations: string | readonly unknown[], options?: NewTemplate): Promise<Template>;
    /**
     * Take a template away with all its versions.
     * @param {string} name
     * @returns {Promise<void>}
     */
    deleteTemplate(name: string): Promise<void>;
    /**
     * Every connection to a bucket.
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
     * Save a connection to a bucket, or change it; it is tried at once.
     * @param {string} name in requests
     * @param {NewStore} connection
     * @returns {Promise<Store>}
     * @throws {Invalid} the bucket is not there, or not opened by these credentials.
     */
    putStore(name: string, connection: NewStore): Promise<Store>;
    /**
     * Forget a connection; the bucket stays as it is.
     * @param {string} name
     * @returns {Promise<void>}
     */
    deleteStore(name: string): Promise<void>;
    /**
     * Every key of the tenant.
     * @param {{ tenant?: string }} [filters]
     * @returns {Promise<Key[]>}
     */
    keys(filters?: {
        tenant?: string;
    }): Promise<Key[]>;
    /**
     * Make a key; the answer has its text as `key`, which is shown only now.
     * @param {Scopes} scopes what it may do
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
     * What was used, by day, key and template; days as `2026-11-29`.
     * @param {UsageFilters} [filters]
     */
    usage(filters?: UsageFilters): AsyncGenerator<import("../api.js").UsageView, void, void>;
    /**
     * Who did what, oldest first.
     * @param {AuditFilters & Abortable} [filters]
     * @returns {AsyncGenerator<Record<string, unknown>, void, void>}
     */
    audit({ signal, ...filters }?: AuditFilters & Abortable): AsyncGenerator<Record<string, unknown>, void, void>;
    /** Every tenant; needs the scope `admin`. */
    tenants(): Promise<import("../api.js").TenantView[]>;
    /**
     * Work that was given up, newest first.
     * @param {{ limit?: number }} [options]
     */
    deadLetters(options?: {
        limit?: number;
    }): AsyncGenerator<import("../api.js").LetterView, void, void>;
    /**
     * Do work that was given up again.
     * @param {string} letterId
     */
    redrive(letterId: string): Promise<import("../api.js").RedriveView>;
    /** Every operation with the JSON schema of its parameters. */
    operations(): Promise<import("../api.js").OperationView[]>;
    /** Return if the server answers at all. */
    live(): Promise<void>;
    /** Whether the server can take work. */
    health(): Promise<import("../api.js").Readiness>;
    /**
     * Every part of the service by name; takes a key with the scope `admin`.
     * @returns {Promise<import("../api.js").HealthView["checks"]>}
     */
    checks(): Promise<import("../api.js").HealthView["checks"]>;
    #private;
}
export type Listing = "GET /jobs" | "GET /deliveries" | "GET /dead-letters" | "GET /usage";
export type Sending = {
    headers?: Record<string, string> | undefined;
    /**
     * in the place of JSON
     */
    body?: BodyInit | undefined;
    /**
     * whether it may be sent twice; default: unless it is a POST
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
