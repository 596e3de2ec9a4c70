/**
 * The event of a webhook, if it is genuine.
 * @param {string} secret of the endpoint, as `createWebhook` or `rotateWebhook` answered it
 * @param {Headers | Record<string, string | string[] | undefined>} headers of the request; their names in any case
 * @param {string | ArrayBuffer | Uint8Array} body exactly what was received
 * @param {{ toleranceSeconds?: number }} [options] how old it may be, or how far in the future
 * @returns {Promise<Event>}
 * @throws {InvalidSignature} it is not from the owner of the secret, or too old.
 */
export function verify(secret: string, headers: Headers | Record<string, string | string[] | undefined>, body: string | ArrayBuffer | Uint8Array, { toleranceSeconds }?: {
    toleranceSeconds?: number;
}): Promise<Event>;
import type { Event } from "../types.js";
