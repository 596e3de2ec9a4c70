export * from "./index.js";
/** Talks to one PixTools server. A source may be the path of a file: a text that is not a URL. */
export class Client extends AnyClient {
    /**
     * Send an image, or say where the server finds it, and wait for its results.
     * @override
     * @param {Source} source as of `submit`
     * @param {Operations | RunToOptions} what as of `submit`
     * @param {RunToOptions} [options] as of `submit`, `wait` and `download`; `to`: a folder for the results, made if absent
     * @returns {Promise<Job>}
     * @throws {JobFailed} it ended without all its results; those that there are have been written.
     * @throws {WaitTimeout} it has not ended in time.
     */
    override run(source: Source, what: Operations | RunToOptions, options?: RunToOptions): Promise<Job>;
    /**
     * Write one result to a file; which one that is.
     * @param {Result} result of a job
     * @param {string} [to] a folder that is there, or the file
     * @param {DownloadOptions} [options] what to do about a file that is there already and has another content: `fail`,
     *   `replace` it, `skip` the result, or `rename` it, to a free name. One that has the same content is left as it is.
     * @returns {Promise<string>}
     * @throws {FileExists} there is another file of that name.
     * @throws {DownloadFailed} it cannot be fetched, or not be written.
     */
    download(result: Result, to?: string, { ifExists, signal }?: DownloadOptions): Promise<string>;
    /**
     * Write all results of a job to one ZIP file, which must not be there yet.
     * @param {string} jobId
     * @param {string} to a folder that is there, or the file
     * @param {{ signal?: AbortSignal }} [options]
     * @returns {Promise<string>}
     * @throws {FileExists} it is there.
     * @throws {DownloadFailed} it cannot be fetched, or not be written.
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
