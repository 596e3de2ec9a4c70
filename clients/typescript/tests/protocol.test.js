// What the client does where the server is away, busy or old; no PixTools is needed.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Client, Invalid, LimitReached, Refused, ServerAway, WaitTimeout } from "../lib/index.js";
import { EventParser } from "../lib/protocol.js";
import { answering, events, gathered, json, lost, silence } from "./answering.js";

const BUSY = json(503, { code: "too_much_work", detail: "Later." });
const JOB = { id: "1", status: "processing", steps: [] };
const ENDED = { ...JOB, status: "completed" };

test("an upload whose answer was lost is repeated with its key", async (t) => {
  const { url, heard } = await answering(t, lost, BUSY, json(202, JOB));
  const codes = [];
  const client = new Client(url, { onRetry: (error) => codes.push(error.code) });
  assert.equal((await client.submit(new Blob(["image"]), "convert_png")).id, "1");
  assert.deepEqual(codes, ["server_away", "too_much_work"]);
  assert.equal(heard.length, 3);
  assert.equal(new Set(heard.map(({ headers }) => headers["idempotency-key"])).size, 1);
});

test("a key that is in flight is waited for, and Retry-After is heeded", async (t) => {
  const flying = json(409, { code: "idempotency_key_in_flight", detail: "Soon." }, { "Retry-After": "1" });
  const { url } = await answering(t, flying, json(202, JOB));
  const pauses = [];
  await new Client(url, { onRetry: (_, seconds) => pauses.push(seconds) }).submit(new Blob(["image"]), "flip");
  assert.deepEqual(pauses, [1]);
});

test("patience has an end, and what changes something is sent once", async (t) => {
  const { url, heard } = await answering(t, BUSY, BUSY, BUSY);
  const away = (error) => error instanceof ServerAway && error.code === "too_much_work";
  await assert.rejects(new Client(url, { patienceSeconds: 0 }).job("1"), away);
  await assert.rejects(new Client(url).retry("1"), away);
  assert.equal(heard.length, 2);
});

test("a limit of the tenant is an error of its own", async (t) => {
  const { url } = await answering(t, json(429, { code: "rate_limited", detail: "Slowly.", limit_name: "requests" }));
  const refused = new Client(url, { patienceSeconds: 0 }).job("1");
  await assert.rejects(refused, (error) => error instanceof LimitReached && error.problem.limit_name === "requests");
});

test("mistakes are shown with their places", async (t) => {
  const errors = [{ pointer: "#/operations/0/width", detail: "It is too large." }];
  const { url } = await answering(t, json(422, { code: "invalid_parameter", detail: "No.", errors }));
  await assert.rejects(new Client(url).plan("data:,", "flip"), (error) => {
    assert.ok(error instanceof Invalid);
    assert.deepEqual([error.status, error.errors], [422, errors]);
    assert.equal(error.message, "invalid_parameter: No.\n  #/operations/0/width: It is too large.");
    return true;
  });
});

test("what is no PixTools is said to be none", async (t) => {
  const page = (_, response) => response.end("<html>");
  const { url } = await answering(t, page, (_, response) => response.writeHead(404).end("<html>"));
  await assert.rejects(new Client(url).job("1"), /does not answer as PixTools does: <html>/);
  await assert.rejects(new Client(url).job("1"), { code: "refused", status: 404, message: "The server answered 404." });
});

test("what cannot be sent is refused at once", async () => {
  for (const server of ["ftp://127.0.0.1", "nowhere", "http://name:word@127.0.0.1"]) {
    await assert.rejects(new Client(server).job("1"), Refused);
  }
  const client = new Client("http://127.0.0.1:9");
  for (const id of ["", "..", "."]) await assert.rejects(client.job(id), /An id is missing/);
  await assert.rejects(new Client("http://127.0.0.1:9", { key: "pxt_\n1" }).job("1"), /cannot be sent/);
  await assert.rejects(client.submit("photo.jpg", "flip"), /is not a URL\. Paths of files/);
  await assert.rejects(client.submit("http://127.0.0.1:9/a.jpg", "[{"), /not valid JSON/);
});

test("where there are no live events a job is asked for", async (t) => {
  for (const refusal of [
    json(404, { code: "not_found", detail: "No." }),
    json(429, { code: "too_many_listeners", detail: "No." }),
  ]) {
    const { url, heard } = await answering(t, json(200, JOB), refusal, json(200, ENDED));
    assert.equal((await new Client(url).wait("1")).status, "completed");
    assert.deepEqual(
      heard.map((each) => each.url),
      ["/jobs/1", "/jobs/1/events", "/jobs/1"],
    );
    assert.equal(heard[2].headers.prefer, "wait=20");
  }
});

test("a stream that breaks off is opened again", async (t) => {
  const told = (job) => events(`event: job\ndata: ${JSON.stringify(job)}\n\n`);
  const { url } = await answering(t, told(JOB), lost, told(ENDED));
  const states = [];
  for await (const job of new Client(url).follow(JOB)) states.push(job.status);
  assert.deepEqual(states, ["processing", "processing", "completed"]);
});

