/**
 * The event of a webhook, if its signature is valid.
 * @param {string} secret of the endpoint, as `createWebhook` or `rotateWebhook` returned it
 * @param {Headers | Record<string, string | string[] | undefined>} headers of the request, with names in any case
 * @param {string | ArrayBuffer | Uint8Array} body exactly what was received
 * @param {{ toleranceSeconds?: number }} [options] how far the time of the webhook may be in the past or in the
 *   future
 * @returns {Promise<Event>}
 * @throws {InvalidSignature} the webhook was not signed with the secret, or is too old.
 */
export function verify(secret: string, headers: Headers | Record<string, string | string[] | undefined>, body: string | ArrayBuffer | Uint8Array, { toleranceSeconds }?: {
    toleranceSeconds?: number;
}): Promise<Event>;
import type { Event } from "../types.js";
