// SPDX-License-Identifier: Apache-2.0
// piscina, a pool of node's threads, with one thread: the load that peer.c describes, for JavaScript. This file is the
// worker as well.
import {createRequire} from 'node:module';
import {fileURLToPath} from 'node:url';
import {isMainThread} from 'node:worker_threads';

export default function echo(value) {
  return value;
}

function percentile(sorted, share) {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
}

async function runUntil(pool, load, end, spans) {
  const one = async (index) => {
    const value = new Uint8Array(load.bytes);
    for (let number = index; performance.now() < end; number += load.depth) {
      new DataView(value.buffer).setUint32(0, number);
      const began = performance.now();
      const answer = await pool.run(value);
      if (answer.length !== load.bytes || new DataView(answer.buffer).getUint32(0) !== number)
        throw new Error('an answer that is not the argument');
      spans.push(performance.now() - began);
    }
  };
  await Promise.all(Array.from({length: load.depth}, (_, index) => one(index)));
}

async function measure(pool, load, seconds) {
  await runUntil(pool, load, performance.now() + seconds * 200, []);
  const spans = [], began = performance.now();
  await runUntil(pool, load, began + seconds * 1000, spans);
  const took = (performance.now() - began) / 1000;
  spans.sort((a, b) => a - b);
  console.log(JSON.stringify({
    depth: load.depth, bytes: load.bytes, rate: spans.length / took,
    p50_ns: Math.round(percentile(spans, 0.5) * 1e6), p99_ns: Math.round(percentile(spans, 0.99) * 1e6),
  }));
}

// piscina.mjs -s NODE_MODULES -t SECONDS DEPTH:BYTES...
async function main([, modules, , seconds, ...loads]) {
  const {Piscina} = createRequire(modules + '/')('piscina');
  const pool = new Piscina({
    filename: fileURLToPath(import.meta.url), minThreads: 1, maxThreads: 1, concurrentTasksPerWorker: 64,
  });
  for (const load of loads) {
    const [depth, bytes] = load.split(':').map(Number);
    await measure(pool, {depth, bytes}, Number(seconds));
  }
  await pool.destroy();
}

if (isMainThread)
  await main(process.argv.slice(2));
