/** @import { Problem, ProblemError } from "../api.js" */
/** @import { Job } from "../types.js" */
/** A request failed; the text is for people, and is the server's own message if there is one. */
export class ClientError extends Error {
    /**
     * @param {string} message text for people
     * @param {ErrorOptions} [options] may have a `cause`
     */
    constructor(message: string, options?: ErrorOptions);
    /**
     * Code of the problem document, or of this kind of error.
     * @type {string}
     */
    code: string;
}
/** The server refuses the request. */
export class Refused extends ClientError {
    /**
     * @param {string} message text for people
     * @param {{ status?: number, problem?: Partial<Problem>, cause?: unknown }} [about]
     */
    constructor(message: string, { status, problem, ...options }?: {
        status?: number;
        problem?: Partial<Problem>;
        cause?: unknown;
    });
    /**
     * HTTP status; undefined: the request was not sent.
     * @type {number | undefined}
     */
    status: number | undefined;
    /**
     * The problem document (RFC 9457).
     * @type {Partial<Problem>}
     */
    problem: Partial<Problem>;
    /**
     * The mistakes, each with a `detail` and a JSON `pointer`.
     * @returns {ProblemError[]}
     */
    get errors(): ProblemError[];
}
/** The request is malformed. */
export class BadRequest extends Refused {
}
/** The request needs a key, or has an invalid one. */
export class Unauthorized extends Refused {
}
/** The key does not permit the request. */
export class Forbidden extends Refused {
}
/** The object does not exist, or belongs to another tenant. */
export class NotFound extends Refused {
}
/** There is no such job; it may have expired. */
export class JobNotFound extends NotFound {
}
/** The job has expired; `expired_at` of `problem` says when. */
export class JobExpired extends JobNotFound {
}
/** The job has no such result. */
export class ResultNotFound extends NotFound {
}
/** There is no such template, or not this version of it. */
export class TemplateNotFound extends NotFound {
}
/** There is no such store. */
export class StoreNotFound extends NotFound {
}
/** There is no such image or font. */
export class AssetNotFound extends NotFound {
}
/** The state does not allow the request. */
export class Conflict extends Refused {
}
/** Another job has this external id. */
export class ExternalIdTaken extends Conflict {
    /**
     * Id of the other job.
     * @returns {string | undefined}
     */
    get jobId(): string | undefined;
}
/** The body is larger than the limit. */
export class TooLarge extends Refused {
}
/** The file is not an image in a supported format. */
export class UnsupportedImage extends Refused {
}
/** The input is invalid. */
export class Invalid extends Refused {
}
/** A limit of the tenant was reached, and still was when the client's patience was used up. */
export class LimitReached extends Refused {
}
/** The server does not answer, or cannot at the moment; the same request may succeed later. */
export class ServerAway extends ClientError {
    /**
     * @param {string} message text for people
     * @param {{ problem?: Partial<Problem>, cause?: unknown }} [about]
     */
    constructor(message: string, { problem, ...options }?: {
        problem?: Partial<Problem>;
        cause?: unknown;
    });
    /**
     * The problem document, if the server sent one.
     * @type {Partial<Problem>}
     */
    problem: Partial<Problem>;
}
/** A job ended without all of its results. */
export class JobFailed extends ClientError {
    /** @param {Job} job as it ended */
    constructor(job: Job);
    job: import("../api.js").JobView;
    error: import("../api.js").ErrorRecord | null;
    code: "area_outside_image" | "asset_missing" | "body_too_large" | "corrupt_font" | "corrupt_image" | "daily_limit_reached" | "database_unavailable" | "empty_file" | "field_too_long" | "glyph_missing" | "head_too_large" | "image_not_encoded" | "image_too_large" | "internal_error" | "invalid_filename" | "invalid_source" | "invalid_source_url" | "invalid_upload" | "invisible_text" | "known_poison" | "limit_exceeded" | "no_room" | "object_incomplete" | "object_not_found" | "output_denied" | "output_exists" | "output_failed" | "output_unavailable" | "pixel_process_died" | "poison_input" | "rate_limited" | "source_busy" | "source_changed" | "source_denied" | "source_failed" | "source_not_found" | "source_unavailable" | "source_unusable" | "source_url_refused" | "step_failed" | "step_timed_out" | "stopping" | "storage_limit_reached" | "storage_unavailable" | "target_too_long" | "target_unreachable" | "tenant_limit" | "too_many_assets" | "too_many_connections" | "too_many_endpoints" | "too_many_keys" | "too_many_listeners" | "too_many_open_jobs" | "too_many_stores" | "too_many_templates" | "too_much_work" | "truncated_image" | "unavailable" | "unsupported_asset" | "unsupported_image" | "upload_too_large" | "workspace_failed" | "workspace_full" | import("../api.js").JobStatus;
}
/** The job has not ended in time; it goes on. */
export class WaitTimeout extends ClientError {
    /** @param {Job} job last known state of the job */
    constructor(job: Job);
    job: import("../api.js").JobView;
}
/** A result could not be fetched or written to its file. */
export class DownloadFailed extends ClientError {
}
/** A file of that name exists already. */
export class FileExists extends DownloadFailed {
}
/** A webhook was not signed with the secret, or is too old. */
export class InvalidSignature extends ClientError {
}
/**
 * Errors that are more precise than the status.
 * @type {Record<string, typeof Refused>}
 */
export const BY_CODE: Record<string, typeof Refused>;
/** @type {Record<number, typeof Refused>} */
export const BY_STATUS: Record<number, typeof Refused>;
import type { Problem } from "../api.js";
import type { ProblemError } from "../api.js";
import type { Job } from "../types.js";
