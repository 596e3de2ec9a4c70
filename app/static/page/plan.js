// What a recipe would give, asked of the server while it is edited; where the server has no plans, nothing is shown.

import { Problem, post } from "./api.js";
import { h, replace } from "./dom.js";
import { bytes, plural, seconds } from "./format.js";

const PAUSE_MS = 350;
const FORMATS = new Set(["jpeg", "png", "webp", "gif", "avif", "tiff", "heic"]);
/** What a recipe is planned for as long as no image is there. */
const USUAL = { format: "jpeg", width: 4000, height: 3000, bytes: 3_000_000 };

export class Plan {
  #timer = 0;
  #asked = 0;

  /** @param there whether the server has plans. */
  constructor(element, there) {
    this.element = element;
    this.there = there;
  }

  /** Ask soon. The callback gets the plan or the problem, or neither if nothing can be said. */
  ask(operations, item, tell) {
    clearTimeout(this.#timer);
    this.#asked += 1;
    const facts = item ? factsOf(item) : USUAL;
    if (!this.there || !operations.length || !facts) {
      this.element.hidden = true;
      tell(null, null);
      return;
    }
    this.#timer = setTimeout(() => this.#ask(operations, facts, item, tell, this.#asked), PAUSE_MS);
  }

  async #ask(operations, facts, item, tell, number) {
    try {
      const plan = await post("plan", { input: { facts }, operations });
      if (number !== this.#asked) return; // the recipe is another one by now
      this.#show(plan, item);
      tell(plan, null);
    } catch (error) {
      if (number !== this.#asked) return;
      this.element.hidden = true;
      tell(null, error instanceof Problem ? error : null);
    }
  }

  #show(plan, item) {
    const facts = [
      plural(plan.results.length, "result"),
      plan.bytes ? `about ${bytes(plan.bytes)}` : "",
      plan.cpu_seconds ? `${seconds(plan.cpu_seconds)} of CPU` : "",
    ];
    const about = item ? item.name : "A photograph of 12 megapixels";
    replace(
      this.element,
      h("span", { class: "plan-about", text: about }),
      h("span", { text: facts.filter(Boolean).join(", ") }),
    );
    this.element.hidden = false;
  }
}

/** What is known of an image before it is sent; null: too little. */
function factsOf({ type, width, height, size }) {
  const format = (type ?? "").replace("image/", "").replace("jpg", "jpeg");
  return FORMATS.has(format) && width && height && size ? { format, width, height, bytes: size } : null;
}
