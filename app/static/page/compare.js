// Before and after, one over the other with a divider between them, down to single pixels.

import { button, h, icon, iconButton, replace } from "./dom.js";
import { bytes, percent, saved, savedText, size } from "./format.js";
import { isViewable } from "./rows.js";

const dialog = document.getElementById("viewer");
const MOST = 32; // device pixels for one of the image
const STEP = 1.25;

/** What can be looked at of an image: the upload where this page has it, and every result that a browser shows. */
function choices(item) {
  const results = item.job.results.filter(isViewable).map((result) => ({
    id: result.name,
    name: result.name,
    format: result.format,
    address: result.address,
    bytes: result.bytes,
    width: result.width,
    height: result.height,
    result,
  }));
  const { input } = item.job;
  const original =
    item.shown && item.address
      ? [
          {
            id: "",
            name: "Original",
            format: input.format,
            address: item.address,
            bytes: input.bytes ?? item.size,
            width: item.width,
            height: item.height,
          },
        ]
      : [];
  return [...original, ...results];
}

/** Open the comparison of an image. `result`: what to show after the divider. */
export function compare(item, result) {
  const all = choices(item);
  const after = all.find(({ id }) => id === result.name);
  const before = all.find(({ id }) => id !== result.name) ?? after;
  new Viewer(item, all, before, after).open();
}

class Viewer {
  constructor(item, all, before, after) {
    this.item = item;
    this.all = all;
    this.sides = { before, after };
    this.split = 0.5;
    this.scale = 1; // CSS pixels for one pixel of the frame
    this.x = 0;
    this.y = 0;
    this.pointers = new Map();
    this.fitted = true;
    this.#build();
  }

