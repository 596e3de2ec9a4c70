// Jobs as they go on: by events where the server sends them, else by asking again; through restarts of the server.

import { Away, Problem, addressOf, events, get } from "./api.js";

const PAUSE_MS = 700;
const LONGEST_MS = 5000;
const MOST_STREAMS = 3; // a browser opens six connections to a server, and uploads need some
const OPEN = new Set(["pending", "processing"]);

export const isOpen = (job) => OPEN.has(job.status);

export class Live extends EventTarget {
  #followed = new Map(); // by the job's id: what hears of it
  #streams = new Map();
  #timer = 0;
  #pause = PAUSE_MS;
  #byEvents;

  /** @param byEvents whether the server has streams. */
  constructor(byEvents) {
    super();
    this.#byEvents = byEvents;
    this.away = false;
  }

  /** Hear of a job until it has ended; called with null: there is no such job any more. */
  follow(id, tell) {
    this.#followed.set(id, tell);
    if (this.#byEvents && this.#streams.size < MOST_STREAMS) this.#stream(id);
    this.#schedule(0);
  }

  stop(id) {
    this.#followed.delete(id);
    this.#streams.get(id)?.abort();
    this.#streams.delete(id);
  }

  #schedule(pause) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#look(), pause);
  }

  async #look() {
    const asked = [...this.#followed.keys()].filter((id) => !this.#streams.has(id));
    if (!asked.length) return;
    try {
      for (const job of await this.#jobs(asked)) this.#tell(job);
      this.#reached();
    } catch (error) {
      this.#missed(error);
    }
    if (this.#followed.size) this.#schedule(document.hidden ? Math.max(this.#pause, 2000) : this.#pause);
  }

  /** Several jobs in one request; what is not on the first page is asked for by itself. */
  async #jobs(ids) {
    if (ids.length < 3) return Promise.all(ids.map((id) => this.#job(id)));
    const { data } = await get("jobs?limit=100");
    const found = new Map(data.map((job) => [job.id, job]));
    return Promise.all(ids.map((id) => found.get(id) ?? this.#job(id)));
  }

  async #job(id) {
    try {
      return await get(`jobs/${id}`);
    } catch (error) {
      if (error instanceof Problem && [404, 410].includes(error.status)) return { id, gone: true };
      throw error;
    }
  }

  async #stream(id) {
    const stopper = new AbortController();
    this.#streams.set(id, stopper);
    try {
      for await (const { type, data } of events(`jobs/${id}/events`, stopper.signal)) {
        if (type === "job") this.#tell(JSON.parse(data));
        this.#reached();
      }
    } catch (error) {
      if (error.name === "AbortError") return;
      this.#missed(error);
    }
    this.#streams.delete(id);
    if (this.#followed.has(id)) this.#schedule(this.#pause); // asks how it ended, and goes on by asking
  }

  #tell(job) {
    const tell = this.#followed.get(job.id);
    if (!tell) return;
    if (job.gone || !isOpen(job)) this.stop(job.id);
    tell(job.gone ? null : job);
  }

  #reached() {
    this.#pause = PAUSE_MS;
    this.#setAway(false);
  }

  #missed(error) {
    this.#pause = Math.min(this.#pause * 1.5, LONGEST_MS);
    if (error instanceof Away || error instanceof TypeError || (error instanceof Problem && error.isBusy))
      this.#setAway(true);
    else if (error instanceof Problem && error.needsKey) this.dispatchEvent(new Event("refused"));
  }

  #setAway(away) {
    if (this.away === away) return;
    this.away = away;
    this.dispatchEvent(new Event("reach"));
  }
}

/** A job with what only this page adds: addresses that it can use. */
export function withAddresses(job) {
  return { ...job, results: job.results.map((result) => ({ ...result, address: addressOf(result, job.id) })) };
}
