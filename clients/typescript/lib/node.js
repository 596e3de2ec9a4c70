// The client for Node, with paths as sources, results as files, and server and key from the environment.

import { createHash } from "node:crypto";
import { openAsBlob } from "node:fs";
import { constants, copyFile, link, mkdir, mkdtemp, open, readFile, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join, parse } from "node:path";

import { Client as AnyClient } from "./client.js";
import { keyOfEnvironment, serverOfEnvironment } from "./environment.js";
import { ClientError, DownloadFailed, FileExists, JobFailed, Refused } from "./errors.js";
import { check, optionsOf } from "./protocol.js";

/** @import { FileHandle } from "node:fs/promises" */
/** @import {
 *   Bytes, ClientOptions, DownloadOptions, IfExists, Job, Operations, Result, RunToOptions, Sink, Source
 * } from "../types.js"
 */

export * from "./index.js";

/** Talks to one PixTools server. A source may be the path of a file: a text that is not a URL. */
export class Client extends AnyClient {
  /**
   * Makes a client, without a request yet.
   * @param {string | URL} [server] address; default: `PIXTOOLS_URL`, or the server on this machine
   * @param {ClientOptions} [options] default for `key`: `PIXTOOLS_KEY`, or the content of the file
   *   `PIXTOOLS_KEY_FILE`, which only its owner may read
   */
  constructor(server = serverOfEnvironment(), options = {}) {
    super(server, { ...options, key: options.key ?? keyOfEnvironment() });
  }

  /**
   * @protected
   * @override
   * @param {Bytes | string} source
   * @returns {Promise<Blob>}
   */
  async _open(source) {
    if (typeof source !== "string") return super._open(source);
    try {
      if (!(await stat(source)).isFile()) throw new Refused(`${source}: not a file`);
      return new File([await openAsBlob(source)], basename(source));
    } catch (cause) {
      if (cause instanceof Refused) throw cause;
      throw new Refused(`${source}: ${messageOf(cause)}`, { cause });
    }
  }

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
  async run(source, what, options) {
    const { to, ifExists, ...rest } = optionsOf(what, options);
    const ended = await super.run(source, rest).catch((error) => {
      if (error instanceof JobFailed) return error;
      throw error;
    });
    const job = ended instanceof JobFailed ? ended.job : ended;
    if (to !== undefined) {
      await mkdir(to, { recursive: true });
      for (const result of job.results) await this.download(result, to, { ifExists, signal: rest.signal });
    }
    if (ended instanceof JobFailed) throw ended;
    return job;
  }

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
  async download(result, to = ".", { ifExists = "fail", signal } = {}) {
    const path = (await isFolder(to)) ? join(to, basename(result.filename)) : to;
    if (await isThere(path, result, ifExists)) return path;
    return written(path, ifExists, async (file) => {
      await this._fetch(result, file, signal);
      check(result, file.sha256());
    });
  }

  /**
   * Write all results of a job to one ZIP file, which must not exist yet; returns its path.
   * @param {string} jobId
   * @param {string} to an existing folder, or the file
   * @param {{ signal?: AbortSignal }} [options]
   * @returns {Promise<string>}
   * @throws {FileExists} the file exists.
   * @throws {DownloadFailed} the download or the file failed.
   */
  async archive(jobId, to, { signal } = {}) {
    const path = (await isFolder(to)) ? join(to, `pixtools-${jobId}.zip`) : to;
    return written(path, "fail", (file) => this._fetchArchive(jobId, file, signal));
  }
}

// -- files ------------------------------------------------------------------------------------------------------------

/**
 * A download that is written to a file.
 * @implements {Sink}
 */
class Part {
  #file;
  #hash = createHash("sha256");

  /** @param {FileHandle} file open for appending */
  constructor(file) {
    this.#file = file;
  }

  async restart() {
    this.#hash = createHash("sha256");
    await this.#file.truncate(0);
  }

  /** @param {Uint8Array} chunk */
  async write(chunk) {
    this.#hash.update(chunk);
    await this.#file.appendFile(chunk);
  }

  sha256() {
    return this.#hash.digest("hex");
  }
}

/**
 * Write a file that gets its name only when it is complete; returns that name.
 * @param {string} path
 * @param {IfExists} ifExists
 * @param {(file: Part) => Promise<void>} fill
 * @returns {Promise<string>}
 */
async function written(path, ifExists, fill) {
  let folder;
  try {
    folder = await mkdtemp(join(dirname(path), ".pixtools-"));
    const part = join(folder, "part");
    const file = await open(part, "ax");
    try {
      await fill(new Part(file));
    } finally {
      await file.close();
    }
    return await put(part, path, ifExists);
  } catch (cause) {
    if (!isOfSystem(cause)) throw cause;
    throw new DownloadFailed(`${path}: ${messageOf(cause)}`, { cause });
  } finally {
    if (folder !== undefined) await rm(folder, { recursive: true, force: true });
  }
}

/**
 * @param {string} part
 * @param {string} path
 * @param {IfExists} ifExists
 */
async function put(part, path, ifExists) {
  if (ifExists === "replace") {
    await rename(part, path);
    return path;
  }
  for (const name of ifExists === "rename" ? names(path) : [path]) {
    if (await linked(part, name)) return name;
  }
  throw new FileExists(`${path}: another file of this name exists`);
}

/**
 * Whether the file got this name; false: another file has it.
 * @param {string} part
 * @param {string} name
 */
async function linked(part, name) {
  for (const give of [link, copyOnly]) {
    try {
      await give(part, name);
      return true;
    } catch (error) {
      if (isOfSystem(error) && error.code === "EEXIST") return false;
      if (give === copyOnly) throw error;
    }
  }
  return false;
}

/**
 * For a file system without hard links.
 * @param {string} part
 * @param {string} name
 */
const copyOnly = (part, name) => copyFile(part, name, constants.COPYFILE_EXCL);

/** @param {string} path */
function* names(path) {
  yield path;
  const { dir, name, ext } = parse(path);
  for (let number = 2; number < 10_000; number += 1) yield join(dir, `${name}-${number}${ext}`);
}

/**
 * Whether the file exists already and need not be fetched.
 * @param {string} path
 * @param {Result} result
 * @param {IfExists} ifExists
 * @throws {FileExists} the file exists with other content and may not be replaced.
 */
async function isThere(path, result, ifExists) {
  if (ifExists === "replace" || ifExists === "rename") return false;
  const found = await stat(path).catch(() => null);
  if (!found) return false;
  if (ifExists === "skip") return true;
  if (found.isFile() && found.size === result.bytes && (await sha256Of(path)) === result.sha256) return true;
  throw new FileExists(`${path}: another file of this name exists`);
}

/** @param {string} path */
async function sha256Of(path) {
  return createHash("sha256")
    .update(await readFile(path))
    .digest("hex");
}

/** @param {string} path */
async function isFolder(path) {
  return (await stat(path).catch(() => null))?.isDirectory() ?? false;
}

/**
 * @param {unknown} error
 * @returns {error is NodeJS.ErrnoException}
 */
function isOfSystem(error) {
  return error instanceof Error && !(error instanceof ClientError) && "syscall" in error;
}

/** @param {unknown} error */
function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}
