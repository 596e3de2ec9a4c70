export * from "./index.js";
/** Talks to one PixTools server. A source may be the path of a file: a text that is not a URL. */
export class Client extends AnyClient {
    /**
     * Send an image, or a reference to one that the server fetches, and wait for its results.
     * @override
     * @param {Source} source as for `submit`
     * @param {Operations | RunToOptions} what as for `submit`
     * @param {RunToOptions} [options] as for `submit`, `wait` and `download`; `to`: folder of the results, made if absent
     * @returns {Promise<Job>}
     * @throws {JobFailed} the job ended without all of its results; the existing ones have been written.
     * @throws {WaitTimeout} the job has not ended in time.
     */
    override run(source: Source, what: Operations | RunToOptions, options?: RunToOptions): Promise<Job>;
    /**
     * Write one result to a file; returns the path of the file.
     * @param {Result} result of a job
     * @param {string} [to] an existing folder, or the file
     * @param {DownloadOptions} [options] `ifExists` says what to do if a file with other content exists: `fail`,
     *   `replace` it, `skip` the result, or `rename` the new file. A file with the same content is left as it is.
     * @returns {Promise<string>}
     * @throws {FileExists} there is a file of that name with other content.
     * @throws {DownloadFailed} the download or the file failed.
     */
    download(result: Result, to?: string, { ifExists, signal }?: DownloadOptions): Promise<string>;
    /**
     * Write all results of a job to one ZIP file, which must not exist yet; returns its path.
     * @param {string} jobId
     * @param {string} to an existing folder, or the file
     * @param {{ signal?: AbortSignal }} [options]
     * @returns {Promise<string>}
     * @throws {FileExists} the file exists.
     * @throws {DownloadFailed} the download or the file failed.
     */
    archive(jobId: string, to: string, { signal }?: {
        signal?: AbortSignal;
    }): Promise<string>;
}
import { Client as AnyClient } from "./client.js";
import type { Source } from "../types.js";
import type { Operations } from "../types.js";
import type { RunToOptions } from "../types.js";
import type { Job } from "../types.js";
import type { Result } from "../types.js";
import type { DownloadOptions } from "../types.js";
