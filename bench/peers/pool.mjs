// SPDX-License-Identifier: Apache-2.0
// The load that peer.c describes, for pools of JavaScript threads: pool.mjs ADAPTER FOLDER -t SECONDS DEPTH:BYTES..., or
// bCALLS:BYTES for batches.
//
// ADAPTER is a module that exports
//     async open(FOLDER)    makes a pool of one worker whose task returns its argument (may be left out)
//     call(bytes)           runs it: a promise of the same bytes, as a Uint8Array
//     async close()         ends it (may be left out)
// or a folder with an installed package, whose main module exports these, or createPool() and task() (task_pool.mjs).
import {existsSync, readFileSync, statSync} from 'node:fs';
import {join, resolve} from 'node:path';
import {pathToFileURL} from 'node:url';

// Code that has run only for some milliseconds has not been compiled yet.
const FIRST_WARM_MS = 500;

function entryOf(exported) {
  if (typeof exported !== 'object' || exported === null)
    return exported;
  return entryOf(exported['.'] ?? exported.node ?? exported.import ?? exported.default);
}

function mainOf(folder) {
  const about = existsSync(join(folder, 'package.json')) ? JSON.parse(readFileSync(join(folder, 'package.json'))) : {};
  const names = [entryOf(about.exports), about.module, about.main, 'index.mjs', 'index.js'];
  const found = names.find((name) => typeof name === 'string' && existsSync(join(folder, name)));
  if (found === undefined)
    throw new Error(`${folder}: a folder without a main module`);
  return join(folder, found);
}

async function load(path) {
  const main = statSync(path).isDirectory() ? mainOf(path) : path;
  const url = pathToFileURL(resolve(main)).href, module = await import(url);
  if (typeof module.call === 'function')
    return module;
  if (typeof module.createPool !== 'function' || typeof module.task !== 'function')
    throw new Error(`${path}: exports neither call() nor createPool() and task()`);
  process.env.TASK_POOL_PACKAGE = url;
  return await import('./task_pool.mjs');
}

function percentile(sorted, share) {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
}

async function runUntil(pool, {depth, bytes}, end, spans) {
  const one = async (index) => {
    const value = new Uint8Array(bytes);
    // At least one, however late it is.
    for (let number = index; number === index || performance.now() < end; number += depth) {
      new DataView(value.buffer).setUint32(0, number);
      const began = performance.now();
      const answer = await pool.call(value);
      if (answer.length !== bytes || new DataView(answer.buffer, answer.byteOffset).getUint32(0) !== number)
        throw new Error('an answer that is not the argument');
      spans.push(performance.now() - began);
    }
  };
  await Promise.all(Array.from({length: depth}, (_, index) => one(index)));
}

// Batches: all are started, then awaited.
async function runBatchesUntil(pool, {depth, bytes}, end, spans) {
  const values = Array.from({length: depth}, () => new Uint8Array(bytes));
  for (let number = 0; number === 0 || performance.now() < end; number += depth) {
    const began = performance.now();
    const answers = await Promise.all(values.map((value, index) => {
      new DataView(value.buffer).setUint32(0, number + index);
      return pool.call(value);
    }));
    const took = performance.now() - began;
    for (const [index, answer] of answers.entries()) {
      if (answer.length !== bytes || new DataView(answer.buffer, answer.byteOffset).getUint32(0) !== number + index)
        throw new Error('an answer that is not the argument');
      spans.push(took);
    }
  }
}

async function measure(pool, load, warmMs, ms) {
  const run = load.batch ? runBatchesUntil : runUntil;
  await run(pool, load, performance.now() + warmMs, []);
  const spans = [], began = performance.now();
  await run(pool, load, began + ms, spans);
  const took = (performance.now() - began) / 1000;
  spans.sort((a, b) => a - b);
  console.log(JSON.stringify({
    depth: load.depth, batch: load.batch, bytes: load.bytes, rate: spans.length / took,
    p50_ns: Math.round(percentile(spans, 0.5) * 1e6), p99_ns: Math.round(percentile(spans, 0.99) * 1e6),
  }));
}

const [adapter, folder, , seconds, ...loads] = process.argv.slice(2);
const pool = await load(adapter), ms = Number(seconds) * 1000;
await pool.open?.(folder);
for (const [index, text] of loads.entries()) {
  const batch = text.startsWith('b'), [depth, bytes] = text.slice(batch ? 1 : 0).split(':').map(Number);
  await measure(pool, {depth, batch, bytes}, index === 0 ? FIRST_WARM_MS : ms / 5, ms);
}
await pool.close?.();
