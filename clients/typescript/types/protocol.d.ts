/**
 * The address of a route.
 * @param {string} server
 * @param {string} template with names in braces
 * @param {Record<string, string>} [path] their values
 * @param {Record<string, unknown>} [query]
 * @returns {URL}
 * @throws {Refused} there is no such address.
 */
export function addressOf(server: string, template: string, path?: Record<string, string>, query?: Record<string, unknown>): URL;
/**
 * @param {Record<string, string>} headers
 * @returns {Headers}
 * @throws {Refused} one of them cannot be sent, as a key with a line end in it.
 */
export function headersOf(headers: Record<string, string>): Headers;
/**
 * The options of a request; the operations are one of them, or come before them.
 * @template {object} T
 * @param {Operations | T} what
 * @param {T} [options]
 * @returns {T}
 */
export function optionsOf<T extends object>(what: Operations | T, options?: T): T;
/**
 * Values of a request, with times as texts.
 * @template {object} T
 * @param {T} [values]
 * @returns {any}
 */
export function dated<T extends object>(values?: T): any;
/**
 * What a request says of an image that is not sent; undefined: it is sent.
 * @param {Source | FactsSource} source
 * @returns {RemoteSource | FactsSource | undefined}
 */
export function elsewhere(source: Source | FactsSource): RemoteSource | FactsSource | undefined;
/**
 * An image that is sent, so that it can be sent again. A stream is read to its end first.
 * @param {Source | FactsSource} source
 * @returns {Promise<Blob>}
 * @throws {Refused} it is none.
 */
export function blobOf(source: Source | FactsSource): Promise<Blob>;
/**
 * @param {Blob} blob
 * @returns {string}
 */
export function nameOf(blob: Blob): string;
/**
 * The tree as text; names separated by commas are one branch each.
 * @param {Operations | readonly unknown[]} operations
 * @returns {string}
 */
export function treeOf(operations: Operations | readonly unknown[]): string;
/**
 * The tree as it is.
 * @param {Operations | readonly unknown[]} operations
 * @returns {any[]}
 * @throws {Refused} the text is not JSON.
 */
export function nodesOf(operations: Operations | readonly unknown[]): any[];
/**
 * The fields of a request that were given.
 * @param {Record<string, unknown>} order
 * @returns {[string, unknown][]}
 */
export function given(order: Record<string, unknown>): [string, unknown][];
/**
 * The JSON body of a request whose image is not sent.
 * @param {RemoteSource | FactsSource} source
 * @param {Operations | undefined} operations
 * @param {Record<string, unknown>} order further fields
 */
export function bodyOf(source: RemoteSource | FactsSource, operations: Operations | undefined, order: Record<string, unknown>): {
    operations?: undefined;
    input: {
        url: string;
        headers?: Record<string, string> | null;
    } | {
        store: string;
        key: string;
    } | {
        job: string;
        result: string;
    } | {
        facts: {
            format: "jpeg" | "png" | "webp" | "gif" | "tiff" | "avif" | "heic";
            width: number;
            height: number;
            bytes: number;
        };
    };
} | {
    operations: any[];
    input: {
        url: string;
        headers?: Record<string, string> | null;
    } | {
        store: string;
        key: string;
    } | {
        job: string;
        result: string;
    } | {
        facts: {
            format: "jpeg" | "png" | "webp" | "gif" | "tiff" | "avif" | "heic";
            width: number;
            height: number;
            bytes: number;
        };
    };
};
/**
 * An upload with what is to be done with it.
 * @param {Blob} blob
 * @param {string} filename
 * @param {Operations | undefined} operations
 * @param {Record<string, unknown>} order further fields
 * @returns {FormData}
 */
export function formOf(blob: Blob, filename: string, operations: Operations | undefined, order: Record<string, unknown>): FormData;
/**
 * A random name; `crypto.randomUUID` is not there on pages without TLS.
 * @returns {string}
 */
export function newId(): string;
/**
 * @param {Uint8Array} bytes
 * @returns {string}
 */
export function hex(bytes: Uint8Array): string;
/**
 * The error that an answer stands for.
 * @param {number} status
 * @param {string} text
 * @returns {Refused | ServerAway}
 */
export function failure(status: number, text: string): Refused | ServerAway;
/**
 * Whether the same request may succeed in a while.
 * @param {number} status
 * @param {string} code
 * @returns {boolean}
 */
export function mayPass(status: number, code: string): boolean;
/**
 * Raise unless a download is what the server has stored.
 * @param {Result} result
 * @param {string} sha256 of the download
 * @throws {DownloadFailed} it is not.
 */
export function check(result: Result, sha256: string): void;
/**
 * @param {Job} job
 * @returns {boolean}
 */
export function isOpen(job: Job): boolean;
/**
 * @param {number} seconds
 * @param {AbortSignal} [signal] ends the pause, which throws its reason
 * @returns {Promise<void>}
 */
export function sleep(seconds: number, signal?: AbortSignal): Promise<void>;
/** @import { Problem } from "../api.js" */
/** @import { FactsSource, Job, Operations, RemoteSource, Result, Source } from "../types.js" */
export const MAX_PAGE: 100;
export const TIMEOUT: 30;
export const UPLOAD_TIMEOUT: 1800;
export const WAITING: 100;
export const MOST_SILENT: 45;
export const HELD: 20;
export const PATIENCE: 30;
export const POLL: 0.5;
/** When to send a request again. */
export class Tries {
    /** @param {number} patience seconds */
    constructor(patience: number);
    /**
     * Seconds until the next try; undefined: patience is over.
     * @param {string | null} [asked] `Retry-After` of the answer
     * @returns {number | undefined}
     */
    pause(asked?: string | null): number | undefined;
    #private;
}
/** A signal that ends what it is given to: after some time, or when another signal does. */
export class Limit {
    /**
     * @param {number} seconds may be infinite
     * @param {(AbortSignal | undefined)[]} signals that end it as well
     */
    constructor(seconds: number, signals: (AbortSignal | undefined)[]);
    /** Whether the time is over. */
    isOver: boolean;
    /** @returns {AbortSignal} */
    get signal(): AbortSignal;
    /** Begin the time again. */
    restart(): void;
    /** Keep no time any more. */
    clear(): void;
    #private;
}
/** Lines of a text that comes in pieces. */
export class Lines {
    /**
     * The lines that a piece ends.
     * @param {string} text
     * @returns {string[]}
     */
    feed(text: string): string[];
    #private;
}
/** Server-sent events of a text that comes in pieces. */
export class EventParser {
    /** @param {string} [lastId] of an event behind which to begin */
    constructor(lastId?: string);
    /**
     * Of the last event, also of one without data.
     * @type {string | undefined}
     */
    lastId: string | undefined;
    /**
     * The events that a piece ends.
     * @param {string} text
     * @returns {{ name: string, data: any }[]}
     */
    feed(text: string): {
        name: string;
        data: any;
    }[];
    #private;
}
import type { Operations } from "../types.js";
import type { Source } from "../types.js";
import type { FactsSource } from "../types.js";
import type { RemoteSource } from "../types.js";
import { Refused } from "./errors.js";
import { ServerAway } from "./errors.js";
import type { Result } from "../types.js";
import type { Job } from "../types.js";
