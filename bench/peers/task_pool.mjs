// SPDX-License-Identifier: Apache-2.0
// A package whose main module exports task({f}) and createPool({threads})({tasks}) -> {call, shutdown}. Such pools import
// the file that defines a task in their workers again, so the package is named by the environment, which those inherit.
const {createPool, task} = await import(process.env.TASK_POOL_PACKAGE);

export const echo = task({f: (value) => value});

let pool;

export function open() {
  pool = createPool({threads: 1})({echo});
}

export function call(bytes) {
  return pool.call.echo(bytes);
}

export async function close() {
  await pool.shutdown();
}
