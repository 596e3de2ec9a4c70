// Small dialogs: the key, a question, and a result that is data.

import { hasKey, setKey } from "./api.js";
import { button, h, iconButton, replace } from "./dom.js";
import { pretty } from "./code.js";
import { words } from "./format.js";

const dialog = document.getElementById("dialog");

function show(title, ...content) {
  replace(
    dialog,
    h(
      "div",
      { class: "sheet" },
      h(
        "header",
        { class: "sheet-head" },
        h("h2", { id: "dialog-title", text: title }),
        iconButton("close", "Close", () => dialog.close()),
      ),
      content,
    ),
  );
  dialog.setAttribute("aria-labelledby", "dialog-title");
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true });
    dialog.returnValue = "";
  });
}

dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});

/** Ask for an API key. */
export function askForKey(why = "") {
  const input = h("input", {
    id: "key-input",
    type: "password",
    class: "mono",
    autocomplete: "off",
    spellcheck: "false",
    placeholder: "pxt_…",
  });
  const keep = h("input", { id: "key-keep", type: "checkbox", class: "switch", role: "switch", checked: true });
  const save = () => {
    setKey(input.value, keep.checked);
    dialog.close("saved");
  };
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter") save();
  });
  const shown = show(
    "API key",
    why ? h("p", { class: "notice", text: why }) : null,
    h(
      "div",
      { class: "field" },
      h("div", { class: "field-head" }, h("label", { for: "key-input", text: "Key" })),
      input,
      h("p", {
        class: "hint",
        text: "Make one with pixtools keys create. It is sent only to this server, and never stored in a cookie.",
      }),
    ),
    h("div", { class: "field inline" }, h("label", { for: "key-keep", text: "Keep until this tab is closed" }), keep),
    h(
      "div",
      { class: "sheet-foot" },
      hasKey()
        ? button("Forget the key", () => {
            setKey("", false);
            dialog.close("saved");
          })
        : null,
      button("Use this key", save, { class: "button primary" }),
    ),
  );
  input.focus();
  return shown;
}

/** Ask whether something is really wanted. */
export async function confirm(title, text, yes) {
  return (
    (await show(
      title,
      h("p", { text }),
      h(
        "div",
        { class: "sheet-foot" },
        button("Keep it", () => dialog.close("")),
        button(yes, () => dialog.close("yes"), { class: "button danger" }),
      ),
    )) === "yes"
  );
}

/** Show a result that is JSON, in lines of name and value. */
/** Text as it is, which may be markup: nothing of it is run. */
export function showText(title, text) {
  return show(title, h("pre", { class: "code", text, tabindex: 0 }));
}

export function showData(title, data) {
  return show(
    title,
    h("div", { class: "data" }, dataList(data)),
    h(
      "details",
      { class: "more" },
      h("summary", { text: "As JSON" }),
      h("pre", { class: "code", text: pretty(data), tabindex: 0 }),
    ),
  );
}

function dataList(data) {
  return h(
    "dl",
    {},
    Object.entries(data)
      .filter(([, value]) => value !== null && value !== undefined && value !== "")
      .map(([name, value]) =>
        h("div", { class: "pair" }, h("dt", { text: words(name) }), h("dd", {}, dataValue(value))),
      ),
  );
}

function dataValue(value) {
  if (Array.isArray(value))
    return value.every((each) => typeof each !== "object") ? colours(value) : value.map(dataValue);
  if (typeof value === "object") return dataList(value);
  return colours([value]);
}

/** Values; a colour has its own next to its name. */
function colours(values) {
  return values.map((value) => {
    const isColour = /^#[0-9a-f]{6}$/i.test(value);
    const swatch = isColour ? h("span", { class: "swatch", "aria-hidden": "true" }) : null;
    swatch?.style.setProperty("background", value);
    return h("span", { class: isColour ? "colour-value" : "value" }, swatch, String(value));
  });
}
