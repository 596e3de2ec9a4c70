// Controls for the parameters of an operation, made of their JSON schema: a new operation needs no line here.

import { h, prose } from "./dom.js";
import { words } from "./format.js";

const COMPASS = ["northwest", "north", "northeast", "west", "center", "east", "southwest", "south", "southeast"];

/** What a property may hold, whatever way its schema says so. */
function shapeOf(schema) {
  const options = (schema.anyOf ?? schema.oneOf ?? [schema]).filter((option) => option.type !== "null");
  const values = options.flatMap((option) => option.enum ?? ("const" in option ? [option.const] : []));
  const first = options[0] ?? {};
  return {
    ...first,
    type: first.type,
    description: schema.description ?? first.description ?? "",
    default: schema.default,
    values: values.length ? values : null,
    example: (schema.examples ?? first.examples ?? [])[0],
  };
}

/** One labelled control for each parameter. `onchange(name, value)`: undefined takes the parameter out. */
export function paramsForm(operation, node, onchange) {
  const { properties = {}, required = [] } = operation.params;
  const names = Object.keys(properties);
  if (!names.length) return h("p", { class: "quiet", text: "Nothing to set." });
  const isMain = (name) => required.includes(name) || isExample(operation, name);
  const shownAtOnce = (name) => isMain(name) || name in node.params || isPrimary(operation, name);
  const primary = [
    ...names.filter(isMain),
    ...names.filter((name) => !isMain(name) && shownAtOnce(name)),
  ];
  const rest = names.filter((name) => !primary.includes(name));
  const make = (name) => field(node, name, shapeOf(properties[name]), required.includes(name), onchange);
  return h(
    "div",
    { class: "fields" },
    primary.map(make),
    rest.length
      ? h(
          "details",
          { class: "more" },
          h("summary", { text: `More settings (${rest.length})` }),
          h("div", { class: "fields" }, rest.map(make)),
        )
      : null,
  );
}

/** Whether the example of an operation sets a parameter: those come first. */
function isExample({ example }, name) {
  return typeof example === "object" && name in example;
}

/** The first few are what an operation is about; the others are a click away. */
function isPrimary(operation, name) {
  const names = Object.keys(operation.params.properties);
  const together = Object.entries(operation.params.dependentRequired ?? {}).find(([, others]) =>
    others.includes(name),
  )?.[0];
  return names.length <= 3 || names.indexOf(name) < 3 || names.indexOf(together) === 2;
}

function field(node, name, shape, required, onchange) {
  const id = `p-${node.id}-${name}`;
  const set = (value) => onchange(name, value);
  const control = controlOf({ id, name, shape, required, value: node.params[name], set, focus: `${node.id}/${name}` });
  const isGroup = control.matches?.("[role=radiogroup], [role=group]");
  return h(
    "div",
    { class: "field", "data-field": name },
    h(
      "div",
      { class: "field-head" },
      h(isGroup ? "span" : "label", { id: `${id}-label`, ...(isGroup ? {} : { for: id }), text: words(name) }),
    ),
    control,
    shape.description ? h("p", { class: "hint", id: `${id}-hint` }, prose(shape.description)) : null,
    h("p", { class: "field-error", id: `${id}-error`, hidden: true }),
  );
}

function controlOf(about) {
  const { shape } = about;
  if (shape.values && COMPASS.every((place) => shape.values.includes(place))) return compass(about);
  if (shape.values) return shape.values.length <= 4 ? segments(about) : select(about);
  if (shape.type === "boolean") return toggle(about);
  if (shape.type === "integer" || shape.type === "number") return number(about);
  if (shape.type === "array" && shape.items?.enum) return checks(about);
  if (shape.type === "array" && shape.maxItems !== shape.minItems) return numberList(about);
  if (shape.type === "array") return numbers(about);
  if (shape.type === "string" && shape.pattern?.startsWith("^#")) return colour(about);
  if (shape.type === "string") return text(about);
  return anyJson(about);
}

const described = ({ id }) => ({ "aria-describedby": `${id}-hint ${id}-error` });
const shown = (about) => (about.value === undefined ? about.shape.default : about.value);
const unlessDefault = (about, value) => (!about.required && value === about.shape.default ? undefined : value);