  #build() {
    this.images = { before: this.#image(), after: this.#image() };
    this.layers = {
      before: h("div", { class: "layer" }, this.images.before),
      after: h("div", { class: "layer" }, this.images.after),
    };
    this.handle = h(
      "div",
      {
        class: "divider",
        role: "slider",
        tabindex: 0,
        "aria-label": "Divider between before and after",
        "aria-valuemin": 0,
        "aria-valuemax": 100,
        onkeydown: (event) => this.#onDividerKey(event),
        onpointerdown: (event) => this.#grab(event),
      },
      h("span", { class: "divider-grip", "aria-hidden": "true" }, icon("compare")),
    );
    this.stage = h(
      "div",
      { class: "stage", tabindex: 0, role: "group", "aria-label": "Image: arrow keys move it, plus and minus zoom" },
      this.layers.before,
      this.layers.after,
    );
    this.zoomText = h("button", {
      type: "button",
      class: "zoom-text",
      "aria-label": "Show at 100 %",
      title: "Show at 100 %",
      onclick: () => this.#zoomTo(1 / devicePixelRatio),
    });
    this.panels = { before: h("div", { class: "panel before" }), after: h("div", { class: "panel after" }) };
    replace(
      dialog,
      h(
        "div",
        { class: "viewer" },
        h(
          "header",
          { class: "viewer-head" },
          h("h2", { class: "viewer-title", id: "viewer-title", text: this.item.name }),
          h("p", { class: "viewer-keys", "aria-hidden": "true" }, "Scroll to zoom, drag to move"),
          iconButton("close", "Close", () => dialog.close(), { class: "icon-button on-dark" }),
        ),
        h("div", { class: "stage-frame" }, this.stage, this.handle),
        h(
          "footer",
          { class: "viewer-foot" },
          this.panels.before,
          h(
            "div",
            { class: "zoom", role: "group", "aria-label": "Zoom" },
            iconButton("minus", "Zoom out", () => this.#zoomBy(1 / STEP), { class: "icon-button on-dark" }),
            this.zoomText,
            iconButton("plus", "Zoom in", () => this.#zoomBy(STEP), { class: "icon-button on-dark" }),
            button("Fit", () => this.#fit(), { class: "button small on-dark" }),
          ),
          this.panels.after,
        ),
      ),
    );
    this.stage.addEventListener("wheel", (event) => this.#onWheel(event), { passive: false });
    this.stage.addEventListener("pointerdown", (event) => this.#onDown(event));
    this.stage.addEventListener("pointermove", (event) => this.#onMove(event));
    for (const type of ["pointerup", "pointercancel"]) this.stage.addEventListener(type, (event) => this.#onUp(event));
    this.stage.addEventListener("dblclick", (event) =>
      this.fitted ? this.#zoomTo(1 / devicePixelRatio, event) : this.#fit(),
    );
    this.onKey = (event) => this.#onKey(event);
    this.resized = new ResizeObserver(() => (this.fitted ? this.#fit() : this.#draw()));
  }

  #image() {
    return h("img", { alt: "", draggable: "false", decoding: "async" });
  }

  open() {
    this.#show("before");
    this.#show("after");
    dialog.setAttribute("aria-labelledby", "viewer-title");
    dialog.addEventListener("keydown", this.onKey);
    dialog.addEventListener("close", () => this.#closed(), { once: true });
    dialog.showModal();
    this.resized.observe(this.stage);
    this.handle.focus({ preventScroll: true });
  }

  #closed() {
    this.resized.disconnect();
    dialog.removeEventListener("keydown", this.onKey);
    dialog.replaceChildren();
  }

  /** Put a choice on one side, with its panel. */
  #show(side) {
    const { address, name } = this.sides[side];
    this.images[side].src = address;
    this.images[side].alt = `${side === "before" ? "Before" : "After"}: ${name}`;
    this.#panel(side);
    if (this.stage.isConnected) this.#draw();
  }

  #panel(side) {
    const shown = this.sides[side];
    const original = this.item.job.input.bytes ?? this.item.size;
    const label = side === "before" ? "Left" : "Right";
    const select = h(
      "select",
      { "aria-label": `${label} side`, class: "panel-select", "data-focus": side },
      this.all.map((each, index) => h("option", { value: index, text: each.name, selected: each === shown })),
    );
    select.addEventListener("change", () => {
      this.sides[side] = this.all[Number(select.value)];
      this.#show(side);
      if (this.fitted) this.#fit();
    });
    const share = saved(original, shown.bytes);
    replace(
      this.panels[side],
      h(
        "div",
        { class: "panel-line" },
        select,
        shown.result
          ? h(
              "a",
              {
                class: "icon-button on-dark",
                href: shown.address,
                download: shown.result.filename,
                "aria-label": `Download ${shown.result.filename}`,
                title: "Download",
              },
              icon("download"),
            )
          : null,
      ),
      h(
        "div",
        { class: "panel-facts" },
        h("span", { class: "panel-size", text: bytes(shown.bytes) }),
        shown.result
          ? h("span", {
              class: share >= 0 ? "panel-saved" : "panel-saved more",
              title: savedText(original, shown.bytes),
              text: share >= 0 ? `−${percent(share)}` : `+${percent(share)}`,
            })
          : null,
        h("span", {
          class: "panel-dims",
          text: `${size(shown.width, shown.height)} · ${(shown.format ?? "").toUpperCase()}`,
        }),
      ),
    );
  }

  /** The frame that both sides fill has the size of the larger one, so that their pixels lie over each other. */
  get frame() {
    const { before, after } = this.sides;
    const larger = (before.width ?? 0) >= (after.width ?? 0) ? before : after;
    return { width: larger.width || 1, height: larger.height || 1 };
  }

  get room() {
    return { width: this.stage.clientWidth, height: this.stage.clientHeight };
  }

  #fit() {
    const { width, height } = this.frame;
    const margin = Math.min(48, this.room.width * 0.06);
    const fitting = Math.min((this.room.width - 2 * margin) / width, (this.room.height - 2 * margin) / height);
    this.scale = Math.min(fitting, Math.max(1 / devicePixelRatio, Math.min(fitting, 4)));
    this.x = (this.room.width - width * this.scale) / 2;
    this.y = (this.room.height - height * this.scale) / 2;
    this.fitted = true;
    this.#draw();
  }

  #zoomTo(scale, at = null) {
    this.#zoomBy(scale / this.scale, at);
  }

  #zoomBy(factor, at = null) {
    const box = this.stage.getBoundingClientRect();
    const px = at ? at.clientX - box.left : box.width / 2;
    const py = at ? at.clientY - box.top : box.height / 2;
    const scale = Math.min(MOST / devicePixelRatio, Math.max(0.02, this.scale * factor));
    this.x = px - ((px - this.x) * scale) / this.scale;
    this.y = py - ((py - this.y) * scale) / this.scale;
    this.scale = scale;
    this.fitted = false;
    this.#draw();
  }

  #moveBy(x, y) {
    this.x += x;
    this.y += y;
    this.fitted = false;
    this.#draw();
  }

  #draw() {
    const { width, height } = this.frame;
    const edge = this.split * this.room.width;
    for (const [side, image] of Object.entries(this.images)) {
      image.style.setProperty("width", `${width}px`);
      image.style.setProperty("height", `${height}px`);
      image.style.setProperty("transform", `translate(${this.x}px, ${this.y}px) scale(${this.scale})`);
      image.classList.toggle(
        "pixels",
        this.scale * devicePixelRatio * (width / (this.sides[side].width || width)) >= 2,
      );
    }
    this.layers.before.style.setProperty("clip-path", `inset(0 ${this.room.width - edge}px 0 0)`);
    this.layers.after.style.setProperty("clip-path", `inset(0 0 0 ${edge}px)`);
    this.handle.style.setProperty("transform", `translateX(${edge}px)`);
    this.handle.setAttribute("aria-valuenow", String(Math.round(this.split * 100)));
    this.handle.setAttribute("aria-valuetext", `${Math.round(this.split * 100)} % before`);
    this.zoomText.textContent = `${Math.round(this.scale * devicePixelRatio * 100)} %`;
  }

  #setSplit(share) {
    this.split = Math.min(1, Math.max(0, share));
    this.#draw();
  }

