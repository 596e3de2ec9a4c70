// For operators: how the service is, what waits, what failed. All of it comes by the API, with a key of scope `admin`.

import { Away, Problem, ask, capabilities, get, hasKey, headers, onKey, post } from "./api.js";
import { askForKey } from "./dialogs.js";
import { button, h, replace, toast } from "./dom.js";
import { ago, bytes, moment, plural, seconds } from "./format.js";
import { isOpen } from "./live.js";

const EVERY_MS = 5000;
const MOST_TENANTS = 20;
const LATE_SECONDS = 60; // a job that waits for so long is worth a look
const $ = (id) => document.getElementById(id);

/** Samples of the text that Prometheus reads, by name: their labels and values. */
export function samplesOf(text) {
  const found = new Map();
  for (const [, name, labels = "", value] of text.matchAll(/^(\w+)(?:\{(.*)\})? (\S+)$/gm)) {
    const read = Object.fromEntries([...labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, key, of]) => [key, of]));
    found.set(name, [...(found.get(name) ?? []), { labels: read, value: Number(value) }]);
  }
  return found;
}

class Admin {
  #opened = null;
  #tenant = "";
  #tenantsAt = 0;
  #timelines = new Map(); // by the job's id: what happened, in words
  #can = {};

  async start() {
    $("key").addEventListener("click", () => askForKey());
    onKey(() => this.#keyChanged());
    this.#keyChanged();
    this.#can = await capabilities();
    for (;;) {
      await this.#refresh();
      await new Promise((resolve) => setTimeout(resolve, document.hidden ? EVERY_MS * 6 : EVERY_MS));
    }
  }

  #keyChanged() {
    $("key").classList.toggle("set", hasKey());
    $("key-text").textContent = hasKey() ? "Key set" : "API key";
    if (hasKey()) this.#refresh();
  }

  /** Each part by itself: a key may open some of them only. */
  async #refresh() {
    if (document.querySelector("dialog[open]")) return;
    const parts = [this.#state(), this.#jobs(), this.#deliveries()];
    if (this.#can.usage) parts.push(this.#usage());
    if (this.#can.deadLetters) parts.push(this.#letters());
    if (this.#can.tenants && this.#can.usage) parts.push(this.#tenants());
    const errors = (await Promise.allSettled(parts)).map(({ reason }) => reason).filter(Boolean);
    $("away").hidden = !errors.some((error) => error instanceof Away);
    const refused = errors.find((error) => error instanceof Problem && [401, 403].includes(error.status));
    if (refused && !document.querySelector("dialog[open]") && !(hasKey() && refused.status === 403)) {
      askForKey("This page needs an API key with the scope admin.");
    } else if (refused) {
      $("overall").textContent = refused.message;
    }
    for (const error of errors.filter((each) => !(each instanceof Problem || each instanceof Away)))
      console.error(error);
  }

  async #state() {
    const [health, metrics] = await Promise.all([healthNow(), ask("metrics").then((answer) => answer.text())]);
    const samples = samplesOf(metrics);
    $("overall").parentElement.dataset.health = health.status;
    const open = sum(samples, "pixtools_open_jobs");
    const dead = sum(samples, "pixtools_dead_letters_waiting");
    replace(
      $("overall"),
      h("span", { class: "dot", "aria-hidden": "true" }),
      { ok: "All is well", degraded: "Degraded: work is accepted but waits", down: "Down: no work is accepted" }[
        health.status
      ],
      ` · ${plural(open, "unfinished job")}${dead ? ` · ${plural(dead, "dead letter")}: see pixtools dlq list` : ""}`,
    );
    this.#queues(health.queues, samples);
    this.#needs(health.checks);
    this.#failures(samples);
  }

  #queues(queues, samples) {
    const of = (name, queue) => samples.get(name)?.find(({ labels }) => labels.queue === queue)?.value ?? 0;
    const rows = Object.entries(queues).map(([name, { messages, workers }]) => {
      const age = of("pixtools_queue_age_seconds", name);
      return [
        h("th", { scope: "row", class: "mono", text: name }),
        number(of("pixtools_due_tasks", name)),
        number(messages),
        number(of("pixtools_steps_running", name)),
        h("td", { class: age > LATE_SECONDS ? "number-cell late" : "number-cell", text: age ? seconds(age) : "–" }),
        h("td", { class: workers ? "number-cell" : "number-cell late", text: workers }),
      ];
    });
    const waiting = plural(sum(samples, "pixtools_due_tasks"), "task");
    const running = plural(sum(samples, "pixtools_steps_running"), "operation");
    const alone = `The workers run inside the server, without a broker: ${waiting} due, ${running} running.`;
    replace(
      $("queues"),
      rows.length
        ? table(["Queue", "Due", "In the broker", "Running", "Oldest waits", "Workers"], rows, "Queues")
        : h("p", { class: "hint", text: alone }),
    );
  }

  #needs(checks) {
    const rows = Object.entries(checks).map(([name, check]) => [
      h("th", { scope: "row", "data-health": check.status }, h("span", { class: "dot", "aria-hidden": "true" }), name),
      h("td", { class: "left", text: check.status }),
      h("td", { class: "left error-text", text: check.error ?? "" }),
      h("td", { class: "number-cell", text: seconds(check.seconds) }),
    ]);
    replace($("needs"), table(["Part", "State", "", "Answers in"], rows, "Dependencies", [1, 2]));
  }

