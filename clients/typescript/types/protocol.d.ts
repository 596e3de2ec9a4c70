/**
 * The address of a route.
 * @param {string} server
 * @param {string} template of the path, with names in braces
 * @param {Record<string, string>} [path] values for these names
 * @param {Record<string, unknown>} [query]
 * @returns {URL}
 * @throws {Refused} the result is not a valid address.
 */
export function addressOf(server: string, template: string, path?: Record<string, string>, query?: Record<string, unknown>): URL;
/**
 * @param {Record<string, string>} headers
 * @returns {Headers}
 * @throws {Refused} a header cannot be sent, such as a key with a line end.
 */
export function headersOf(headers: Record<string, string>): Headers;
/**
 * The options of a request; the operations are one of the options, or a separate argument.
 * @template {object} T
 * @param {Operations | T} what
 * @param {T} [options]
 * @returns {T}
 */
export function optionsOf<T extends object>(what: Operations | T, options?: T): T;
/**
 * The values of a request, with times as text.
 * @template {object} T
 * @param {T} [values]
 * @returns {any}
 */
export function dated<T extends object>(values?: T): any;
/**
 * The `input` of a request for an image that the server fetches; undefined: the image is sent.
 * @param {Source | FactsSource} source
 * @returns {RemoteSource | FactsSource | undefined}
 */
export function elsewhere(source: Source | FactsSource): RemoteSource | FactsSource | undefined;
/**
 * The content of an image in a form that can be sent again. A stream is read to its end first.
 * @param {Source | FactsSource} source
 * @returns {Promise<Blob>}
 * @throws {Refused} the value is not an image source.
 */
export function blobOf(source: Source | FactsSource): Promise<Blob>;
/**
 * @param {Blob} blob
 * @returns {string}
 */
export function nameOf(blob: Blob): string;
/**
 * The tree as text; each of several names separated by commas is a branch.
 * @param {Operations | readonly unknown[]} operations
 * @returns {string}
 */
export function treeOf(operations: Operations | readonly unknown[]): string;
/**
 * The tree as a value.
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
 * The JSON body of a request for an image that the server fetches.
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
 * The form for an upload and its operations.
 * @param {Blob} blob
 * @param {string} filename
 * @param {Operations | undefined} operations
 * @param {Record<string, unknown>} order further fields
 * @returns {FormData}
 */
export function formOf(blob: Blob, filename: string, operations: Operations | undefined, order: Record<string, unknown>): FormData;
/**
 * A random name; `crypto.randomUUID` does not exist on pages without TLS.
 * @returns {string}
 */
export function newId(): string;
/**
 * @param {Uint8Array} bytes
 * @returns {string}
 */
export function hex(bytes: Uint8Array): string;
/**
 * The error for an answer.
 * @param {number} status
 * @param {string} text
 * @returns {Refused | ServerAway}
 */
export function failure(status: number, text: string): Refused | ServerAway;
/**
 * Whether the same request may succeed later.
 * @param {number} status
 * @param {string} code
 * @returns {boolean}
 */
export function mayPass(status: number, code: string): boolean;
/**
 * Throw if a download differs from what the server has stored.
 * @param {Result} result
 * @param {string} sha256 of the download
 * @throws {DownloadFailed} the checksum is wrong.
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
     * Seconds until the next try; undefined: the patience is used up.
     * @param {string | null} [asked] `Retry-After` of the answer
     * @returns {number | undefined}
     */
    pause(asked?: string | null): number | undefined;
    #private;
}
/** A signal that is aborted after some time, or when another signal is. */
export class Limit {
    /**
     * @param {number} seconds may be `Infinity`
     * @param {(AbortSignal | undefined)[]} signals further signals that abort this one
     */
    constructor(seconds: number, signals: (AbortSignal | undefined)[]);
    /** Whether the time is over. */
    isOver: boolean;
    /** @returns {AbortSignal} */
    get signal(): AbortSignal;
    /** Start the time again. */
    restart(): void;
    /** Stop the time. */
    clear(): void;
    #private;
}
/** Lines of a text that comes in pieces. */
export class Lines {
    /**
     * The lines that are complete after this piece.
     * @param {string} text
     * @returns {string[]}
     */
    feed(text: string): string[];
    #private;
}
/** Server-sent events of a text that comes in pieces. */
export class EventParser {
    /** @param {string} [lastId] id of the event after which to begin */
    constructor(lastId?: string);
    /**
     * Id of the last event, including events without data.
     * @type {string | undefined}
     */
    lastId: string | undefined;
    /**
     * The events that are complete after this piece.
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