function number(about) {
  const { id, shape, set, value, focus } = about;
  const low = shape.minimum ?? shape.exclusiveMinimum;
  const high = shape.maximum ?? shape.exclusiveMaximum;
  const step = shape.type === "integer" ? 1 : high - low <= 1 ? 0.01 : "any";
  const input = h("input", {
    id,
    type: "number",
    min: low,
    max: high,
    step,
    inputmode: shape.type === "integer" ? "numeric" : "decimal",
    value: value ?? shape.default ?? "",
    placeholder: shape.default ?? "not set",
    "data-focus": focus,
    ...described(about),
  });
  const slider =
    low !== undefined && high !== undefined && high - low <= 400
      ? h("input", {
          type: "range",
          min: low,
          max: high,
          step: step === "any" ? (high - low) / 100 : step,
          value: value ?? shape.default ?? low,
          "aria-label": `${words(about.name)}, by sliding`,
        })
      : null;
  const take = (text) => set(text === "" ? undefined : unlessDefault(about, Number(text)));
  input.addEventListener("input", () => {
    if (slider && input.value !== "") slider.value = input.value;
    take(input.value);
  });
  slider?.addEventListener("input", () => {
    input.value = slider.value;
    take(slider.value);
  });
  return h("div", { class: "number" }, slider, input);
}

function numbers(about) {
  const { id, shape, set, value, focus } = about;
  const many = shape.maxItems ?? shape.minItems ?? 2;
  const inputs = [...Array(many).keys()].map((index) =>
    h("input", {
      id: index ? null : id,
      type: "number",
      min: shape.items?.minimum,
      max: shape.items?.maximum,
      step: "any",
      value: value?.[index] ?? "",
      placeholder: shape.example?.[index] ?? "",
      "aria-label": `${words(about.name)} ${index + 1}`,
      "data-focus": `${focus}/${index}`,
      ...described(about),
    }),
  );
  const take = () => {
    const filled = inputs.filter((input) => input.value !== "");
    set(filled.length ? filled.map((input) => Number(input.value)) : undefined);
  };
  for (const input of inputs) input.addEventListener("input", take);
  return h("div", { class: "numbers" }, inputs);
}

/** Numbers of which there may be few or many: one line, with commas between them. */
function numberList(about) {
  const { id, shape, set, value, focus } = about;
  const input = h("input", {
    id,
    type: "text",
    inputmode: "decimal",
    value: (value ?? shape.default ?? []).join(", "),
    placeholder: shape.example?.join(", ") ?? "not set",
    spellcheck: "false",
    autocomplete: "off",
    "data-focus": focus,
    ...described(about),
  });
  input.addEventListener("input", () => {
    const numbers = input.value.split(/[\s,;]+/).filter(Boolean).map(Number);
    const wrong = numbers.some(Number.isNaN);
    if (wrong) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
    if (!wrong) set(numbers.length ? numbers : undefined);
  });
  return input;
}

/** Some of a few values. */
function checks(about) {
  const { id, shape, set, focus } = about;
  const chosen = shown(about) ?? [];
  const inputs = shape.items.enum.map((value) =>
    h("input", {
      type: "checkbox",
      value,
      checked: chosen.includes(value),
      "aria-label": words(String(value)),
      "data-focus": `${focus}/${value}`,
    }),
  );
  const take = () => {
    const values = inputs.filter((input) => input.checked).map((input) => input.value);
    const isDefault = JSON.stringify(values) === JSON.stringify(shape.default);
    set(values.length && !isDefault ? values : undefined);
  };
  for (const input of inputs) input.addEventListener("change", take);
  return h(
    "div",
    { class: "segments", role: "group", "aria-labelledby": `${id}-label`, ...described(about) },
    inputs.map((input) => h("label", {}, input, h("span", { text: input.value }))),
  );
}

function toggle(about) {
  const { id, set, focus } = about;
  const input = h("input", {
    id,
    type: "checkbox",
    role: "switch",
    class: "switch",
    checked: shown(about) === true,
    "data-focus": focus,
    ...described(about),
  });
  input.addEventListener("change", () => set(unlessDefault(about, input.checked)));
  return input;
}

/** A group of radio buttons that look like one control. */
function radios(about, values, className, label = (value) => words(String(value))) {
  const current = shown(about);
  const group = h("div", {
    class: className,
    role: "radiogroup",
    "aria-labelledby": `${about.id}-label`,
    ...described(about),
  });
  for (const value of values) {
    const input = h("input", {
      type: "radio",
      name: about.id,
      value: String(value),
      checked: value === current,
      "aria-label": words(String(value)),
      "data-focus": `${about.focus}/${value}`,
    });
    input.addEventListener("change", () => about.set(unlessDefault(about, value)));
    group.append(
      h("label", { "data-value": value, title: words(String(value)) }, input, h("span", { text: label(value) })),
    );
  }
  return group;
}

const segments = (about) =>
  radios(about, optional(about), "segments", (value) => (value === null ? "Off" : String(value)));

