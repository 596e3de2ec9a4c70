// Checks the signatures of webhooks (Standard Webhooks 1.0). This module needs WebCrypto, which browsers have only on
// pages with TLS.

import { InvalidSignature } from "./errors.js";

/** @import { Event } from "../types.js" */

const TOLERANCE = 300; // seconds by which the clocks of sender and receiver may differ
const PREFIX = "whsec_";
const VERSION = "v1,";
const HMAC = { name: "HMAC", hash: "SHA-256" };

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
export async function verify(secret, headers, body, { toleranceSeconds = TOLERANCE } = {}) {
  const id = headerOf(headers, "webhook-id");
  const at = headerOf(headers, "webhook-timestamp");
  const signatures = headerOf(headers, "webhook-signature").split(" ");
  const key = bytesOf(secret.startsWith(PREFIX) ? secret.slice(PREFIX.length) : secret);
  if (!key?.length || !/^\d+$/.test(at)) throw new InvalidSignature("The timestamp or the secret is malformed.");
  const age = Math.abs(Date.now() / 1000 - Number(at));
  if (age > toleranceSeconds) {
    throw new InvalidSignature(`The request is ${Math.round(age)} seconds old, or from the future.`);
  }
  const content = typeof body === "string" ? new TextEncoder().encode(body) : new Uint8Array(body);
  const signed = await new Blob([`${id}.${at}.`, content]).arrayBuffer();
  const verifier = await crypto.subtle.importKey("raw", key, HMAC, false, ["verify"]);
  for (const given of signatures.filter((each) => each.startsWith(VERSION))) {
    const signature = bytesOf(given.slice(VERSION.length));
    if (signature && (await crypto.subtle.verify("HMAC", verifier, signature, signed))) {
      return { id, ...JSON.parse(new TextDecoder().decode(content)) };
    }
  }
  throw new InvalidSignature("No signature of the request was made with this secret.");
}

/**
 * @param {Headers | Record<string, string | string[] | undefined>} headers
 * @param {string} name
 * @returns {string}
 * @throws {InvalidSignature} there is no header of this name.
 */
function headerOf(headers, name) {
  const all = headers instanceof Headers ? [...headers] : Object.entries(headers);
  const value = all.find(([each]) => each.toLowerCase() === name)?.[1];
  if (value === undefined) throw new InvalidSignature(`The request has no header ${name}.`);
  return String(value);
}

/**
 * @param {string} base64
 * @returns {Uint8Array<ArrayBuffer> | undefined} undefined: the text is not base64
 */
function bytesOf(base64) {
  try {
    return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  } catch {
    return undefined;
  }
}
