# SPDX-License-Identifier: Apache-2.0
# MessagePack-RPC by Ruby's msgpack over a plain socket:
#
#     caller.rb tcp HOST PORT | unix PATH | tls HOST PORT CA-FILE
#
# Prints what it got as JSON, one value a line.
require 'json'
require 'msgpack'
require 'openssl'
require 'socket'

def connect(kind, *address)
  return UNIXSocket.new(address[0]) if kind == 'unix'
  tcp = TCPSocket.new(address[0], address[1].to_i)
  return tcp if kind == 'tcp'
  context = OpenSSL::SSL::SSLContext.new
  context.ca_file = address[2]
  context.verify_mode = OpenSSL::SSL::VERIFY_PEER
  context.alpn_protocols = ['knit/1']
  tls = OpenSSL::SSL::SSLSocket.new(tcp, context)
  tls.hostname = address[0]
  tls.sync_close = true
  tls.connect
  tls.post_connection_check(address[0])
  tls
end

socket = connect(*ARGV)
unpacker = MessagePack::Unpacker.new
answers = {}
calls = [['add', [2, 40]], ['echo', [{ 'a' => [1, 'b', nil, 2.5] }]], ['fail', [7, 'out of wool']],
         ['$/ping', ['still there']]]
socket.write(MessagePack.pack([2, 'add', [1, 1]]))
calls.each_with_index { |(method, params), msgid| socket.write(MessagePack.pack([0, msgid, method, params])) }
while answers.size < calls.size
  unpacker.feed_each(socket.readpartial(65_536)) { |_, msgid, error, result| answers[msgid] = error || result }
end
calls.each_index { |msgid| puts JSON.generate([answers[msgid]]) }
socket.close
