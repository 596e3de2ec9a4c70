// The images that were picked, their way to the server, and the jobs that they became.

import { Away, Problem, ask, get, newId, post, upload } from "./api.js";
import { isOpen, withAddresses } from "./live.js";
import { fileOf, forgetFile, keepFile, readList, tidy, writeList } from "./store.js";

const AT_ONCE = 2; // uploads
const PATIENCE_MS = 1500; // between two tries to reach the server

/** @typedef {"ready" | "queued" | "uploading" | "sent" | "refused"} State: `sent` ones have a job. */

export class Images extends EventTarget {
  list = [];
  #live;
  #running = 0;

  constructor(live) {
    super();
    this.#live = live;
  }

  /** Read what was there before the page was loaded again, and go on with it. */
  async restore() {
    for (const stored of readList()) {
      const item = { ...stored, progress: 0, job: null, file: stored.url ? null : await fileOf(stored.id) };
      if (!item.jobId && !item.file && !item.url) continue; // its file is gone, and there is no copy
      if (item.state === "uploading") item.state = "queued";
      this.list.push(item);
      this.#measure(item);
      if (item.jobId) this.#follow(item);
    }
    this.#tell();
    this.#next();
    await tidy();
  }

  add(files) {
    const added = [...files].map((file) => ({
      ...fresh(),
      name: file.name || "pasted.png",
      size: file.size,
      type: file.type,
      file,
    }));
    for (const item of added) {
      keepFile(item.id, item.file);
      this.#measure(item);
    }
    this.list.push(...added);
    this.#tell();
    return added;
  }

  addUrl(url) {
    const name = decodeURIComponent(new URL(url).pathname.split("/").pop() || "image");
    this.list.push({ ...fresh(), name, url, size: null, type: "", file: null });
    this.#tell();
  }