/** What may also be left out has a value for that. */
const optional = ({ shape, required }) => (required || shape.default !== null ? shape.values : [null, ...shape.values]);

function compass(about) {
  const others = about.shape.values.filter((value) => !COMPASS.includes(value));
  const group = radios(about, [...COMPASS, ...others], "compass", (value) =>
    COMPASS.includes(value) ? "" : words(value),
  );
  return group;
}

function select(about) {
  const { id, set, focus, shape } = about;
  const values = optional(about);
  const element = h(
    "select",
    { id, "data-focus": focus, ...described(about) },
    values.map((value, index) =>
      h("option", { value: index, text: value === null ? "Not set" : String(value), selected: value === shown(about) }),
    ),
  );
  element.addEventListener("change", () => {
    const value = values[Number(element.value)];
    set(value === null ? undefined : unlessDefault({ ...about, shape }, value));
  });
  return element;
}

function colour(about) {
  const { id, set, focus, value, shape } = about;
  const now = value ?? shape.default ?? "";
  const input = h("input", {
    id,
    type: "text",
    class: "mono",
    value: now,
    placeholder: "not set",
    spellcheck: "false",
    "data-focus": focus,
    ...described(about),
  });
  const well = h("input", {
    type: "color",
    value: (now || "#ffffff").slice(0, 7),
    "aria-label": `${words(about.name)}, by eye`,
  });
  const take = (text) => set(text === "" ? undefined : unlessDefault(about, text));
  input.addEventListener("input", () => {
    if (/^#[0-9a-f]{6}/i.test(input.value)) well.value = input.value.slice(0, 7);
    take(input.value);
  });
  well.addEventListener("input", () => {
    input.value = well.value + input.value.slice(7);
    take(input.value);
  });
  return h("div", { class: "colour" }, well, input);
}

function text(about) {
  const { id, set, focus, value, shape } = about;
  const input = h("input", {
    id,
    type: "text",
    value: value ?? shape.default ?? "",
    placeholder: shape.example ?? "not set",
    "data-focus": focus,
    ...described(about),
  });
  input.addEventListener("input", () => set(input.value === "" ? undefined : unlessDefault(about, input.value)));
  return input;
}

function anyJson(about) {
  const { id, set, focus, value } = about;
  const input = h("input", {
    id,
    type: "text",
    class: "mono",
    value: value === undefined ? "" : JSON.stringify(value),
    placeholder: "JSON",
    spellcheck: "false",
    "data-focus": focus,
    ...described(about),
  });
  input.addEventListener("input", () => {
    try {
      set(input.value === "" ? undefined : JSON.parse(input.value));
      input.removeAttribute("aria-invalid");
    } catch {
      input.setAttribute("aria-invalid", "true");
    }
  });
  return input;
}

/** Say at each control what is wrong with it. `errors`: by the name of the parameter. */
export function showErrors(card, errors) {
  for (const place of card.querySelectorAll("[data-field]")) {
    const message = errors.get(place.dataset.field) ?? "";
    const line = place.querySelector(".field-error");
    line.textContent = message;
    line.hidden = !message;
    for (const input of place.querySelectorAll("input, select")) {
      if (message) input.setAttribute("aria-invalid", "true");
      else input.removeAttribute("aria-invalid");
    }
    const folded = place.closest("details");
    if (message && folded) folded.open = true;
  }
}

/** What is set, in a few words: for a card that is closed. */
export function summaryOf(operation, node) {
  const params = { ...node.params };
  const said = [];
  if ("width" in params || "height" in params) {
    said.push(
      params.width && params.height
        ? `${params.width} × ${params.height}`
        : params.width
          ? `${params.width} wide`
          : `${params.height} high`,
    );
    delete params.width;
    delete params.height;
  }
  for (const [name, value] of Object.entries(params)) {
    if (value === true) said.push(words(name).toLowerCase());
    else if (value !== false)
      said.push(isPlain(name, value) ? String(value) : `${words(name).toLowerCase()} ${valueText(value)}`);
  }
  return said.join(" · ") || byDefault(operation);
}

/** Of an operation of which nothing is set: its quality where it has one, else what it does. */
function byDefault(operation) {
  const quality = operation?.params.properties?.quality?.default;
  return quality === undefined ? (operation?.description ?? "").split(/[.:;,]/)[0] : `quality ${quality}`;
}

const isPlain = (name, value) => typeof value === "string" && !name.includes("metadata") && !value.startsWith("#");
const valueText = (value) => (Array.isArray(value) ? value.join(", ") : String(value));
