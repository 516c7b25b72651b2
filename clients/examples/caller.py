#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Plain MessagePack-RPC, with the standard msgpack package: caller.py knit://HOST:PORT|knits://HOST:PORT|unix:///PATH"""
import socket
import ssl
import sys

import msgpack


def connect(url):
    scheme, _, rest = url.partition("://")
    if scheme == "unix":
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(rest)
        return connection
    host, _, port = rest.partition(":")
    if scheme != "knits":
        return socket.create_connection((host, int(port or 5648)))
    connection = socket.create_connection((host, int(port or 5649)))
    return ssl.create_default_context().wrap_socket(connection, server_hostname=host)


def calls(connection, *requests):
    """Sends [method, arguments...] for each request; returns {msgid: (error, result)}."""
    for msgid, (method, *arguments) in enumerate(requests):
        connection.sendall(msgpack.packb([0, msgid, method, arguments]))
    unpacker, answers = msgpack.Unpacker(), {}
    while len(answers) < len(requests):
        unpacker.feed(connection.recv(65536) or sys.exit("the server closed the connection"))
        for _, msgid, error, result in unpacker:
            answers[msgid] = (error, result)
    return answers


if len(sys.argv) != 2:
    sys.exit(__doc__)
requests = [["add", 2, 3], ["echo", {"any": [1, 2.5, b"bytes"]}], ["sha256", b"abc"], ["fail", 7]]
for msgid, (error, result) in sorted(calls(connect(sys.argv[1]), *requests).items()):
    print(requests[msgid][0], "failed:" if error else "=", error or result)
