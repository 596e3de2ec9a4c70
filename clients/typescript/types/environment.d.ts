/**
 * The key that is sent: `PIXTOOLS_KEY`, or the content of a file that only its owner can read, which `PIXTOOLS_KEY_FILE`
 * names; by default `~/.config/pixtools/key`, if it is there.
 * @returns {string | undefined}
 * @throws {Refused} the file cannot be read, or others may read it.
 */
export function keyOfEnvironment(): string | undefined;
/**
 * `PIXTOOLS_URL`, or the server on this machine: `PIXTOOLS_PORT`, of the environment or of the `.env` file that
 * `make run` reads as well; by default http://127.0.0.1:8000.
 * @returns {string}
 */
export function serverOfEnvironment(): string;
