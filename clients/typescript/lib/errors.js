// All errors, in one tree:
//
// ClientError
// ├── Refused                 the server answered 4xx, or the request cannot be sent at all
// │   ├── BadRequest          400
// │   ├── Unauthorized        401: no key, or an invalid one
// │   ├── Forbidden           403
// │   ├── NotFound            404, 410
// │   │   ├── JobNotFound     `job_not_found`
// │   │   │   └── JobExpired  `job_expired`
// │   │   ├── ResultNotFound  `result_not_found`
// │   │   ├── TemplateNotFound `template_not_found`
// │   │   ├── StoreNotFound   `store_not_found`
// │   │   └── AssetNotFound   `asset_not_found`
// │   ├── Conflict            409: the state does not allow the request
// │   │   └── ExternalIdTaken `external_id_taken`
// │   ├── TooLarge            413
// │   ├── UnsupportedImage    415
// │   ├── Invalid             422: `errors` has the places
// │   └── LimitReached        429: `limit_name` of `problem` says which limit
// ├── ServerAway              no answer, or 5xx: the same request may succeed later
// ├── JobFailed               the job has ended without all of its results
// ├── WaitTimeout             the job has not ended in time; it goes on
// ├── DownloadFailed          a result could not be fetched or written
// │   └── FileExists          a file of that name exists
// └── InvalidSignature        a webhook was not signed with the secret
//
// Decide by `code`, which is stable; the text is for people.

/** @import { Problem, ProblemError } from "../api.js" */
/** @import { Job } from "../types.js" */

/** A request failed; the text is for people, and is the server's own message if there is one. */
export class ClientError extends Error {
  /**
   * Code of the problem document, or of this kind of error.
   * @type {string}
   */
  code = "client_error";

  /**
   * @param {string} message text for people
   * @param {ErrorOptions} [options] may have a `cause`
   */
  constructor(message, options) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** The server refuses the request. */
export class Refused extends ClientError {
  /**
   * HTTP status; undefined: the request was not sent.
   * @type {number | undefined}
   */
  status;

  /**
   * The problem document (RFC 9457).
   * @type {Partial<Problem>}
   */
  problem;

  /**
   * @param {string} message text for people
   * @param {{ status?: number, problem?: Partial<Problem>, cause?: unknown }} [about]
   */
  constructor(message, { status, problem = {}, ...options } = {}) {
    super(message, options);
    this.status = status;
    this.problem = problem;
    this.code = problem.code ?? "refused";
  }

  /**
   * The mistakes, each with a `detail` and a JSON `pointer`.
   * @returns {ProblemError[]}
   */
  get errors() {
    return this.problem.errors ?? [];
  }
}

/** The request is malformed. */
export class BadRequest extends Refused {}

/** The request needs a key, or has an invalid one. */
export class Unauthorized extends Refused {}

/** The key does not permit the request. */
export class Forbidden extends Refused {}

/** The object does not exist, or belongs to another tenant. */
export class NotFound extends Refused {}

/** There is no such job; it may have expired. */
export class JobNotFound extends NotFound {}

/** The job has expired; `expired_at` of `problem` says when. */
export class JobExpired extends JobNotFound {}

/** The job has no such result. */
export class ResultNotFound extends NotFound {}

/** There is no such template, or not this version of it. */
export class TemplateNotFound extends NotFound {}

/** There is no such store. */
export class StoreNotFound extends NotFound {}

/** There is no such image or font. */
export class AssetNotFound extends NotFound {}

/** The state does not allow the request. */
export class Conflict extends Refused {}

/** Another job has this external id. */
export class ExternalIdTaken extends Conflict {
  /**
   * Id of the other job.
   * @returns {string | undefined}
   */
  get jobId() {
    const { job_id: id } = this.problem;
    return typeof id === "string" ? id : undefined;
  }
}

/** The body is larger than the limit. */
export class TooLarge extends Refused {}

/** The file is not an image in a supported format. */
export class UnsupportedImage extends Refused {}

/** The input is invalid. */
export class Invalid extends Refused {}

/** A limit of the tenant was reached, and still was when the client's patience was used up. */
export class LimitReached extends Refused {}

/** The server does not answer, or cannot at the moment; the same request may succeed later. */
export class ServerAway extends ClientError {
  /**
   * The problem document, if the server sent one.
   * @type {Partial<Problem>}
   */
  problem;

  /**
   * @param {string} message text for people
   * @param {{ problem?: Partial<Problem>, cause?: unknown }} [about]
   */
  constructor(message, { problem = {}, ...options } = {}) {
    super(message, options);
    this.problem = problem;
    this.code = problem.code ?? "server_away";
  }
}

/** A job ended without all of its results. */
export class JobFailed extends ClientError {
  /** @param {Job} job as it ended */
  constructor(job) {
    const error = job.error ?? job.steps.find((step) => step.error)?.error ?? null;
    const reason = error ? `: ${error.code}: ${error.message}` : "";
    super(`${job.input.filename}: job ${job.id} is ${job.status}${reason}`);
    this.job = job;
    this.error = error;
    this.code = error?.code ?? job.status;
  }
}

/** The job has not ended in time; it goes on. */
export class WaitTimeout extends ClientError {
  code = "wait_timeout";

  /** @param {Job} job last known state of the job */
  constructor(job) {
    super(`job ${job.id} has not ended yet: ${job.status}`);
    this.job = job;
  }
}

/** A result could not be fetched or written to its file. */
export class DownloadFailed extends ClientError {
  code = "download_failed";
}

/** A file of that name exists already. */
export class FileExists extends DownloadFailed {
  code = "file_exists";
}

/** A webhook was not signed with the secret, or is too old. */
export class InvalidSignature extends ClientError {
  code = "invalid_signature";
}

/**
 * Errors that are more precise than the status.
 * @type {Record<string, typeof Refused>}
 */
export const BY_CODE = {
  job_not_found: JobNotFound,
  job_expired: JobExpired,
  result_not_found: ResultNotFound,
  template_not_found: TemplateNotFound,
  store_not_found: StoreNotFound,
  asset_not_found: AssetNotFound,
  external_id_taken: ExternalIdTaken,
};

/** @type {Record<number, typeof Refused>} */
export const BY_STATUS = {
  400: BadRequest,
  401: Unauthorized,
  403: Forbidden,
  404: NotFound,
  409: Conflict,
  410: NotFound,
  413: TooLarge,
  415: UnsupportedImage,
  422: Invalid,
  429: LimitReached,
};
