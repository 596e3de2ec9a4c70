// One row for each image: how far it is, and what came out.

import { button, h, icon, iconButton, replace } from "./dom.js";
import { bytes, percent, saved, savedText, seconds, size, until } from "./format.js";
import { isOpen } from "./live.js";

const VIEWABLE = new Set(["webp", "avif", "jpeg", "png", "gif"]);
const SAID = {
  pending: "Waiting for a worker",
  processing: "Working",
  completed: "Done",
  completed_with_errors: "Done, with errors",
  failed: "Failed",
  cancelled: "Cancelled",
};

export const isText = (result) => result.format === "json" || result.format === "html";
export const isViewable = (result) => VIEWABLE.has(result.format);
export const statusText = (status) => SAID[status] ?? status;

/** The rows of a list of images, each kept while its image is there. */
export class Rows {
  #rows = new Map();

  constructor(element, actions) {
    this.element = element;
    this.actions = actions;
  }

  show(list) {
    for (const [id, row] of this.#rows) {
      if (!list.some((item) => item.id === id)) {
        row.element.remove();
        this.#rows.delete(id);
      }
    }
    for (const [index, item] of list.entries()) {
      const row = this.#rows.get(item.id) ?? this.#new(item);
      row.update(item);
      if (this.element.children[index] !== row.element)
        this.element.insertBefore(row.element, this.element.children[index] ?? null);
    }
  }

  update(item) {
    this.#rows.get(item.id)?.update(item);
  }

  #new(item) {
    const row = new Row(this.actions);
    this.#rows.set(item.id, row);
    return row;
  }
}

/** One image. */
export class Row {
  #drawn = { head: "", steps: "", results: "" };

  constructor(actions) {
    this.actions = actions;
    this.thumb = h("div", { class: "thumb" });
    this.about = h("div", { class: "row-about" });
    this.tools = h("div", { class: "row-tools" });
    this.bar = h("div", { class: "bar", hidden: true }, h("div", { class: "bar-fill" }));
    this.steps = h("ol", { class: "steps", "aria-label": "Steps" });
    this.results = h("div", { class: "results" });
    this.element = h(
      "li",
      { class: "row" },
      h("div", { class: "row-head" }, this.thumb, this.about, this.tools),
      this.bar,
      this.steps,
      this.results,
    );
  }

