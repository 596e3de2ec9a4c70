// Elements without markup in strings: text is always text, whatever it holds.

const PROPERTIES = new Set(["value", "checked", "disabled", "hidden", "selected", "open", "indeterminate"]);

/** An element. `props`: attributes, `class`, `text`, `on…` listeners, and properties such as `value`. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (PROPERTIES.has(name)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** The drawings of all icons, on a grid of 16 by 16. */
const PATHS = {
  plus: "M8 3.5v9M3.5 8h9",
  close: "M4 4l8 8M12 4l-8 8",
  chevron: "M6 4l4 4-4 4",
  check: "M3.5 8.5l3 3 6-7",
  alert: "M8 4.5v4.2M8 11.2v.3",
  download: "M8 3v7M5 7.2L8 10.2l3-3M3.5 13h9",
  copy: "M5.5 5.5v-2h7v7h-2M3.5 5.5h7v7h-7z",
  compare: "M8 2.5v11M2.5 4.5h3M2.5 11.5h3M2.5 4.5v7M10.5 4.5h3v7h-3",
  retry: "M12.5 8a4.5 4.5 0 1 1-1.4-3.3M12.5 2.5v2.7H9.8",
  trash: "M3.5 4.5h9M6.5 4.5v-1h3v1M5 4.5l.5 8h5l.5-8",
  up: "M8 12.5v-9M4.5 7L8 3.5 11.5 7",
  down: "M8 3.5v9M4.5 9L8 12.5 11.5 9",
  twice: "M3.5 3.5h6v6h-6zM6.5 12.5h6v-6",
  stop: "M4.5 4.5h7v7h-7z",
  key: "M6 10.5a2.5 2.5 0 1 1 2.3-3.5h5v2h-1.5v1.5h-2V9H8.3A2.5 2.5 0 0 1 6 10.5z",
  minus: "M3.5 8h9",
  image: "M2.5 3.5h11v9h-11zM2.5 10.5l3-3 2.5 2.5 2-2 3.5 3.5M10.5 6.2v.1",
  search: "M7 11a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM10 10l3 3",
  link: "M6.8 9.2l2.4-2.4M7.5 5.5l1.2-1.2a2.3 2.3 0 0 1 3.2 3.2l-1.4 1.2M8.5 10.5l-1.2 1.2a2.3 2.3 0 0 1-3.2-3.2l1.4-1.2",
  info: "M8 7.2v4M8 4.6v.2",
};

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

/** A button with a word. */
export function button(label, onclick, props = {}) {
  const { icon: drawn, ...rest } = props;
  return h("button", { type: "button", class: "button", onclick, ...rest }, drawn ? icon(drawn) : null, label);
}

/** A button that is only a drawing; its name is for those who do not see it, and for the pointer that rests on it. */
export function iconButton(name, label, onclick, props = {}) {
  return h(
    "button",
    { type: "button", class: "icon-button", "aria-label": label, title: label, onclick, ...props },
    icon(name),
  );
}

/** Text in which `code` between backticks is set as code. */
export function prose(text) {
  return text.split(/`([^`]+)`/).map((part, index) => (index % 2 ? h("code", { text: part }) : part));
}

/** Put other children into an element, and the focus back to the one that had the same `data-focus`. */
export function replace(element, ...children) {
  const active = document.activeElement;
  const focused = element.contains(active) ? active.closest("[data-focus]")?.dataset.focus : null;
  element.replaceChildren(...children.flat(Infinity).filter(Boolean));
  if (focused) element.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

const announcer = () => document.getElementById("announcer");

/** Say something to those who listen to the page. */
export function announce(text) {
  const place = announcer();
  if (place && place.textContent !== text) place.textContent = text;
}

let toastTimer = 0;

/** Say something to all, for a moment. */
export function toast(text) {
  const place = document.getElementById("toast");
  place.textContent = text;
  place.classList.add("shown");
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => place.classList.remove("shown"), 3200);
}
