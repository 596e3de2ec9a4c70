// What a recipe would give, asked of the server while it is edited; where the server has no plans, nothing is shown.

import { Problem, ask } from "./api.js";
import { replace, h } from "./dom.js";
import { bytes, plural, seconds } from "./format.js";

const PAUSE_MS = 350;

export class Plan {
  #timer = 0;
  #stopper = null;

  constructor(element, there) {
    this.element = element;
    this.there = there;
  }

  /** Ask soon; `onproblem(problem)` hears of what is wrong with the recipe. */
  ask(operations, item, onproblem) {
    clearTimeout(this.#timer);
    this.#stopper?.abort();
    if (!this.there || !operations.length || !item || (!item.file && !item.url)) {
      this.element.hidden = true;
      return;
    }
    this.#timer = setTimeout(() => this.#ask(operations, item, onproblem), PAUSE_MS);
  }

  async #ask(operations, item, onproblem) {
    this.#stopper = new AbortController();
    try {
      this.#show(
        await (await ask("plan", { method: "POST", ...bodyOf(operations, item), signal: this.#stopper.signal })).json(),
      );
    } catch (error) {
      this.element.hidden = true;
      const isTree = error instanceof Problem && error.errors.some(({ pointer }) => pointer.startsWith("#/operations"));
      if (isTree) onproblem(error, { focus: false });
    }
  }

  #show(plan) {
    const results = plan.results ?? [];
    const cpu = plan.cpu_seconds ?? plan.seconds;
    const out = plan.bytes ?? plan.output_bytes ?? results.reduce((sum, result) => sum + (result.bytes ?? 0), 0);
    const facts = [
      plural(results.length, "result"),
      out ? `about ${bytes(out)}` : "",
      cpu ? `about ${seconds(cpu)} of work` : "",
    ];
    replace(this.element, h("span", { text: `Each image: ${facts.filter(Boolean).join(", ")}` }));
    this.element.hidden = false;
  }
}

function bodyOf(operations, item) {
  if (item.url)
    return {
      body: JSON.stringify({ input: { url: item.url }, operations }),
      headers: { "Content-Type": "application/json" },
    };
  const form = new FormData();
  form.append("operations", JSON.stringify(operations));
  form.append("file", item.file, item.name);
  return { body: form };
}
