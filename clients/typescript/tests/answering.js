// A server of which each answer is said beforehand, for what a real one does not do on request.

import { createServer } from "node:http";

/** An answer of JSON. */
export function json(status, body, headers = {}) {
  return (_, response) =>
    response.writeHead(status, { "Content-Type": "application/json", ...headers }).end(JSON.stringify(body));
}

/** An answer that does not come: the connection breaks off. */
export function lost(request) {
  request.socket.destroy();
}

/** A stream of events that ends. */
export function events(text) {
  return (_, response) => response.writeHead(200, { "Content-Type": "text/event-stream" }).end(text);
}

/** A stream, or an answer, that never comes to its end. */
export function silence(_, response) {
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  response.write(": nothing yet\n\n");
}

/**
 * A server that answers each request with the next of these, and with 500 when there is none; the requests, as they
 * were.
 */
export async function answering(test, ...answers) {
  const heard = [];
  const server = createServer((request, response) => {
    heard.push({ method: request.method, url: request.url, headers: request.headers });
    request.resume();
    const answer = answers.shift() ?? json(500, { code: "internal_error", detail: "There is no further answer." });
    request.on("end", () => answer(request, response));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  test.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${server.address().port}`, heard };
}

/** All entries of a list. */
export async function gathered(list) {
  const all = [];
  for await (const each of list) all.push(each);
  return all;
}