  /** Its address in this page and its size, for what the browser can show. */
  async #measure(item) {
    if (!item.file) return;
    item.address ??= URL.createObjectURL(item.file);
    const image = new Image();
    image.src = item.address;
    try {
      await image.decode();
      item.shown = true;
      item.width = image.naturalWidth;
      item.height = image.naturalHeight;
    } catch {
      item.shown = false; // HEIC and TIFF, in most browsers
    }
    this.#tell(item);
  }

  /** Run a recipe on all images, or again on those that have been through another one. */
  run(operations) {
    for (const item of this.list.filter((each) => each.state !== "uploading" && !(each.job && isOpen(each.job)))) {
      Object.assign(item, {
        state: "queued",
        operations,
        idempotencyKey: newId(),
        error: null,
        progress: 0,
        jobId: null,
        job: null,
      });
      this.#tell(item);
    }
    this.#tell();
    this.#next();
  }

  #next() {
    while (this.#running < AT_ONCE) {
      const item = this.list.find((each) => each.state === "queued");
      if (!item) return;
      this.#running += 1;
      item.state = "uploading";
      this.#tell(item);
      this.#send(item).finally(() => {
        this.#running -= 1;
        this.#tell(item);
        this.#tell();
        this.#next();
      });
    }
  }

  async #send(item) {
    item.stopper = new AbortController();
    try {
      const job = await this.#untilAnswered(item);
      Object.assign(item, { state: "sent", jobId: job.id, job: withAddresses(job), waiting: "" });
      this.#follow(item);
    } catch (error) {
      if (error.name === "AbortError") item.state = "ready";
      else this.#refused(item, error);
    }
  }

  /** Send it, as often as it takes: the key makes every try the same request, so that there is one job at the end. */
  async #untilAnswered(item) {
    for (;;) {
      try {
        item.waiting = "";
        return await this.#submit(item);
      } catch (error) {
        const pause = error instanceof Away ? PATIENCE_MS : error.isBusy ? (error.retryAfter || 2) * 1000 : 0;
        if (!pause) throw error;
        item.waiting = error instanceof Away ? "Waiting for the server" : error.message;
        item.progress = 0;
        this.#tell(item);
        await sleep(pause, item.stopper.signal);
      }
    }
  }

  #submit(item) {
    if (item.url) {
      return askJson("process", { input: { url: item.url }, operations: item.operations }, item);
    }
    const form = new FormData();
    form.append("operations", JSON.stringify(item.operations));
    form.append("file", item.file, item.name);
    return upload("process", form, {
      idempotencyKey: item.idempotencyKey,
      signal: item.stopper.signal,
      onprogress: (share) => {
        item.progress = share;
        this.#tell(item);
      },
    });
  }

  #refused(item, error) {
    const message = error instanceof Problem ? error.message : "Something went wrong in this page.";
    if (!(error instanceof Problem)) console.error(error);
    Object.assign(item, { state: "refused", error: { message, code: error.code ?? "" } });
    const isTree = error instanceof Problem && error.errors.some(({ pointer }) => pointer.startsWith("#/operations"));
    if (isTree || error.needsKey) {
      // The others would be refused for the same reason
      for (const other of [item, ...this.list.filter((each) => each.state === "queued")])
        Object.assign(other, { state: "ready", error: null });
    }
    this.dispatchEvent(new CustomEvent("problem", { detail: { error, refused: isTree ? item.operations : null } }));
  }

  #follow(item) {
    this.#live.follow(item.jobId, (job) => {
      if (!this.list.includes(item)) return;
      if (job) item.job = withAddresses(job);
      else
        Object.assign(item, {
          state: "refused",
          job: null,
          jobId: null,
          error: {
            message: "The job is gone: the server keeps jobs and results only for a time.",
            code: "job_not_found",
          },
        });
      this.#tell(item);
      this.#tell();
    });
  }

  async cancel(item) {
    if (item.job) await this.#change(item, "cancel");
    else {
      item.stopper?.abort();
      item.state = "ready";
      this.#tell(item);
    }
  }

  retry(item) {
    return item.job ? this.#change(item, "retry") : this.#again(item);
  }

  #again(item) {
    Object.assign(item, { state: "queued", error: null, idempotencyKey: newId() });
    this.#tell(item);
    this.#next();
  }

  async #change(item, verb) {
    try {
      item.job = withAddresses(await post(`jobs/${item.jobId}/${verb}`));
    } catch (error) {
      this.dispatchEvent(new CustomEvent("problem", { detail: { error, refused: null } }));
      item.job = withAddresses(await get(`jobs/${item.jobId}`));
    }
    if (isOpen(item.job)) this.#follow(item);
    this.#tell(item);
    this.#tell();
  }

  /** Take an image from the list; its job stays in the history. */
  remove(item) {
    item.stopper?.abort();
    if (item.jobId) this.#live.stop(item.jobId);
    if (item.address) URL.revokeObjectURL(item.address);
    forgetFile(item.id);
    this.list = this.list.filter((each) => each !== item);
    this.#tell();
  }

  clear() {
    for (const item of [...this.list]) this.remove(item);
  }

  /** Fresh addresses of the results, which hold for an hour. */
  async refresh(item) {
    item.job = withAddresses(await get(`jobs/${item.jobId}`));
    this.#tell(item);
  }

  #tell(item = null) {
    writeList(this.list.map(stored));
    this.dispatchEvent(new CustomEvent("change", { detail: item }));
  }
}

const fresh = () => ({
  id: newId(),
  state: "ready",
  progress: 0,
  error: null,
  job: null,
  jobId: null,
  operations: null,
  idempotencyKey: "",
  waiting: "",
});

function stored({ id, name, size, type, url, state, jobId, operations, idempotencyKey, error, width, height }) {
  return { id, name, size, type, url, state, jobId, operations, idempotencyKey, error, width, height };
}

async function askJson(path, body, item) {
  const headers = { "Content-Type": "application/json", "Idempotency-Key": `"${item.idempotencyKey}"` };
  return (await ask(path, { method: "POST", body: JSON.stringify(body), headers, signal: item.stopper.signal })).json();
}

function sleep(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("stopped", "AbortError"));
    });
  });
}
