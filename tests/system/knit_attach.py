# SPDX-License-Identifier: Apache-2.0
"""Attaching without the client library, over the raw protocol.

    result, fds = attach(rpc)                   a session that is served
    result, fds = grant(rpc)                    one that is not served before seal(fds) and send_attached(rpc)

The caller closes the descriptors; they come in the order of the names below."""

import array
import fcntl
import os
import socket

from knit_harness import RpcError

BOARD, REQUEST, REPLY, BELL = range(4)
LAYOUT = 2
F_GET_SEALS = 1034
F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_FUTURE_WRITE = 1, 2, 4, 16


def grant(rpc, **options):
    """Sends the request and reads up to the response: (result, descriptors)."""
    msgid = rpc.request('$/attach', {'version': LAYOUT, **options})
    fds = array.array('i')
    while msgid not in rpc.responses:
        data, control, flags, _ = rpc.sock.recvmsg(1 << 16, socket.CMSG_SPACE(16 * fds.itemsize))
        assert not flags & socket.MSG_CTRUNC
        if not data:
            raise EOFError
        if control:
            assert not fds, 'descriptors came twice'
            fds.frombytes(control[0][2])
        rpc.unpacker.feed(data)
        for message in rpc.unpacker:
            rpc.responses[message[1]] = message[2:]
    error, result = rpc.responses.pop(msgid)
    if error is not None:
        assert not fds
        raise RpcError(error)
    return result, list(fds)


def seal(fds):
    """A mapping for writing has to be made before."""
    fcntl.fcntl(fds[REQUEST], fcntl.F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL)


def send_attached(rpc):
    """Returns when the daemon has handled it."""
    rpc.notify('$/attached')
    rpc.call('$/ping')


def attach(rpc, **options):
    result, fds = grant(rpc, **options)
    seal(fds)
    send_attached(rpc)
    return result, fds


def attach_and_forget(rpc):
    for fd in attach(rpc)[1]:
        os.close(fd)
