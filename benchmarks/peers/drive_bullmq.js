// BullMQ on Redis: jobs and results in Redis, one Node.js worker. The driver of `driver.py`, and with the arguments
// `worker CONCURRENCY` the worker itself.
"use strict";

const fs = require("fs");
const readline = require("readline");
const { Queue, QueueEvents, Worker } = require("bullmq");

const server = new URL(process.env.LOGQUEUE_BENCH_SERVER);
const connection = { host: server.hostname, port: Number(server.port), maxRetriesPerRequest: null };
const NAME = "bench";
const TOGETHER = 1000;
const RESULT_MS = 30000;

// The same notes as benchmarks/jobs/work.py.
const path = process.env.LOGQUEUE_BENCH_FILE;
const file = path === undefined ? undefined : fs.openSync(path, "a");
function note(what, number) {
  if (file === undefined) return;
  const now = performance.timeOrigin + performance.now(); // Date.now() cuts off what is less than a millisecond
  fs.writeSync(file, `${what} ${number} ${(now / 1000).toFixed(6)}\n`);
}

async function wait(job) {
  const { number, ms } = job.data;
  note("b", number);
  if (ms) await new Promise((resolve) => setTimeout(resolve, ms));
  note("e", number);
  return number;
}

async function work(concurrency) {
  const worker = new Worker(NAME, wait, { connection, concurrency });
  await worker.waitUntilReady();
  console.log("worker is ready");
  process.on("SIGTERM", () => worker.close().then(() => process.exit(0)));
}

// Submit at the rate; milliseconds until each was accepted, and its result was there.
async function latency(queue, jobs, rate) {
  const events = new QueueEvents(NAME, { connection });
  await events.waitUntilReady();
  const one = async (number) => {
    const began = performance.now();
    const job = await queue.add("wait", { number, ms: 0 });
    const accepted = performance.now();
    await job.waitUntilFinished(events, RESULT_MS);
    return [accepted - began, performance.now() - began];
  };
  const began = performance.now();
  const waiting = [];
  for (let number = 0; number < jobs; number++) {
    const pause = began + (number * 1000) / rate - performance.now();
    if (pause > 0) await new Promise((resolve) => setTimeout(resolve, pause));
    waiting.push(one(number));
  }
  const times = await Promise.all(waiting);
  await events.close();
  return times;
}

async function drive() {
  const queue = new Queue(NAME, { connection });
  const commands = {
    async enqueue(first, jobs, ms) {
      const began = process.hrtime.bigint();
      for (let start = first; start < first + jobs; start += TOGETHER) {
        const batch = [];
        for (let number = start; number < Math.min(start + TOGETHER, first + jobs); number++)
          batch.push({ name: "wait", data: { number, ms } });
        await queue.addBulk(batch);
      }
      return Number(process.hrtime.bigint() - began) / 1e9;
    },
    worker: async (concurrency) => [[process.execPath, __filename, "worker", String(concurrency)], "worker is ready"],
    finished: () => queue.getCompletedCount(),
    latency: (jobs, rate) => latency(queue, jobs, rate),
  };
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [name, ...values] = JSON.parse(line);
    console.log(JSON.stringify(await commands[name](...values)));
  }
  await queue.close();
}

if (process.argv[2] === "worker") work(Number(process.argv[3]));
else drive();
