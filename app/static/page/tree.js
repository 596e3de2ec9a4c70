// The tree as it is seen and clicked. A run of operations goes straight down; it is set in where it branches.

import { announce, button, h, icon, iconButton, replace } from "./dom.js";
import { paramsForm, showErrors, summaryOf } from "./form.js";
import { bytes, size, words } from "./format.js";
import { pick, titleOf } from "./picker.js";
import { copy, find, fromJson, locate, node, ofStep, resultNames, startsFor, toJson, walk } from "./recipe.js";

const PLACE = "pixtools.recipe";

export class Tree extends EventTarget {
  /** @param operations what the server can do, by name. */
  constructor(element, operations, limits) {
    super();
    this.element = element;
    this.operations = operations;
    this.limits = limits;
    this.opened = null;
    this.errors = new Map(); // by node: a map of messages by parameter, "" is the node itself
    this.general = ""; // what is wrong with the tree as a whole
    this.states = new Map(); // by node: how far the steps of the last run are
    this.planned = new Map(); // by node: what its result would be
    this.nodes = this.#restore();
    this.render();
  }

  #restore() {
    try {
      const stored = JSON.parse(localStorage.getItem(PLACE));
      if (Array.isArray(stored)) return fromJson(stored);
    } catch {
      // of an older page
    }
    return fromJson(startsFor(this.operations)[0]?.operations ?? []);
  }

  get json() {
    return toJson(this.nodes);
  }

  get isEmpty() {
    return !this.nodes.length;
  }

  load(entries) {
    this.nodes = fromJson(entries);
    this.opened = null;
    this.#changed();
  }

  #changed({ redraw = true } = {}) {
    localStorage.setItem(PLACE, JSON.stringify(this.json));
    this.errors.clear();
    this.general = "";
    this.states.clear();
    if (redraw) this.render();
    else this.#update();
    this.dispatchEvent(new Event("change"));
  }

  /** Say what the server found wrong with these operations, at its place, unless the recipe is another one by now.
   *  Whether there was a place for any of it. */
  showProblem(problem, operations) {
    if (JSON.stringify(operations) !== JSON.stringify(this.json)) return false;
    this.errors.clear();
    this.general = "";
    for (const { pointer, detail } of problem.errors) {
      const place = locate(this.nodes, pointer);
      if (!place) continue;
      if (!place.node) this.general = detail;
      else this.#addError(place, detail);
    }
    if (!this.errors.size && !this.general) return false;
    if (this.general || !this.#hasFocus()) {
      this.opened = this.errors.keys().next().value ?? this.opened;
      this.render();
      this.element.querySelector("[aria-invalid=true], .card.wrong .card-head")?.focus();
    } else this.#update();
    announce(problem.message);
    return true;
  }

  /** Whether somebody types here: a control that is made anew would lose the caret and what is selected. */
  #hasFocus() {
    return this.element.contains(document.activeElement) && document.activeElement.matches("input, select, textarea");
  }

  /** Show what each result would be, and what is wrong; without moving the focus, since somebody types. */
  showPlan(plan, problem) {
    this.planned.clear();
    for (const result of plan?.results ?? []) {
      const own = ofStep(this.nodes, result.step);
      if (own) this.planned.set(own.id, together(this.planned.get(own.id), result));
    }
    if (problem) {
      this.errors.clear();
      for (const { pointer, detail } of problem.errors) {
        const place = locate(this.nodes, pointer);
        if (place?.node) this.#addError(place, detail);
      }
    }
    this.#update();
  }

  #addError({ node: wrong, field }, detail) {
    const known = this.errors.get(wrong.id) ?? new Map();
    const name = field in (this.operations.get(wrong.op)?.params.properties ?? {}) ? field : "";
    this.errors.set(wrong.id, known.set(name, detail));
  }

  /** Show how far the steps of a job are, if it runs what is here now. */
  showSteps(job) {
    if (JSON.stringify(toJson(fromJson(job.operations))) !== JSON.stringify(this.json)) return;
    this.states.clear();
    for (const step of job.steps) {
      const own = ofStep(this.nodes, step.id);
      if (own) this.states.set(own.id, step);
    }
    this.#update();
  }

  /** What changes while one types: everything but the controls. */
  #update() {
    const names = resultNames(this.nodes);
    for (const { node: each } of walk(this.nodes)) {
      const card = this.element.querySelector(`[data-node="${each.id}"]`);
      if (!card) continue;
      const summary = card.querySelector(".card-summary");
      summary.textContent = this.#summary(each);
      const planned = this.planned.get(each.id);
      summary.title = planned ? size(planned.width, planned.height) : "";
      const result = card.querySelector(".result-name");
      if (result) result.textContent = names.get(each.id) ?? "";
      this.#decorate(card, each);
    }
  }

  #summary(each) {
    const own = summaryOf(this.operations.get(each.op), each);
    const result = this.planned.get(each.id);
    if (!result) return own;
    return [result.bytes ? `≈ ${bytes(result.bytes)}` : "", own].filter(Boolean).join(" · ");
  }

  #decorate(card, each) {
    const errors = this.errors.get(each.id) ?? new Map();
    const step = this.states.get(each.id);
    card.classList.toggle("wrong", errors.size > 0 || step?.status === "failed");
    card.dataset.state = step?.status ?? "";
    showErrors(card, errors);
    const line = card.querySelector(".card-error");
    const folded = this.opened === each.id ? "" : errors.values().next().value;
    const said = errors.get("") || folded || (step?.status === "failed" && step.error?.message) || "";
    line.textContent = said;
    line.hidden = !said;
  }

  render() {
    const names = resultNames(this.nodes);
    if (this.isEmpty) {
      replace(this.element, this.#empty());
      return;
    }
    replace(
      this.element,
      this.general ? h("p", { class: "notice bad", role: "alert", text: this.general }) : null,
      h(
        "div",
        { class: "source" },
        h("span", { class: "source-dot", "aria-hidden": "true" }),
        h("span", { text: "Every image" }),
        iconButton("plus", "Add a branch", () => this.add(null), { "data-focus": "root/add" }),
      ),
      this.#branches(this.nodes, names, "Branches of the upload"),
    );
    for (const { node: each } of walk(this.nodes)) {
      this.#decorate(this.element.querySelector(`[data-node="${each.id}"]`), each);
    }
  }

  #empty() {
    const starts = startsFor(this.operations);
    return h(
      "div",
      { class: "empty-recipe" },
      h("p", { text: "A recipe says what happens to every image. Start with an operation, or with one of these." }),
      button("Add an operation", () => this.add(null), {
        icon: "plus",
        class: "button primary",
        "data-focus": "root/add",
      }),
      h(
        "ul",
        { class: "starts" },
        starts.map((start) =>
          h(
            "li",
            {},
            startButton(start, () => this.load(start.operations)),
          ),
        ),
      ),
    );
  }

  #branches(nodes, names, label) {
    return h(
      "ul",
      { class: nodes.length > 1 ? "branches many" : "branches", "aria-label": label },
      nodes.map((each) => this.#item(each, names)),
    );
  }

  #item(each, names) {
    const children = each.then.length ? this.#branches(each.then, names, `After ${each.op}`) : null;
    return h("li", { class: each.then.length > 1 ? "item splits" : "item" }, this.#card(each, names), children);
  }

  #card(each, names) {
    const operation = this.operations.get(each.op);
    const isOpen = this.opened === each.id;
    const name = names.get(each.id);
    const body = h("div", { class: "card-body", id: `body-${each.id}`, hidden: !isOpen });
    if (isOpen) body.append(...this.#body(each, operation));
    return h(
      "div",
      { class: isOpen ? "card open" : "card", "data-node": each.id, onkeydown: (event) => this.#onKey(event, each) },
      h(
        "div",
        { class: "card-row" },
        h(
          "button",
          {
            type: "button",
            class: "card-head",
            "aria-expanded": String(isOpen),
            "aria-controls": `body-${each.id}`,
            "data-focus": each.id,
            onclick: () => this.toggle(each.id),
          },
          h("span", { class: "card-dot", "aria-hidden": "true" }),
          h(
            "span",
            { class: "card-title" },
            h("span", { class: "card-op", text: titleOf(operation ?? { name: each.op }) }),
            h("span", { class: "card-summary", text: this.#summary(each) }),
          ),
        ),
        name !== undefined
          ? h(
              "span",
              { class: "result-tag", title: "Name of the result" },
              h("span", { class: "result-name", text: name }),
            )
          : null,
        operation?.output_format === "json"
          ? null
          : iconButton("plus", `Continue after ${each.op}`, () => this.add(each), { "data-focus": `${each.id}/add` }),
      ),
      h("p", { class: "card-error", hidden: true }),
      body,
    );
  }

  #body(each, operation) {
    const about = operation
      ? paramsForm(operation, each, (name, value) => {
          if (value === undefined) delete each.params[name];
          else each.params[name] = value;
          this.#changed({ redraw: false });
        })
      : h("p", { class: "quiet", text: "This server does not have the operation." });
    return [about, this.#naming(each), this.#moves(each)];
  }

  #naming(each) {
    const id = `as-${each.id}`;
    const input = h("input", {
      id,
      type: "text",
      class: "mono",
      value: each.as,
      placeholder: resultNames(this.nodes).get(each.id) ?? "name",
      maxlength: 64,
      spellcheck: "false",
      "data-focus": `${each.id}/as`,
      autocomplete: "off",
    });
    input.addEventListener("input", () => {
      each.as = input.value.trim();
      this.#changed({ redraw: false });
    });
    const keep = h("input", {
      id: `keep-${each.id}`,
      type: "checkbox",
      role: "switch",
      class: "switch",
      checked: each.keep,
      "data-focus": `${each.id}/keep`,
    });
    keep.addEventListener("change", () => {
      each.keep = keep.checked;
      this.#changed();
    });
    return h(
      "div",
      { class: "fields naming" },
      each.then.length
        ? h(
            "div",
            { class: "field inline" },
            h("label", { for: `keep-${each.id}`, text: "Keep this as a result as well" }),
            keep,
          )
        : null,
      !each.then.length || each.keep
        ? h(
            "div",
            { class: "field" },
            h("div", { class: "field-head" }, h("label", { for: id, text: "Name of the result" })),
            input,
          )
        : null,
    );
  }

  #moves(each) {
    const { siblings, index } = find(this.nodes, each.id);
    return h(
      "div",
      { class: "card-actions" },
      siblings.length > 1
        ? iconButton("up", "Move up", () => this.#move(each, -1), {
            disabled: index === 0,
            "data-focus": `${each.id}/up`,
          })
        : null,
      siblings.length > 1
        ? iconButton("down", "Move down", () => this.#move(each, 1), {
            disabled: index === siblings.length - 1,
            "data-focus": `${each.id}/down`,
          })
        : null,
      button("Duplicate", () => this.#duplicate(each), {
        icon: "twice",
        class: "button small",
        "data-focus": `${each.id}/twice`,
      }),
      button("Insert before", () => this.insertBefore(each), {
        icon: "plus",
        class: "button small",
        "data-focus": `${each.id}/before`,
      }),
      button("Remove", () => this.remove(each), {
        icon: "trash",
        class: "button small",
        "data-focus": `${each.id}/remove`,
        "aria-label": `Remove ${each.op}`,
      }),
    );
  }

  #onKey(event, each) {
    if (event.target.closest("input, select, textarea")) return;
    if (event.key === "Delete" || (event.key === "Backspace" && event.target.matches(".card-head"))) {
      event.preventDefault();
      this.remove(each);
    }
  }

  toggle(id) {
    this.opened = this.opened === id ? null : id;
    this.render();
  }

  /** Let an operation be chosen and add it: after a node, or to the upload. */
  async add(after) {
    const made = await this.#chosen(after ? `Continue after ${after.op}` : "Add a branch");
    if (!made) return;
    (after ? after.then : this.nodes).push(made);
    this.#open(made);
  }

  /** Let an operation be chosen and put it between a node and what is before it. */
  async insertBefore(each) {
    const made = await this.#chosen(`Put an operation before ${each.op}`);
    if (!made) return;
    const { siblings, index } = find(this.nodes, each.id);
    made.then = [each];
    siblings[index] = made;
    this.#open(made);
  }

  async #chosen(title) {
    const operation = await pick(this.operations, title);
    if (!operation) return null;
    const { op: _, ...params } = typeof operation.example === "string" ? {} : operation.example;
    return node(operation.name, params);
  }

  #open(made) {
    this.opened = made.id;
    this.#changed();
    announce(`${words(made.op)} was added.`);
    const card = this.element.querySelector(`[data-node="${made.id}"]`);
    card.scrollIntoView({ block: "nearest" });
    card.querySelector(".card-body input, .card-head").focus();
  }

  /** Take a node out; what continued from it continues from what was before. */
  remove(each) {
    const { siblings, index } = find(this.nodes, each.id);
    siblings.splice(index, 1, ...each.then);
    if (this.opened === each.id) this.opened = null;
    this.#changed();
    announce(`${words(each.op)} was removed.`);
    this.element.querySelector(".card-head, [data-focus='root/add']")?.focus();
  }

  #duplicate(each) {
    const { siblings, index } = find(this.nodes, each.id);
    const twin = copy(each);
    siblings.splice(index + 1, 0, twin);
    this.#open(twin);
  }

  #move(each, step) {
    const { siblings, index } = find(this.nodes, each.id);
    siblings.splice(index, 1);
    siblings.splice(index + step, 0, each);
    this.#changed();
  }
}

/** What several files of one step are as one result: as large as the largest, and as many bytes as all. */
function together(one, other) {
  if (!one) return other;
  const wider = (one.width ?? 0) >= (other.width ?? 0) ? one : other;
  const known = one.bytes !== null && other.bytes !== null;
  return { ...wider, bytes: known ? one.bytes + other.bytes : null };
}

/** A recipe to begin with, as a button. */
export function startButton(start, onclick) {
  return h(
    "button",
    { type: "button", class: "start", onclick },
    h("span", { class: "start-name", text: start.name }),
    h("span", { class: "start-about", text: start.about }),
    icon("chevron"),
  );
}
