/**
 * The key to send: `PIXTOOLS_KEY`, or the content of a file that only its owner may read. `PIXTOOLS_KEY_FILE` names it;
 * the default is `~/.config/pixtools/key`, if it exists.
 * @returns {string | undefined}
 * @throws {Refused} the file cannot be read, or others may read it.
 */
export function keyOfEnvironment(): string | undefined;
/**
 * `PIXTOOLS_URL`, or the server on this machine at `PIXTOOLS_PORT`, from the environment or from the `.env` file that
 * `make run` also reads; the default is http://127.0.0.1:8000.
 * @returns {string}
 */
export function serverOfEnvironment(): string;
