// The list of operations, to choose one from by typing or by looking.

import { h, icon, prose, replace } from "./dom.js";
import { words } from "./format.js";

const dialog = document.getElementById("picker");

/** Let one be chosen; null: none was. */
export function pick(operations, title) {
  return new Promise((resolve) => {
    let matches = [];
    let active = 0;
    const list = h("div", { class: "picker-list", role: "listbox", id: "picker-list", "aria-label": "Operations" });
    const input = h("input", {
      type: "text",
      id: "picker-search",
      placeholder: "Search operations",
      autocomplete: "off",
      spellcheck: "false",
      role: "combobox",
      "aria-expanded": "true",
      "aria-controls": "picker-list",
      "aria-label": "Search operations",
    });
    const choose = (operation) => {
      dialog.close();
      resolve(operation);
    };
    const show = () => {
      matches = search([...operations.values()], input.value);
      active = Math.min(active, Math.max(0, matches.length - 1));
      let group = "";
      replace(
        list,
        matches.length
          ? matches.flatMap((operation, index) => {
              const own = groupOf(operation);
              const head = own === group ? [] : [h("div", { class: "picker-group", role: "presentation", text: own })];
              group = own;
              return [...head, option(operation, index, index === active, choose)];
            })
          : h("p", { class: "quiet pad", text: `No operation is called “${input.value}”.` }),
      );
      input.setAttribute("aria-activedescendant", matches.length ? `pick-${active}` : "");
      list.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" });
    };
    input.addEventListener("input", () => {
      active = 0;
      show();
    });
    input.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (step && matches.length) {
        active = (active + step + matches.length) % matches.length;
        show();
        event.preventDefault();
      } else if (event.key === "Enter" && matches[active]) {
        event.preventDefault();
        choose(matches[active]);
      }
    });
    replace(
      dialog,
      h(
        "div",
        { class: "picker" },
        h("h2", { class: "visually-hidden", text: title }),
        h("div", { class: "picker-head" }, icon("search"), input),
        list,
      ),
    );
    dialog.addEventListener("close", () => resolve(null), { once: true }); // without effect after a choice
    dialog.showModal();
    show();
    input.focus();
  });
}

dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});

const FORMATS = { webp: "WebP" };
const TITLES = { web: "Web page set" };

/** `convert_webp` as "Convert to WebP", any other name as words. */
export function titleOf({ name, output_format: format }) {
  if (name in TITLES) return TITLES[name];
  return format && name === `convert_${format}` ? `Convert to ${FORMATS[format] ?? format.toUpperCase()}` : words(name);
}

const GROUPS = ["Change the picture", "Write a file", "Describe it"];

export function groupOf(operation) {
  if (operation.bundle) return GROUPS[1];
  if (operation.output_format === "json") return GROUPS[2];
  return operation.output_format ? GROUPS[1] : GROUPS[0];
}

function search(operations, text) {
  const wanted = text
    .trim()
    .toLowerCase()
    .split(/[\s_]+/)
    .filter(Boolean);
  const found = operations.filter(({ name, description }) =>
    wanted.every((word) => `${name} ${description}`.toLowerCase().includes(word)),
  );
  // The one of exactly that name first: `web` is an operation, and the beginning of another one's name as well
  const rank = (operation) => {
    if (operation.name === wanted.join("_")) return -1;
    return GROUPS.indexOf(groupOf(operation)) + (wanted.length && !operation.name.includes(wanted[0]) ? 10 : 0);
  };
  return found.sort((one, other) => rank(one) - rank(other));
}

function option(operation, index, selected, choose) {
  const element = h(
    "div",
    { class: "picker-option", role: "option", id: `pick-${index}`, "aria-selected": String(selected) },
    h("span", { class: "picker-name" }, titleOf(operation), h("code", { text: operation.name })),
    h("span", { class: "picker-about" }, prose(operation.description)),
    operation.queue.startsWith("ml_") ? h("span", { class: "tag", text: "neural network" }) : null,
  );
  element.addEventListener("click", () => choose(operation));
  return element;
}