test("live events go on behind the last one that came", async (t) => {
  const { url, heard } = await answering(
    t,
    events('id: 7\n\nid: 8\nevent: log\ndata: {"id": "8"}\n\n'),
    lost,
    events('id: 9\ndata: {"id": "9"}\n\n'),
  );
  const seen = [];
  for await (const event of new Client(url, { key: "pxt_1" }).liveEvents({ type: "job.completed" })) {
    seen.push(event.id);
    if (event.id === "9") break;
  }
  assert.deepEqual(seen, ["8", "9"]);
  assert.deepEqual(
    heard.map(({ headers }) => headers["last-event-id"]),
    [undefined, "8", "8"],
  );
  assert.deepEqual(
    heard.map((each) => each.url),
    Array(3).fill("/events/stream?type=job.completed"),
  );
  assert.equal(heard[0].headers.authorization, "Bearer pxt_1");
});

test("a wait that is over says so, whatever the stream does", async (t) => {
  const { url } = await answering(t, silence);
  await assert.rejects(
    new Client(url).wait(JOB, { timeoutSeconds: 0.2 }),
    (error) => error instanceof WaitTimeout && error.job === JOB,
  );
});

test("a signal ends what is waited for, with its own reason", async (t) => {
  const { url, heard } = await answering(t, silence, silence, BUSY);
  const client = new Client(url, { onRetry: () => retried.abort(new Error("enough")) });
  const retried = new AbortController();
  for (const begin of [
    (signal) => client.wait(JOB, { signal }),
    (signal) => client.read({ name: "a", url: `${url}/a` }, { signal }),
  ]) {
    const stop = new AbortController();
    const waiting = begin(stop.signal);
    while (heard.length === 0) await new Promise(setImmediate);
    stop.abort(new Error("enough"));
    await assert.rejects(waiting, /^Error: enough$/);
    heard.length = 0;
  }
  await assert.rejects(client.submit(new Blob(), "flip", { signal: retried.signal }), /^Error: enough$/);
  await assert.rejects(client.submit(new Blob(), "flip", { signal: AbortSignal.abort(new Error("before")) }), /before/);
});

test("lists go on over pages, to their end or as far as asked", async (t) => {
  const page = (ids, next) =>
    json(200, { data: ids.map((id) => ({ id })), has_more: next !== null, next_cursor: next });
  const ids = Array.from({ length: 100 }, (_, index) => String(index));
  const { url, heard } = await answering(
    t,
    page(ids, "c1"),
    page(["100", "101"], null),
    page(ids, "c1"),
    page(["100"], "c2"),
  );
  const client = new Client(url);
  assert.equal((await gathered(client.jobs({ tag: "a:b", created_after: new Date(0) }))).length, 102);
  assert.equal((await gathered(client.jobs({ limit: 101 }))).length, 101);
  assert.deepEqual(
    heard.map((each) => each.url),
    [
      "/jobs?tag=a%3Ab&created_after=1970-01-01T00%3A00%3A00.000Z&limit=100",
      "/jobs?tag=a%3Ab&created_after=1970-01-01T00%3A00%3A00.000Z&limit=100&cursor=c1",
      "/jobs?limit=100",
      "/jobs?limit=1&cursor=c1",
    ],
  );
});

test("a download is checked, begun anew when it breaks off, and gets no key", async (t) => {
  const half = (_, response) => {
    response.writeHead(200, { "Content-Length": "5" });
    response.write("par");
    setTimeout(() => response.destroy(), 20);
  };
  const whole = (_, response) => response.end("image");
  const sha256 = "6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d";
  const { url, heard } = await answering(t, half, whole, whole);
  const client = new Client("http://127.0.0.1:9", { key: "pxt_1" });
  const result = { name: "a", url: `${url}/a`, content_type: "image/png", sha256 };
  const blob = await client.read(result);
  assert.deepEqual([await blob.text(), blob.type], ["image", "image/png"]);
  await assert.rejects(client.read({ ...result, sha256: "0" }), /differs from what the server has stored/);
  assert.ok(heard.every(({ headers }) => headers.authorization === undefined));
});

test("events are read from pieces of any size", () => {
  const text =
    'retry: 9\r\n: silence\r\n\r\nid: 1\r\nevent: log\r\ndata: {"a":\r\ndata:1}\r\n\r\nid: 2\r\n\r\ndata: 3\r\n\r\n';
  for (const size of [1, 2, 7, 1000]) {
    const parser = new EventParser("0");
    const found = [];
    for (let at = 0; at < text.length; at += size) found.push(...parser.feed(text.slice(at, at + size)));
    assert.deepEqual(found, [
      { name: "log", data: { a: 1 } },
      { name: "message", data: 3 },
    ]);
    assert.equal(parser.lastId, "2");
  }
});