  update(item) {
    const { job } = item;
    this.element.dataset.state = job?.status ?? item.state;
    this.#once(
      "head",
      [
        item.name,
        item.size,
        item.width,
        item.height,
        item.shown,
        item.state,
        item.waiting,
        item.error,
        job?.status,
        job?.error,
        job?.input,
        job?.expires_at,
      ],
      () => this.#drawHead(item),
    );
    this.#progress(item);
    this.#once(
      "steps",
      job?.steps.map((step) => [step.status, step.progress, step.seconds_left, step.error]),
      () => this.#drawSteps(job),
    );
    this.#once(
      "results",
      job?.results.map((result) => result.address),
      () => this.#drawResults(item),
    );
  }

  /** Draw a part again when what it shows has changed. */
  #once(part, facts, draw) {
    const seen = JSON.stringify(facts ?? null);
    if (seen === this.#drawn[part]) return;
    this.#drawn[part] = seen;
    draw();
  }

  #drawHead(item) {
    const { job } = item;
    const shown = item.shown && item.address;
    replace(
      this.thumb,
      shown
        ? h("img", { src: item.address, alt: "", decoding: "async" })
        : (thumbOfResults(job) ?? h("span", { class: "thumb-none" }, icon("image"))),
    );
    const width = item.width ?? job?.input.width;
    const height = item.height ?? job?.input.height;
    const facts = [
      size(width, height),
      (item.size ?? job?.input.bytes) ? bytes(item.size ?? job.input.bytes) : "",
      formatOf(item),
    ].filter(Boolean);
    const error = item.error ?? job?.error;
    replace(
      this.about,
      h("div", { class: "row-name", title: item.name, text: item.name }),
      h("div", { class: "row-facts", text: facts.join(" · ") }),
      error
        ? h(
            "div",
            { class: "row-error" },
            icon("alert"),
            h("span", { text: error.message }),
            error.code ? codeLink(error.code) : null,
          )
        : null,
    );
    replace(this.tools, h("span", { class: "row-status" }, statusOf(item)), this.#buttons(item));
  }

  #buttons(item) {
    const { job } = item;
    const busy = ["queued", "uploading"].includes(item.state) || (job && isOpen(job));
    const again =
      (job && ["failed", "completed_with_errors", "cancelled"].includes(job.status)) ||
      (!job && item.state === "refused");
    return [
      busy
        ? iconButton("stop", `Cancel ${item.name}`, () => this.actions.cancel(item), { "data-focus": "cancel" })
        : null,
      again
        ? button("Retry", () => this.actions.retry(item), {
            icon: "retry",
            class: "button small",
            "data-focus": "retry",
          })
        : null,
      job?.results.length > 1 && !isOpen(job)
        ? button("ZIP", () => this.actions.archive(job), {
            icon: "download",
            class: "button small",
            "data-focus": "zip",
            "aria-label": `Download all results of ${item.name} as a ZIP`,
          })
        : null,
      this.actions.remove && !busy
        ? iconButton("close", `Remove ${item.name} from the list`, () => this.actions.remove(item), {
            "data-focus": "remove",
          })
        : null,
    ];
  }

  #progress(item) {
    const share = progressOf(item);
    this.bar.hidden = share === null;
    if (share === null) return;
    this.bar.classList.toggle("unsure", share === 0);
    this.bar.firstChild.style.setProperty("--share", String(share));
    this.bar.setAttribute("role", "progressbar");
    this.bar.setAttribute("aria-label", `Progress of ${item.name}`);
    this.bar.setAttribute("aria-valuenow", String(Math.round(share * 100)));
  }

  #drawSteps(job) {
    const tell = job && (isOpen(job) || job.steps.some((step) => step.error));
    replace(this.steps, tell ? job.steps.map((step) => stepItem(step)) : null);
    this.steps.hidden = !tell;
  }

  #drawResults(item) {
    const { job } = item;
    this.results.hidden = !job?.results.length;
    if (this.results.hidden) return;
    const before = job.input.bytes;
    replace(
      this.results,
      h(
        "table",
        {},
        h("caption", { class: "visually-hidden", text: `Results of ${item.name}` }),
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            ["Result", "Dimensions", "Size", "Saved"].map((text) => h("th", { scope: "col", text })),
            h("th", { scope: "col" }, h("span", { class: "visually-hidden", text: "Actions" })),
          ),
        ),
        h(
          "tbody",
          {},
          job.results.map((result) => this.#result(item, result, before)),
        ),
      ),
    );
  }

  #result(item, result, before) {
    const isData = isText(result);
    const share = saved(before, result.bytes);
    return h(
      "tr",
      { "data-result": result.name },
      h(
        "th",
        { scope: "row" },
        h(
          "span",
          { class: "result" },
          h("span", { class: `format ${result.format}`, text: result.format }),
          h("span", { class: "mono result-title", text: result.name }),
        ),
      ),
      h("td", { class: "number-cell dims", text: size(result.width, result.height) || "–" }),
      h("td", { class: "number-cell", text: bytes(result.bytes) }),
      h(
        "td",
        { class: "saved-cell" },
        isData || !before ? h("span", { class: "quiet", text: "–" }) : savedBar(share, before, result.bytes),
      ),
      h("td", { class: "action-cell" }, h("span", { class: "actions" }, this.#resultActions(item, result))),
    );
  }

  #resultActions(item, result) {
    const { name, filename, address } = result;
    return [
      isViewable(result)
        ? button("Compare", () => this.actions.compare(item, result), {
            icon: "compare",
            class: "button small",
            "aria-label": `Compare ${name}`,
            "data-focus": `compare/${name}`,
          })
        : null,
      isText(result)
        ? button("Read", () => this.actions.read(item, result), {
            icon: "info",
            class: "button small",
            "aria-label": `Read ${name}`,
            "data-focus": `read/${name}`,
          })
        : null,
      h(
        "a",
        {
          class: "icon-button",
          href: address,
          download: filename,
          "aria-label": `Download ${filename}`,
          title: `Download ${filename}`,
          "data-focus": `get/${name}`,
        },
        icon("download"),
      ),
    ];
  }
}

