// Writes tests/imaging/thumbhash.json: what the reference implementation makes of pixels that a formula gives.
//
//     npm install --prefix /tmp/thumbhash thumbhash@0.1.1
//     NODE_PATH=/tmp/thumbhash/node_modules node tests/imaging/thumbhash.mjs > tests/imaging/thumbhash.json

import { createRequire } from "node:module";

const { rgbaToThumbHash } = await import(createRequire(import.meta.url).resolve("thumbhash"));

const SIZES = [[100, 75], [75, 100], [100, 100], [64, 48], [33, 20], [100, 1], [1, 100], [2, 2], [1, 1]];
const KINDS = ["opaque", "fading", "holes", "clear", "flat"];

/** The same whole numbers as `_pixels` of test_thumbhash.py. */
function pixels(width, height, kind) {
  const rgba = new Uint8Array(4 * width * height);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const noise = (x * x * 7 + y * x * 13 + y * 31) % 61;
      const alpha = { opaque: 255, flat: 255, clear: 0, fading: (x * 255 / Math.max(1, width - 1)) | 0 };
      const colour = kind === "flat" ? [90, 120, 200] : [((x * 190 / width) | 0) + noise, ((y * 150 / height) | 0) + noise, 200 - 3 * noise];
      rgba.set([...colour, alpha[kind] ?? (noise % 3 ? 255 : 0)], 4 * (y * width + x));
    }
  }
  return rgba;
}

const found = SIZES.flatMap(([width, height]) =>
  KINDS.map((kind) => ({
    width,
    height,
    kind,
    hash: Buffer.from(rgbaToThumbHash(width, height, pixels(width, height, kind))).toString("hex"),
  })),
);
console.log(`[\n${found.map((one) => `  ${JSON.stringify(one)}`).join(",\n")}\n]`);
