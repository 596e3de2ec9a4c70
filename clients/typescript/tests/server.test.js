// The client for Node against the server of PIXTOOLS_URL, with the photograph photo.jpg (320 x 200) in this folder.

import assert from "node:assert/strict";
import { chmod, mkdtemp, readFile, readdir, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import {
  AssetNotFound,
  Client,
  Conflict,
  DownloadFailed,
  ExternalIdTaken,
  FileExists,
  Invalid,
  JobFailed,
  JobNotFound,
  Refused,
  StoreNotFound,
  TemplateNotFound,
  Unauthorized,
  WaitTimeout,
} from "../lib/node.js";
import { serverOfEnvironment } from "../lib/environment.js";
import { gathered } from "./answering.js";

const client = new Client();
const PHOTO = await readFile("photo.jpg");
const folder = () => mkdtemp(join(tmpdir(), "pixtools-"));
const BAD_TREE = '[{"op": "resize", "width": -1}, "explode"]';

/** A web server that has the photograph; with the requests that it got. */
async function site(t) {
  const requests = [];
  const server = createServer((request, response) => {
    requests.push(request);
    response.end(PHOTO);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  return { url: `http://127.0.0.1:${server.address().port}/2026/fetched.jpg`, requests };
}

test("an image is sent from wherever it is, and its results are the same", async () => {
  const sources = [
    ["photo.jpg", "photo.jpg"],
    [new File([PHOTO], "a.jpg"), "a.jpg"],
    [new Blob([PHOTO]), "image"],
    [PHOTO, "image"],
    [Uint8Array.from(PHOTO).buffer, "image"],
    [new Blob([PHOTO]).stream(), "image"],
  ];
  const jobs = await Promise.all(sources.map(([source]) => client.run(source, "flip")));
  assert.deepEqual(
    jobs.map((job) => job.input.filename),
    sources.map(([, filename]) => filename),
  );
  assert.equal(new Set(jobs.map((job) => job.input.sha256)).size, 1);
  assert.equal((await client.plan("photo.jpg", ["flip"], { filename: "b.jpg" })).input.width, 320);
});

test("errors have the code of the server and a class of their own", async () => {
  await assert.rejects(
    client.job("0198f3c2-0000-7000-8000-000000000000"),
    (error) => error instanceof JobNotFound && error.code === "job_not_found",
  );
  const job = await client.run("photo.jpg", "convert_png");
  await assert.rejects(
    client.cancel(job.id),
    (error) => error instanceof Conflict && error.code === "job_already_finished",
  );
  await assert.rejects(
    client.submit("photo.jpg", BAD_TREE),
    (error) => error instanceof Invalid && error.errors[0].pointer === "#/operations/0/width",
  );
  await assert.rejects(
    client.submit("nowhere/photo.jpg", "flip"),
    (error) => error instanceof Refused && /ENOENT/.test(error.message),
  );
  await assert.rejects(client.submit(".", "flip"), /not a file/);
  await assert.rejects(gathered(new Client(undefined, { key: "pxt_wrong" }).jobs()), Unauthorized);
  const broken = client.run("photo.jpg", [{ op: "crop", left: 9000, top: 0, width: 9, height: 9 }]);
  await assert.rejects(
    broken,
    (error) => error instanceof JobFailed && error.job.status === "failed" && error.code === error.error.code,
  );
});

test("what the server fetches gives what an upload gives", async (t) => {
  const { url, requests } = await site(t);
  const kept = { tags: { sku: "7" }, keep_seconds: 600 };
  const fetched = await client.run(url, "convert_png,flip", { ...kept, external_id: "ts-fetched" });
  await client.run({ url, headers: { Authorization: "Bearer s3cret" } }, ["flip"]);
  assert.deepEqual(
    requests.map(({ headers }) => headers.authorization),
    [undefined, "Bearer s3cret"],
  );
  assert.deepEqual([fetched.input.filename, fetched.input.source], ["fetched.jpg", { url }]);
  const sent = await client.run(PHOTO, "convert_png,flip", { ...kept, external_id: "ts-sent" });
  assert.deepEqual(
    fetched.results.map((each) => each.sha256),
    sent.results.map((each) => each.sha256),
  );
  for (const job of [fetched, sent]) {
    assert.deepEqual(job.tags, { sku: "7" });
    assert.equal(Date.parse(job.expires_at) - Date.parse(job.finished_at), 600_000);
  }
  const second = await client.run({ job: fetched.id, result: "convert_png" }, '["flip"]');
  assert.equal(second.input.sha256, fetched.results[0].sha256);
  assert.equal((await client.plan(new URL(url), ["flip"])).input.width, null);
  await assert.rejects(
    client.submit(PHOTO, ["flip"], { external_id: "ts-sent" }),
    (error) => error instanceof ExternalIdTaken && error.jobId === sent.id,
  );
});

test("jobs are found by what was said of them", async () => {
  const named = { filename: "ts.jpg", external_id: "ts-found", tags: { shop: "a:b" } };
  const job = await client.submit("photo.jpg", ["flip"], named);
  const before = new Date(Date.now() - 60_000);
  for (const filters of [
    { tag: "shop:a:b" },
    { external_id: "ts-found" },
    { filename: "ts.jpg", created_after: before },
  ]) {
    assert.deepEqual(
      (await gathered(client.jobs(filters))).map((each) => each.id),
      [job.id],
    );
  }
  assert.deepEqual(await gathered(client.jobs({ filename: "ts.jpg", created_before: before })), []);
});

test("a plan has what comes out, and every mistake", async () => {
  const facts = { format: "jpeg", width: 320, height: 200, bytes: PHOTO.length };
  for (const source of ["photo.jpg", { facts }]) {
    const { results } = await client.plan(source, [{ op: "resize", width: 100, then: ["convert_webp"] }]);
    assert.deepEqual([results[0].name, results[0].format, results[0].width], ["resize.convert_webp", "webp", 100]);
    await assert.rejects(client.plan(source, BAD_TREE, { tags: { "": "x" } }), (error) => {
      const pointers = error.errors.map((each) => each.pointer);
      return ["#/operations/0/width", "#/operations/1/op", "#/tags/"].every((each) => pointers.includes(each));
    });
  }
});

test("templates are stored in versions, named and deleted", async () => {
  const tree = [{ op: "resize", width: { param: "width" }, then: ["convert_png"] }];
  const params = { properties: { width: { type: "integer", default: 50 } } };
  for (const text of [tree, JSON.stringify(tree)]) {
    assert.equal((await client.putTemplate("ts", text, { params })).template, "ts@1");
  }
  assert.equal((await client.putTemplate("ts", "convert_webp")).version, 2);
  assert.deepEqual((await client.template("ts@1")).operations, tree);
  assert.ok((await client.templates()).some((each) => each.template === "ts@2"));
  const job = await client.run("photo.jpg", { template: "ts@1", params: { width: 60 } });
  assert.deepEqual([job.template, job.results[0].width], ["ts@1", 60]);
  await client.deleteTemplate("ts");
  await assert.rejects(client.template("ts"), TemplateNotFound);
});

test("assets and stores that are not there are errors of their own", async () => {
  const [logo] = (await client.run("photo.jpg", [{ op: "resize", width: 20, then: ["convert_png"] }])).results;
  assert.equal((await client.putAsset("ts.png", await client.read(logo))).width, 20);
  assert.deepEqual(
    (await client.assets()).map((each) => each.name),
    ["ts.png"],
  );
  await client.deleteAsset("ts.png");
  await assert.rejects(client.asset("ts.png"), AssetNotFound);
  assert.deepEqual(await client.stores(), []);
  await assert.rejects(client.store("none"), StoreNotFound);
  await assert.rejects(client.submit({ store: "none", key: "a" }, ["flip"]), StoreNotFound);
});

test("a result is written once and replaces nothing", async () => {
  const to = await folder();
  const job = await client.run("photo.jpg", "convert_png", { to, filename: "a.jpg" });
  const [result] = job.results;
  const path = join(to, "a-convert_png.png");
  const { mtimeMs } = await stat(path);
  assert.equal(await client.download(result, to), path);
  assert.equal((await stat(path)).mtimeMs, mtimeMs);
  await writeFile(path, "mine");
  await assert.rejects(client.download(result, to), FileExists);
  assert.equal(await client.download(result, to, { ifExists: "skip" }), path);
  const renamed = await client.download(result, to, { ifExists: "rename" });
  assert.deepEqual([renamed, await readFile(path, "utf8")], [join(to, "a-convert_png-2.png"), "mine"]);
  await client.download(result, to, { ifExists: "replace" });
  assert.deepEqual(await readFile(path), Buffer.from(await (await client.read(result)).arrayBuffer()));
  await assert.rejects(
    client.download({ ...result, sha256: "0" }, join(to, "b.png")),
    /differs from what the server has stored/,
  );
  await assert.rejects(
    client.download({ ...result, url: `${client.server}/nothing` }, join(to, "b.png")),
    DownloadFailed,
  );
  await assert.rejects(
    client.download(result, join(to, "nowhere", "b.png")),
    (error) => error instanceof DownloadFailed && /ENOENT/.test(error.message),
  );
  assert.deepEqual((await readdir(to)).sort(), ["a-convert_png-2.png", "a-convert_png.png"]);
  const archive = await client.archive(job.id, to);
  assert.equal((await readFile(archive, "latin1")).slice(0, 2), "PK");
  assert.equal((await client.readArchive(job.id)).size, (await stat(archive)).size);
  await assert.rejects(client.archive(job.id, to), FileExists);
});

test("a job that failed has its other results written", async () => {
  const to = await folder();
  const tree = ["convert_png", { op: "crop", left: 9000, top: 0, width: 9, height: 9 }];
  await assert.rejects(client.run("photo.jpg", tree, { to }), (error) => error.job.status === "completed_with_errors");
  assert.deepEqual(await readdir(to), ["photo-convert_png.png"]);
});

test("a job is waited for, cancelled, explained and deleted", async () => {
  const job = await client.submit("large.jpg", ["denoise"]);
  const began = Date.now();
  await assert.rejects(client.wait(job, { timeoutSeconds: 0.5 }), WaitTimeout);
  assert.ok(Date.now() - began < 10_000);
  assert.equal((await client.cancel(job.id)).status, "cancelled");
  assert.equal((await client.wait(job.id)).status, "cancelled");
  assert.match((await client.timeline(job.id)).join("\n"), /cancelled/);
  await client.delete(job.id);
  await assert.rejects(client.job(job.id), JobNotFound);
});

test("what operators ask for is answered", async () => {
  await client.live();
  assert.equal((await client.health()).status, "ok");
  assert.ok((await client.operations()).some((each) => each.name === "resize"));
  assert.deepEqual(await gathered(client.deadLetters()), []);
  assert.deepEqual(
    (await client.tenants()).map((each) => each.name),
    ["default"],
  );
  const made = await client.createWebhook("http://127.0.0.1:9/hook", { events: ["job.failed"] });
  assert.match(made.secret, /^whsec_/);
  assert.notEqual(await client.rotateWebhook(made.id, { overlap_seconds: 0 }), made.secret);
  assert.equal((await client.updateWebhook(made.id, { enabled: false })).enabled, false);
  assert.deepEqual(
    (await client.webhooks()).map((each) => each.id),
    [made.id],
  );
  await client.deleteWebhook(made.id);
});

test("a key of a file that others may read is refused", async () => {
  const file = join(await folder(), "key");
  await writeFile(file, "pxt_1\n");
  process.env.PIXTOOLS_KEY_FILE = file;
  await chmod(file, 0o644);
  assert.throws(() => new Client(), /can be read by others/);
  await chmod(file, 0o600);
  assert.ok(new Client());
  process.env.PIXTOOLS_KEY_FILE = `${file}.none`;
  assert.throws(() => new Client(), /cannot be read/);
  delete process.env.PIXTOOLS_KEY_FILE;
});

test("the local server is found", async (t) => {
  const [here, { PIXTOOLS_URL }] = [process.cwd(), process.env];
  t.after(() => {
    process.chdir(here);
    Object.assign(process.env, { PIXTOOLS_URL });
    delete process.env.PIXTOOLS_PORT;
  });
  delete process.env.PIXTOOLS_URL;
  process.chdir(await folder());
  assert.equal(serverOfEnvironment(), "http://127.0.0.1:8000");
  await writeFile(".env", "# local\nPIXTOOLS_PORT=8123  # mine\n");
  assert.equal(serverOfEnvironment(), "http://127.0.0.1:8123");
  process.env.PIXTOOLS_PORT = "8124";
  assert.equal(serverOfEnvironment(), "http://127.0.0.1:8124");
  process.env.PIXTOOLS_URL = "https://images.example";
  assert.equal(serverOfEnvironment(), "https://images.example");
});
