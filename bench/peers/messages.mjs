// SPDX-License-Identifier: Apache-2.0
// What node itself has: one thread and its messages, each with the call's number. It is the least that a pool of node's
// threads does without shared memory, and a sample of what pool.mjs takes. This file is the worker as well.
import {isMainThread, parentPort, Worker} from 'node:worker_threads';

const waiting = new Map();
let worker, next = 0;

export function open() {
  worker = new Worker(new URL(import.meta.url));
  worker.on('message', ([number, bytes]) => {
    const resolve = waiting.get(number);
    waiting.delete(number);
    resolve(bytes);
  });
}

export function call(bytes) {
  return new Promise((resolve) => {
    waiting.set(next, resolve);
    worker.postMessage([next++, bytes]);
  });
}

export async function close() {
  await worker.terminate();
}

if (!isMainThread)
  parentPort?.on('message', (message) => parentPort.postMessage(message));
