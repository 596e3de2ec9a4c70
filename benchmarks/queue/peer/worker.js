// The peer's worker: BullMQ hands two jobs at a time to sharp, which works on each with one thread.
//
//     REDIS_PORT=... FOLDER=... node worker.js
const fs = require('node:fs');
const path = require('node:path');
const sharp = require('sharp');
const { Worker } = require('bullmq');

sharp.concurrency(1);

const results = path.join(process.env.FOLDER, 'results');
fs.mkdirSync(results, { recursive: true });

async function resize(job) {
  const file = path.join(results, `${job.id}.webp`);
  const { width, height, size } = await sharp(job.data.source)
    .rotate()
    .resize(640)
    .webp({ quality: 80, effort: 4 })
    .toFile(file);
  return { file, width, height, bytes: size };
}

new Worker('images', resize, {
  connection: { host: '127.0.0.1', port: Number(process.env.REDIS_PORT) },
  concurrency: 2,
});