  #grab(event) {
    event.preventDefault();
    this.handle.focus({ preventScroll: true });
    this.handle.setPointerCapture(event.pointerId);
    const move = (moved) => {
      const box = this.stage.getBoundingClientRect();
      this.#setSplit((moved.clientX - box.left) / box.width);
    };
    this.handle.addEventListener("pointermove", move);
    this.handle.addEventListener("lostpointercapture", () => this.handle.removeEventListener("pointermove", move), {
      once: true,
    });
  }

  #onDividerKey(event) {
    const by = event.shiftKey ? 0.1 : 0.02;
    const to = { ArrowLeft: this.split - by, ArrowRight: this.split + by, Home: 0, End: 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    this.#setSplit(to);
  }

  #onKey(event) {
    if (event.target.matches("select, input") || event.ctrlKey || event.metaKey) return;
    const act = {
      "+": () => this.#zoomBy(STEP),
      "=": () => this.#zoomBy(STEP),
      "-": () => this.#zoomBy(1 / STEP),
      0: () => this.#fit(),
      1: () => this.#zoomTo(1 / devicePixelRatio),
      ArrowLeft: () => this.#moveBy(60, 0),
      ArrowRight: () => this.#moveBy(-60, 0),
      ArrowUp: () => this.#moveBy(0, 60),
      ArrowDown: () => this.#moveBy(0, -60),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  #onWheel(event) {
    event.preventDefault();
    const turned = event.deltaMode === 1 ? event.deltaY * 16 : event.deltaY;
    this.#zoomBy(Math.exp(-turned * (event.ctrlKey ? 0.01 : 0.002)), event);
  }

  #onDown(event) {
    if (event.button > 0) return;
    this.stage.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, event);
  }

  /** One pointer moves the image, two zoom it. */
  #onMove(event) {
    const last = this.pointers.get(event.pointerId);
    if (!last) return;
    if (this.pointers.size === 1) {
      this.#moveBy(event.clientX - last.clientX, event.clientY - last.clientY);
    } else {
      const other = [...this.pointers.values()].find(({ pointerId }) => pointerId !== event.pointerId);
      const middle = { clientX: (event.clientX + other.clientX) / 2, clientY: (event.clientY + other.clientY) / 2 };
      this.#zoomBy(distance(event, other) / Math.max(1, distance(last, other)), middle);
      this.#moveBy((event.clientX - last.clientX) / 2, (event.clientY - last.clientY) / 2);
    }
    this.pointers.set(event.pointerId, event);
  }

  #onUp(event) {
    this.pointers.delete(event.pointerId);
  }
}

const distance = (one, other) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
