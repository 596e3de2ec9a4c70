// The peer's API: Express takes an upload, multer writes it to disk, BullMQ queues it.
//
//     PORT=... REDIS_PORT=... FOLDER=... node api.js
const path = require('node:path');
const express = require('express');
const multer = require('multer');
const { Queue } = require('bullmq');

const queue = new Queue('images', { connection: { host: '127.0.0.1', port: Number(process.env.REDIS_PORT) } });
const upload = multer({ dest: path.join(process.env.FOLDER, 'uploads') });
const app = express();

app.post('/process', upload.single('file'), async (request, response) => {
  const job = await queue.add('resize', { source: request.file.path }, { attempts: 5 });
  response.status(202).json({ id: job.id });
});

app.get('/jobs/:id', async (request, response) => {
  const job = await queue.getJob(request.params.id);
  const state = await job.getState();
  response.json({ id: job.id, status: state, results: state === 'completed' ? [job.returnvalue] : [] });
});

app.get('/health/ready', async (request, response) => {
  await queue.waitUntilReady();
  response.json({});
});

app.listen(Number(process.env.PORT), '127.0.0.1');