  #failures(samples) {
    const errors = (samples.get("pixtools_step_errors_total") ?? []).filter(({ value }) => value > 0);
    const refusals = (samples.get("pixtools_uploads_total") ?? []).filter(
      ({ labels, value }) => value > 0 && !["accepted", "replayed"].includes(labels.outcome),
    );
    const all = [
      ...errors.map(({ labels, value }) => ({ code: labels.code, kind: "a step failed", value })),
      ...refusals.map(({ labels, value }) => ({ code: labels.outcome, kind: "an upload was refused", value })),
    ].sort((one, other) => other.value - one.value);
    const most = all[0]?.value ?? 1;
    const rows = all.map(({ code, kind, value }) => [
      h("th", { scope: "row" }, h("a", { class: "mono", href: `help/errors#${code}`, text: code })),
      h("td", { class: "left", text: kind }),
      h("td", { class: "left" }, shareBar(value / most)),
      number(value),
    ]);
    replace(
      $("failures"),
      rows.length
        ? table(["Code", "What", "", "Since the start"], rows, "Failures by code", [1, 2])
        : h("p", { class: "hint", text: "Nothing has failed since the processes started." }),
    );
  }

  async #jobs() {
    const { data } = await get("jobs?limit=15");
    const rows = data.flatMap((job) => {
      const opened = this.#opened === job.id;
      const line = h(
        "tr",
        { "data-state": job.status, "data-job": job.id },
        h(
          "th",
          { scope: "row" },
          h("button", {
            type: "button",
            class: "link job-link",
            "aria-expanded": String(opened),
            "data-focus": job.id,
            text: job.input.filename,
            onclick: () => this.#toggle(job.id),
          }),
        ),
        h(
          "td",
          { class: "left" },
          h("span", {}, h("span", { class: "dot", "aria-hidden": "true" }), job.status.replaceAll("_", " ")),
        ),
        h("td", {
          class: "left error-text",
          text: job.error?.message ?? job.steps.find((step) => step.error)?.error.message ?? "",
        }),
        h("td", {
          class: "number-cell",
          text: job.finished_at ? seconds((new Date(job.finished_at) - new Date(job.created_at)) / 1000) : "–",
        }),
        h(
          "td",
          { class: "number-cell" },
          h("time", { datetime: job.created_at, title: moment(job.created_at), text: ago(job.created_at) }),
        ),
      );
      return opened
        ? [line, h("tr", {}, h("td", { colspan: 5 }, waterfall(job), timeline(this.#timelines.get(job.id))))]
        : [line];
    });
    const head = h(
      "thead",
      {},
      h(
        "tr",
        {},
        ["Image", "State", "Error", "Took", "When"].map((text, index) =>
          h("th", { scope: "col", class: [1, 2].includes(index) ? "left" : "", text }),
        ),
      ),
    );
    replace(
      $("jobs"),
      data.length
        ? h("table", {}, h("caption", { class: "visually-hidden", text: "Newest jobs" }), head, h("tbody", {}, rows))
        : h("p", { class: "hint", text: "No jobs yet." }),
    );
  }

  async #toggle(id) {
    this.#opened = this.#opened === id ? null : id;
    if (this.#opened && this.#can.timeline) {
      try {
        this.#timelines.set(id, (await get(`jobs/${id}/timeline`)).lines);
      } catch (error) {
        toast(error.message);
      }
    }
    await this.#jobs();
  }

  async #letters() {
    const { data } = await get("dead-letters?limit=15");
    const rows = data.map((letter) => [
      h("th", { scope: "row" }, h("a", { class: "mono", href: `help/errors#${letter.reason}`, text: letter.reason })),
      h("td", { class: "left", text: letter.operations.join(", ") }),
      h("td", { class: "left error-text", text: letter.message }),
      h("td", { class: "number-cell", text: ago(letter.created_at) }),
      h(
        "td",
        { class: "number-cell" },
        button("Redrive", () => this.#redrive(letter.id), {
          class: "button small",
          "data-focus": letter.id,
          "aria-label": `Redrive ${letter.operations.join(", ")}`,
        }),
      ),
    ]);
    $("letters-part").hidden = false;
    replace(
      $("letters"),
      rows.length
        ? table(["Reason", "Operations", "", "When", ""], rows, "Dead letters", [1, 2])
        : h("p", { class: "hint", text: "No work has been given up." }),
    );
  }

  async #redrive(id) {
    try {
      toast((await post(`dead-letters/${id}/redrive`)).done);
      await this.#letters();
    } catch (error) {
      toast(error.message);
    }
  }

  /** Once a minute, since each one is asked for by itself. */
  async #tenants() {
    if (Date.now() - this.#tenantsAt < 60_000) return;
    const { data } = await get("tenants");
    this.#tenantsAt = Date.now();
    const some = data.filter((tenant) => !tenant.deleted_at).slice(0, MOST_TENANTS);
    const used = await Promise.all(some.map(({ name }) => usageOf(name)));
    const rows = some.map(({ name, keys }, index) => [
      h(
        "th",
        { scope: "row" },
        h("button", {
          type: "button",
          class: "link",
          text: name,
          onclick: () => this.#showTenant(name),
          "data-focus": name,
        }),
      ),
      number(keys),
      ...usageCells(used[index]),
    ]);
    $("tenants-part").hidden = false;
    replace($("tenants"), table(["Tenant", "Keys", "Jobs", "In", "Out", "Pixels", "CPU"], rows, "Tenants"));
  }

  #showTenant(name) {
    $("tenant").value = name;
    this.#tenant = name;
    this.#usage();
    $("tenant").scrollIntoView({ block: "center" });
  }

  async #deliveries() {
    const { data } = await get("deliveries?limit=15");
    const rows = data.map((delivery) => [
      h("th", { scope: "row", class: "left", text: delivery.event }),
      h("td", { class: "left error-text", text: delivery.url }),
      h(
        "td",
        {
          class: "left",
          "data-state": delivery.status === "delivered" ? "completed" : delivery.status === "failed" ? "failed" : "",
        },
        h("span", {}, h("span", { class: "dot", "aria-hidden": "true" }), delivery.status),
      ),
      h("td", { class: "left error-text", text: delivery.error ?? "" }),
      number(delivery.attempt_count),
      h("td", { class: "number-cell", text: ago(delivery.created_at) }),
      h(
        "td",
        { class: "number-cell" },
        button("Replay", () => this.#replay(delivery.id), {
          class: "button small",
          "data-focus": delivery.id,
          "aria-label": `Replay ${delivery.event} to ${delivery.url}`,
        }),
      ),
    ]);
    replace(
      $("deliveries"),
      rows.length
        ? table(["Event", "Receiver", "State", "Last error", "Attempts", "When", ""], rows, "Deliveries", [1, 2, 3])
        : h("p", {
            class: "hint",
            text: "No events were sent: no job had a webhook_url, and no receiver is registered.",
          }),
    );
  }

  async #replay(id) {
    try {
      await post(`deliveries/${id}/replay`);
      toast("The event will be sent again");
      await this.#deliveries();
    } catch (error) {
      toast(error.message);
    }
  }

  async #usage() {
    const query = this.#tenant ? `&tenant=${encodeURIComponent(this.#tenant)}` : "";
    let data = [];
    let said = "No usage yet; an ended job is counted after about a minute.";
    try {
      ({ data } = await get(`usage?limit=100${query}`));
    } catch (error) {
      if (!(error instanceof Problem) || [401, 403].includes(error.status)) throw error;
      said = error.message;
    }
    const days = new Map();
    for (const each of data) days.set(each.day, [...(days.get(each.day) ?? []), each]);
    const rows = [...days]
      .reverse()
      .map(([day, of]) => [h("th", { scope: "row", text: day }), ...usageCells(added(of))]);
    if (!$("tenant")) this.#tenantField();
    replace(
      $("usage-table"),
      rows.length
        ? table(["Day (UTC)", "Jobs", "In", "Out", "Pixels", "CPU"], rows, "Usage by day")
        : h("p", { class: "hint", text: said }),
    );
  }

  #tenantField() {
    const input = h("input", { id: "tenant", type: "text", placeholder: "own", spellcheck: "false" });
    const look = () => {
      this.#tenant = input.value.trim();
      this.#usage();
    };
    input.addEventListener("change", look);
    replace(
      $("usage"),
      h("div", { class: "filter-row" }, h("label", { for: "tenant", text: "Tenant" }), input),
      h("div", { id: "usage-table" }),
    );
  }
}

