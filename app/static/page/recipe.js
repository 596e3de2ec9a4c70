// The recipe: the tree of operations as it is edited, and its JSON. Nothing of the page is known here.

import { newId } from "./api.js";

/** @typedef {{id: string, op: string, params: object, as: string, keep: boolean, then: Node[]}} Node */

export function node(op, params = {}) {
  return { id: newId(), op, params: { ...params }, as: "", keep: false, then: [] };
}

/** The tree of `operations` as the API takes it. */
export function fromJson(entries) {
  return entries.map((entry) => {
    if (typeof entry === "string") return node(entry);
    const { op, then = [], as = "", keep = false, ...params } = entry;
    return { ...node(op, params), as, keep, then: fromJson(then) };
  });
}

export function toJson(nodes) {
  return nodes.map(({ op, params, as, keep, then }) => {
    const more = {
      ...params,
      ...(as ? { as } : {}),
      ...(keep && then.length ? { keep } : {}),
      ...(then.length ? { then: toJson(then) } : {}),
    };
    return Object.keys(more).length ? { op, ...more } : op;
  });
}

export function copy(original) {
  return { ...original, id: newId(), as: "", params: structuredClone(original.params), then: original.then.map(copy) };
}

export function* walk(nodes, parent = null, path = []) {
  for (const [index, each] of nodes.entries()) {
    const place = [...path, index];
    yield { node: each, parent, siblings: nodes, index, path: place };
    yield* walk(each.then, each, place);
  }
}

export function find(nodes, id) {
  for (const found of walk(nodes)) if (found.node.id === id) return found;
  return null;
}

/** The names of all results by the id of their node, as the server gives them. */
export function resultNames(nodes) {
  const results = [...walk(nodes)].filter(({ node: each }) => !each.then.length || each.keep);
  const taken = new Set([...walk(nodes)].map(({ node: each }) => each.as.toLowerCase()).filter(Boolean));
  return new Map(results.map(({ node: each, path }) => [each.id, each.as || unique(pathName(nodes, path), taken)]));
}

function pathName(nodes, path) {
  const names = [];
  let level = nodes;
  for (const index of path) {
    names.push(level[index].op);
    level = level[index].then;
  }
  return names.join(".");
}

function unique(name, taken) {
  let candidate = name;
  for (let number = 2; taken.has(candidate); number += 1) candidate = `${name}-${number}`;
  taken.add(candidate);
  return candidate;
}

/** The node and the parameter that a JSON pointer of the API names: `#/operations/0/then/1/width`. */
export function locate(nodes, pointer) {
  const parts = pointer.replace(/^#\//, "").split("/").map(unescapePointer);
  if (parts.shift() !== "operations") return null;
  let level = nodes;
  let found = null;
  while (parts.length && /^\d+$/.test(parts[0])) {
    found = level[Number(parts.shift())] ?? found;
    level = found?.then ?? [];
    if (parts[0] !== "then") break;
    parts.shift();
  }
  return { node: found, field: parts[0] ?? "" };
}

const unescapePointer = (part) => part.replaceAll("~1", "/").replaceAll("~0", "~");

/** The node of a step: its id is the path in the tree, as `0.1`. */
export function ofStep(nodes, stepId) {
  let level = nodes;
  let found = null;
  for (const index of stepId.split(".").map(Number)) {
    found = level[index] ?? null;
    level = found?.then ?? [];
  }
  return found;
}

/** Recipes to begin with; those whose operations a server lacks are not offered by it. */
export const STARTS = [
  {
    name: "For the web",
    about: "AVIF and WebP at 1600 pixels, and a JPEG for programs that read neither.",
    operations: [
      {
        op: "resize",
        width: 1600,
        then: [{ op: "convert_avif" }, { op: "convert_webp" }, { op: "convert_jpeg", as: "fallback" }],
      },
    ],
  },
  {
    name: "Everything for a page",
    about: "AVIF, WebP and JPEG in three widths, placeholders, and a <picture> to paste.",
    operations: [{ op: "web", widths: [480, 960, 1920], as: "photo" }],
  },
  {
    name: "Thumbnails",
    about: "Squares around the most eye-catching part, in two sizes.",
    operations: [320, 96].map((side) => ({
      op: "resize",
      width: side,
      height: side,
      fit: "cover",
      gravity: "attention",
      then: [{ op: "convert_webp", as: `square-${side}` }],
    })),
  },
  {
    name: "Below 100 kB",
    about: "The best quality that fits, as JPEG and as WebP.",
    operations: [
      { op: "convert_webp", max_bytes: 100000 },
      { op: "convert_jpeg", max_bytes: 100000 },
    ],
  },
  {
    name: "Denoise",
    about: "A neural network removes the noise; compare before and after.",
    operations: [{ op: "denoise", profile: "fast", then: [{ op: "convert_webp", quality: 90 }] }],
  },
  { name: "Look inside", about: "The metadata of the file, as JSON.", operations: ["metadata"] },
];

export function startsFor(operations) {
  return STARTS.filter(({ operations: entries }) =>
    [...walk(fromJson(entries))].every(({ node: each }) => operations.has(each.op)),
  );
}
