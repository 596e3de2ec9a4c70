// The jobs that the server still has, newest first.

import { get, remove } from "./api.js";
import { button, h, iconButton, replace } from "./dom.js";
import { ago, bytes, moment, percent, plural, seconds } from "./format.js";
import { isOpen, withAddresses } from "./live.js";
import { Row, statusText } from "./rows.js";

const STATES = ["", "processing", "completed", "completed_with_errors", "failed", "cancelled"];

export class History {
  #cursor = null;
  #jobs = [];
  #opened = null;
  #status = "";

  constructor(element, { actions, live, onproblem }) {
    this.element = element;
    this.actions = actions;
    this.live = live;
    this.onproblem = onproblem;
  }

  async open(jobId = null) {
    this.#opened = jobId;
    await this.#load();
  }

  async #load({ more = false } = {}) {
    try {
      const query = new URLSearchParams({ limit: "30" });
      if (this.#status) query.set("status", this.#status);
      if (more && this.#cursor) query.set("cursor", this.#cursor);
      const page = await get(`jobs?${query}`);
      this.#jobs = more ? [...this.#jobs, ...page.data] : page.data;
      this.#cursor = page.next_cursor;
      if (this.#opened && !this.#jobs.some(({ id }) => id === this.#opened)) {
        this.#jobs.unshift(await get(`jobs/${this.#opened}`));
      }
    } catch (error) {
      this.onproblem(error);
    }
    this.#draw();
  }

  #draw() {
    const filter = h(
      "select",
      { id: "history-status", "data-focus": "status" },
      STATES.map((state) =>
        h("option", { value: state, text: state ? statusText(state) : "All", selected: state === this.#status }),
      ),
    );
    filter.addEventListener("change", () => {
      this.#status = filter.value;
      this.#load();
    });
    replace(
      this.element,
      h(
        "div",
        { class: "view-head" },
        h("h1", { text: "History" }),
        h("label", { class: "filter" }, h("span", { text: "Show" }), filter),
        button("Refresh", () => this.#load(), { icon: "retry", class: "button small", "data-focus": "refresh" }),
      ),
      this.#jobs.length ? this.#table() : this.#empty(),
      this.#cursor
        ? h(
            "div",
            { class: "more-row" },
            button("Show more", () => this.#load({ more: true }), { "data-focus": "more" }),
          )
        : null,
    );
  }

  #empty() {
    return h(
      "div",
      { class: "empty" },
      h("p", { class: "empty-title", text: this.#status ? "No job is in this state" : "No jobs yet" }),
      h("p", {
        text: "Every image that you run through a recipe becomes a job, which stays here as long as the server keeps its results.",
      }),
    );
  }

  #table() {
    return h(
      "table",
      { class: "jobs" },
      h("caption", { class: "visually-hidden", text: "Jobs, newest first" }),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          ["Image", "State", "Results", "Size", "Took", "When"].map((text) => h("th", { scope: "col", text })),
        ),
      ),
      h(
        "tbody",
        {},
        this.#jobs.flatMap((job) => [this.#line(job), this.#opened === job.id ? this.#detail(job) : null]),
      ),
    );
  }

  #line(job) {
    const opened = this.#opened === job.id;
    const out = job.results.reduce((sum, result) => sum + result.bytes, 0);
    const smallest = Math.min(...job.results.map((result) => result.bytes));
    const took = job.finished_at ? seconds((new Date(job.finished_at) - new Date(job.created_at)) / 1000) : "";
    return h(
      "tr",
      { class: opened ? "opened" : "", "data-state": job.status, "data-job": job.id },
      h(
        "th",
        { scope: "row" },
        h("button", {
          type: "button",
          class: "link job-name",
          "aria-expanded": String(opened),
          "data-focus": job.id,
          onclick: () => this.#toggle(job.id),
          text: job.input.filename,
        }),
      ),
      h(
        "td",
        {},
        h("span", { class: "row-status" }, h("span", { class: "dot", "aria-hidden": "true" }), statusText(job.status)),
      ),
      h("td", { class: "number-cell", text: job.results.length ? plural(job.results.length, "file") : "–" }),
      h("td", {
        class: "number-cell",
        text: job.results.length
          ? `${bytes(job.input.bytes ?? 0)} → ${bytes(out)}`
          : job.input.bytes
            ? bytes(job.input.bytes)
            : "–",
        title:
          job.results.length && job.input.bytes
            ? `The smallest is ${percent(smallest / job.input.bytes)} of the upload`
            : "",
      }),
      h("td", { class: "number-cell", text: took || "–" }),
      h(
        "td",
        { class: "number-cell" },
        h("time", { datetime: job.created_at, title: moment(job.created_at), text: ago(job.created_at) }),
      ),
    );
  }

  #toggle(id) {
    this.#opened = this.#opened === id ? null : id;
    history.replaceState(null, "", this.#opened ? `#/jobs/${this.#opened}` : "#/jobs");
    this.#draw();
  }

  #detail(job) {
    const item = {
      id: job.id,
      name: job.input.filename,
      size: job.input.bytes,
      type: "",
      state: "sent",
      file: null,
      job: withAddresses(job),
      jobId: job.id,
    };
    const row = new Row({
      ...this.actions,
      remove: null,
      cancel: () => this.#change(job, "cancel"),
      retry: () => this.#change(job, "retry"),
    });
    row.update(item);
    const list = h("ul", { class: "rows" }, row.element);
    if (isOpen(job)) this.live.follow(job.id, (newer) => this.#follow(row, item, newer));
    return h(
      "tr",
      { class: "detail" },
      h(
        "td",
        { colspan: 6 },
        list,
        h(
          "div",
          { class: "detail-foot" },
          h("code", { class: "job-id", text: job.id }),
          button("Use this recipe", () => this.actions.use(job.operations), {
            class: "button small",
            "data-focus": "use",
          }),
          iconButton("trash", "Delete the job and its results", () => this.#delete(job), { "data-focus": "delete" }),
        ),
      ),
    );
  }

  #follow(row, item, newer) {
    if (!newer) return;
    item.job = withAddresses(newer);
    row.update(item);
    this.#jobs = this.#jobs.map((each) => (each.id === newer.id ? newer : each));
    if (!isOpen(newer)) this.#draw();
  }

  async #change(job, verb) {
    await this.actions.change(job, verb);
    await this.#load();
  }

  async #delete(job) {
    if (
      !(await this.actions.confirm(
        `Delete ${job.input.filename} and its results?`,
        "They will be gone at once, for everyone.",
        "Delete",
      ))
    )
      return;
    try {
      await remove(`jobs/${job.id}`);
      this.#opened = null;
    } catch (error) {
      this.onproblem(error);
    }
    await this.#load();
  }
}
