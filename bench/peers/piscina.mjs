// SPDX-License-Identifier: Apache-2.0
// piscina, a pool of node's threads, with one thread that may have all calls queued. This file is the worker as well.
import {createRequire} from 'node:module';
import {fileURLToPath} from 'node:url';

let pool;

export default function echo(value) {
  return value;
}

export function open(folder) {
  const {Piscina} = createRequire(folder + '/')('piscina');
  pool = new Piscina({
    filename: fileURLToPath(import.meta.url), minThreads: 1, maxThreads: 1, concurrentTasksPerWorker: 64,
  });
}

export function call(bytes) {
  return pool.run(bytes);
}

export async function close() {
  await pool.destroy();
}
