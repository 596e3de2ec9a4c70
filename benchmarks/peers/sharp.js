// sharp in one process, with one thread of libvips as PixTools has. Jobs as in libvips.py.
//
//     NODE_PATH=folder/node_modules node sharp.js SOURCE FOLDER
const path = require('node:path');
const readline = require('node:readline');
const sharp = require('sharp');

sharp.cache(false);
sharp.concurrency(1);

const [source, folder] = process.argv.slice(2);
const SAVE = {
  webp: (image) => image.webp({ quality: 80, effort: 4 }),
  jpeg: (image) => image.jpeg({ quality: 80, progressive: true, optimiseCoding: true, chromaSubsampling: '4:2:0' }),
  avif: (image) => image.avif({ quality: 50, effort: 2, chromaSubsampling: '4:2:0' }),
};

const save = (image, name) => SAVE[name](image).toFile(path.join(folder, `${name}.${name}`));

async function run(job) {
  const resized = sharp(source).resize(1280);
  if (job !== 'three') return save(resized, job);
  // one decode: a pipeline with three outputs would decode three times
  const { data, info } = await resized.raw().toBuffer({ resolveWithObject: true });
  for (const name of Object.keys(SAVE)) await save(sharp(data, { raw: info }), name);
}

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    await run(line.trim());
    console.log('done');
  }
})();