function savedBar(share, before, after) {
  const fill = h("span", { class: "saved-fill" });
  fill.style.setProperty("--share", String(Math.min(1, Math.max(0, share))));
  const text = share >= 0.005 ? `−${percent(share)}` : share <= -0.005 ? `+${percent(share)}` : "0 %";
  return h(
    "span",
    { class: share < -0.005 ? "saved more" : "saved", title: savedText(before, after) },
    h("span", { class: "saved-bar", "aria-hidden": "true" }, fill),
    h("span", { class: "saved-text", text }),
  );
}

function thumbOfResults(job) {
  const smallest = job?.results.filter(isViewable).sort((one, other) => one.bytes - other.bytes)[0];
  return smallest ? h("img", { src: smallest.address, alt: "", decoding: "async", loading: "lazy" }) : null;
}

const formatOf = (item) =>
  (item.job?.input.format ?? item.type.replace("image/", "") ?? "").toUpperCase().replace("SVG+XML", "SVG");

function statusOf(item) {
  const { job } = item;
  if (item.waiting) return h("span", { text: item.waiting });
  if (!job)
    return { ready: "", queued: "Queued", uploading: "Uploading", refused: "Refused", sent: "Sent" }[item.state];
  const spent = job.finished_at ? (new Date(job.finished_at) - new Date(job.created_at)) / 1000 : 0;
  const more = spent ? ` in ${seconds(spent)}` : "";
  const kept =
    job.expires_at && job.results.length
      ? h("span", { class: "quiet", text: ` · removed ${until(job.expires_at)}` })
      : null;
  return h(
    "span",
    {},
    h("span", { class: "dot", "aria-hidden": "true" }),
    job.status === "completed" ? `Done${more}` : statusText(job.status),
    kept,
  );
}

/** The share that is done of upload and steps; null: nothing is being done. */
export function progressOf(item) {
  const { job } = item;
  if (item.state === "uploading" && !job) return item.waiting ? 0 : item.progress * 0.3;
  if (!job || !isOpen(job)) return null;
  const done = job.steps.reduce(
    (sum, step) => sum + (["pending", "running"].includes(step.status) ? step.progress : 1),
    0,
  );
  return (item.file === null ? 0 : 0.3) + (done / Math.max(1, job.steps.length)) * (item.file === null ? 1 : 0.7);
}

const STEP_SAID = {
  pending: "waits",
  running: "runs",
  succeeded: "done",
  failed: "failed",
  skipped: "skipped",
  cancelled: "cancelled",
};

export function stepItem(step) {
  const share = step.status === "running" && step.progress > 0 ? `${Math.floor(step.progress * 100)} %` : "";
  const left = share && step.seconds_left ? `${seconds(step.seconds_left)} left` : "";
  const spent = step.status === "succeeded" && step.seconds !== null ? seconds(step.seconds) : "";
  return h(
    "li",
    { class: "step", "data-state": step.status },
    h(
      "span",
      { class: "step-mark", "aria-hidden": "true" },
      step.status === "succeeded" ? icon("check") : ["failed", "skipped"].includes(step.status) ? icon("alert") : null,
    ),
    h("span", { class: "step-name", text: step.op }),
    h("span", {
      class: "step-state",
      text: [share || spent || STEP_SAID[step.status], left].filter(Boolean).join(", "),
    }),
    step.error ? h("span", { class: "step-error", text: step.error.message }) : null,
  );
}

export function codeLink(code) {
  return h("a", { class: "code-link", href: `help/errors#${code}`, target: "_blank", rel: "noopener", text: code });
}
