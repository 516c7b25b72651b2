// SPDX-License-Identifier: Apache-2.0
// MessagePack-RPC by npm's msgpack-rpc-lite: caller.js HOST PORT. Prints what it got as JSON, one value a line.
const rpc = require('msgpack-rpc-lite');

const [host, port] = process.argv.slice(2);
const calls = [['add', 2, 40], ['echo', { a: [1, 'b', null, 2.5] }], ['fail', 7, 'out of wool'], ['$/ping', 'still there']];

// A client of this library has one request in flight.
async function call(method, ...params) {
    const client = rpc.createClient(Number(port), host);
    try {
        const [result] = await client.request(method, ...params);
        return result;
    } catch (error) {
        return error instanceof Error ? error.message : error;
    }
}

(async () => {
    await rpc.createClient(Number(port), host).notify('add', 1, 1);
    for (const [method, ...params] of calls)
        console.log(JSON.stringify([await call(method, ...params)]));
    process.exit(0);
})();