const USED = ["jobs", "bytes_in", "bytes_out", "pixels", "cpu_seconds"];

const added = (rows) =>
  Object.fromEntries(USED.map((name) => [name, rows.reduce((total, row) => total + row[name], 0)]));

const usageOf = async (tenant) => added((await get(`usage?limit=100&tenant=${encodeURIComponent(tenant)}`)).data);

function usageCells(used) {
  const cells = [bytes(used.bytes_in), bytes(used.bytes_out), `${(used.pixels / 1e6).toFixed(1)} MP`];
  cells.push(used.cpu_seconds ? seconds(used.cpu_seconds) : "–");
  return [number(used.jobs), ...cells.map((text) => h("td", { class: "number-cell", text }))];
}

/** What happened to a job, in the server's words. */
function timeline(lines) {
  return lines ? h("pre", { class: "timeline", tabindex: 0, text: lines.join("\n") }) : null;
}

/** `/health` answers 503 when the service is down, and says why all the same. */
async function healthNow() {
  let answer;
  try {
    answer = await fetch("health", { headers: headers(), credentials: "omit" });
  } catch {
    throw new Away("The server cannot be reached.");
  }
  const body = await answer.json();
  if (body.checks) return body;
  throw new Problem(answer.status, body, 0);
}

const sum = (samples, name) => (samples.get(name) ?? []).reduce((total, { value }) => total + value, 0);
const number = (value) => h("td", { class: "number-cell", text: value || "–" });

