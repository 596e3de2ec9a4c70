// The default server and key, from the environment; for Node.

import { closeSync, existsSync, fstatSync, openSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

import { Refused } from "./errors.js";

const OTHERS = 0o077;
const PORT = 8000;
const LINE = /^\s*(?:export\s+)?(PIXTOOLS_(?:URL|PORT))\s*=\s*["']?([^\s"'#]+)/gm;

/**
 * The key to send: `PIXTOOLS_KEY`, or the content of a file that only its owner may read. `PIXTOOLS_KEY_FILE` names it;
 * the default is `~/.config/pixtools/key`, if it exists.
 * @returns {string | undefined}
 * @throws {Refused} the file cannot be read, or others may read it.
 */
export function keyOfEnvironment() {
  const { PIXTOOLS_KEY, PIXTOOLS_KEY_FILE, XDG_CONFIG_HOME } = process.env;
  const key = PIXTOOLS_KEY?.trim();
  if (key) return key;
  const file = PIXTOOLS_KEY_FILE || join(XDG_CONFIG_HOME || join(homedir(), ".config"), "pixtools", "key");
  if (!PIXTOOLS_KEY_FILE && !existsSync(file)) return undefined;
  return contentOf(file).trim() || undefined;
}

/** @param {string} file */
function contentOf(file) {
  let opened;
  try {
    opened = openSync(file, "r");
    if (fstatSync(opened).mode & OTHERS) {
      throw new Refused(`The key in ${file} can be read by others: chmod 600 ${file}`);
    }
    return readFileSync(opened, "utf8");
  } catch (cause) {
    if (cause instanceof Refused) throw cause;
    throw new Refused(`The key file ${file} cannot be read: ${/** @type {Error} */ (cause).message}`, { cause });
  } finally {
    if (opened !== undefined) closeSync(opened);
  }
}

/**
 * `PIXTOOLS_URL`, or the server on this machine at `PIXTOOLS_PORT`, from the environment or from the `.env` file that
 * `make run` also reads; the default is http://127.0.0.1:8000.
 * @returns {string}
 */
export function serverOfEnvironment() {
  const file = variablesOf(".env");
  const url = process.env["PIXTOOLS_URL"] || file.get("PIXTOOLS_URL");
  return url ?? `http://127.0.0.1:${process.env["PIXTOOLS_PORT"] || file.get("PIXTOOLS_PORT") || PORT}`;
}

/**
 * @param {string} file
 * @returns {Map<string, string>}
 */
function variablesOf(file) {
  try {
    return new Map(Array.from(readFileSync(file, "utf8").matchAll(LINE), ([, name = "", value = ""]) => [name, value]));
  } catch {
    return new Map(); // the file is optional
  }
}
