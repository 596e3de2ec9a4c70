// The request that the recipe is, to copy: as JSON, for curl, and as programs.

import { hasKey } from "./api.js";
import { button, h, replace, toast } from "./dom.js";

const TABS = { JSON: asJson, curl: asCurl, Python: asPython, TypeScript: asTypeScript };

/** JSON with short things on one line. */
export function pretty(value, indent = "") {
  const flat = JSON.stringify(value);
  const spaced = flat.replace(/("(?:[^"\\]|\\.)*")|([:,])/g, (_, text, mark) => text ?? `${mark} `);
  if (indent.length + spaced.length <= 64 || typeof value !== "object" || value === null) return spaced;
  const deeper = `${indent}  `;
  const lines = Array.isArray(value)
    ? value.map((each) => deeper + pretty(each, deeper))
    : Object.entries(value).map(([name, each]) => `${deeper}${JSON.stringify(name)}: ${pretty(each, deeper)}`);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  return `${open}\n${lines.join(",\n")}\n${indent}${close}`;
}

function asJson({ operations }) {
  return pretty(operations);
}

function asCurl({ operations, filename }) {
  const lines = [`curl ${location.origin}/process`];
  if (hasKey()) lines.push(`  -H "Authorization: Bearer $PIXTOOLS_KEY"`);
  lines.push(
    `  -H 'Prefer: wait=30'`,
    `  -F ${shell(`file=@${filename}`)}`,
    `  -F ${shell(`operations=${pretty(operations)}`)}`,
  );
  return lines.join(" \\\n");
}

const shell = (text) => (/^[\w@=./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

function asPython({ operations, filename }) {
  const key = hasKey()
    ? `\n    headers={"Authorization": f"Bearer {os.environ['PIXTOOLS_KEY']}", "Prefer": "wait=30"},`
    : `\n    headers={"Prefer": "wait=30"},`;
  return `import json
${hasKey() ? "import os\n" : ""}
import httpx

operations = ${python(operations)}

answer = httpx.post(
    "${location.origin}/process",
    files={"file": open(${JSON.stringify(filename)}, "rb")},
    data={"operations": json.dumps(operations)},${key}
    timeout=60,
)
answer.raise_for_status()
for result in answer.json()["results"]:
    print(result["name"], result["bytes"], result["url"])`;
}

const python = (value) =>
  pretty(value).replace(
    /("(?:[^"\\]|\\.)*")|\b(true|false|null)\b/g,
    (_, text, word) => text ?? { true: "True", false: "False", null: "None" }[word],
  );

function asTypeScript({ operations, filename }) {
  const name = JSON.stringify(filename);
  const key = hasKey() ? "Authorization: `Bearer ${process.env.PIXTOOLS_KEY}`, " : "";
  return `import { openAsBlob } from "node:fs";

const operations = ${pretty(operations)};

const form = new FormData();
form.set("operations", JSON.stringify(operations));
form.set("file", await openAsBlob(${name}), ${name});
const answer = await fetch("${location.origin}/process", {
  method: "POST",
  headers: { ${key}Prefer: "wait=30" },
  body: form,
});
if (!answer.ok) throw new Error(await answer.text());
const job = await answer.json();
for (const { name, bytes, url } of job.results) console.log(name, bytes, url);`;
}

/** The panel with a tab for each. */
export class Code {
  #tab = "JSON";
  #about = { operations: [], filename: "photo.jpg" };

  constructor(element) {
    this.tabs = Object.keys(TABS).map((name) =>
      h("button", {
        type: "button",
        role: "tab",
        id: `tab-${name}`,
        "aria-controls": "code-text",
        text: name,
        onclick: () => this.#choose(name),
      }),
    );
    this.text = h("pre", { class: "code", id: "code-text", role: "tabpanel", tabindex: 0 });
    const list = h(
      "div",
      { class: "tabs", role: "tablist", "aria-label": "The request", onkeydown: (event) => this.#onKey(event) },
      this.tabs,
    );
    replace(
      element,
      h(
        "div",
        { class: "code-head" },
        list,
        button("Copy", () => this.#copy(), { icon: "copy", class: "button small" }),
      ),
      this.text,
    );
    this.#draw();
  }

  show(about) {
    this.#about = { ...this.#about, ...about };
    this.#draw();
  }

  #choose(name) {
    this.#tab = name;
    this.#draw();
  }

  #onKey(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const names = Object.keys(TABS);
    this.#choose(names[(names.indexOf(this.#tab) + step + names.length) % names.length]);
    this.tabs.find((tab) => tab.textContent === this.#tab).focus();
  }

  #draw() {
    for (const tab of this.tabs) {
      const chosen = tab.textContent === this.#tab;
      tab.setAttribute("aria-selected", String(chosen));
      tab.tabIndex = chosen ? 0 : -1;
    }
    this.text.setAttribute("aria-labelledby", `tab-${this.#tab}`);
    replace(this.text, coloured(TABS[this.#tab](this.#about)));
  }

  async #copy() {
    const text = TABS[this.#tab](this.#about);
    try {
      await navigator.clipboard.writeText(text);
      toast(`${this.#tab} copied`);
    } catch {
      getSelection().selectAllChildren(this.text); // no clipboard on pages without TLS
      toast("Press Ctrl C to copy");
    }
  }
}

const TOKEN =
  /("(?:[^"\\]|\\.)*")(\s*:)?|\b(-?\d+(?:\.\d+)?|true|false|null|True|False|None)\b|\b(import|from|const|await|new|if|throw|for|of|in|print)\b/g;

/** Text with names, values and words in different colours. */
function coloured(text) {
  const parts = [];
  let end = 0;
  for (const found of text.matchAll(TOKEN)) {
    parts.push(document.createTextNode(text.slice(end, found.index)));
    end = found.index + found[0].length;
    const [, string, colon = "", value, word] = found;
    const kind = string ? (colon ? "name" : "string") : word ? "word" : "value";
    parts.push(h("span", { class: `t-${kind}`, text: string ?? value ?? word }), document.createTextNode(colon));
  }
  return [...parts, document.createTextNode(text.slice(end))];
}