function shareBar(share) {
  const fill = h("span");
  fill.style.setProperty("--share", String(share));
  return h("span", { class: "share-bar", "aria-hidden": "true" }, fill);
}

function table(heads, rows, caption, left = []) {
  return h(
    "table",
    {},
    h("caption", { class: "visually-hidden", text: caption }),
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        heads.map((text, index) =>
          text ? h("th", { scope: "col", class: left.includes(index) ? "left" : "", text }) : h("td"),
        ),
      ),
    ),
    h(
      "tbody",
      {},
      rows.map((row) => h("tr", {}, row)),
    ),
  );
}

/** When each step of a job waited and ran, from its acceptance to its end. */
export function waterfall(job) {
  const start = new Date(job.created_at).getTime();
  const ends = job.steps.map((step) =>
    step.started_at ? new Date(step.started_at).getTime() + (step.seconds ?? 0) * 1000 : start,
  );
  const end = Math.max(
    start + 1,
    ...ends,
    job.finished_at ? new Date(job.finished_at).getTime() : isOpen(job) ? Date.now() : start,
  );
  const share = (at) => (at - start) / (end - start);
  const lanes = job.steps.flatMap((step) => {
    const from = step.started_at ? new Date(step.started_at).getTime() : end;
    const to = step.seconds === null ? end : from + step.seconds * 1000;
    const lane = h(
      "span",
      {
        class: "lane",
        "data-state": step.status,
        title: step.started_at ? `began after ${seconds((from - start) / 1000)}` : "has not begun",
      },
      bar("wait", 0, share(from)),
      step.started_at ? bar("", share(from), share(to)) : null,
    );
    return [
      h("span", { class: "mono", text: `${step.id} ${step.op}` }),
      lane,
      h("span", { class: "took", text: step.seconds === null ? step.status : seconds(step.seconds) }),
    ];
  });
  return h(
    "div",
    { class: "waterfall", role: "group", "aria-label": `Timeline of ${job.input.filename}` },
    lanes,
    h("span", { class: "mono hint", text: "until the end" }),
    h("span"),
    h("span", { class: "took", text: seconds((end - start) / 1000) }),
  );
}

function bar(name, from, to) {
  const element = h("span", { class: name });
  element.style.setProperty("--from", String(Math.min(1, Math.max(0, from))));
  element.style.setProperty("--to", String(Math.min(1, Math.max(0, to))));
  return element;
}

new Admin().start();
