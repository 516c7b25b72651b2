/* SPDX-License-Identifier: Apache-2.0 */
/* Cap'n Proto's calls over TCP: one connection, promises, a worker process with an event loop of
 * its own. */
#include <capnp/ez-rpc.h>

#include <memory>
#include <string>

#include "bench/peers/peer.h"
#include "capnproto.capnp.h"

namespace
{

/* ---- the worker ---- */

class Worker final : public Echo::Server
{
  public:
    kj::Promise<void> echo(EchoContext context) override
    {
        context.getResults().setValue(context.getParams().getValue());
        return kj::READY_NOW;
    }
};

void Serve()
{
    capnp::EzRpcServer server(kj::heap<Worker>(), "127.0.0.1:0");
    kj::WaitScope &scope = server.getWaitScope();
    peer_tell(("127.0.0.1:" + std::to_string(server.getPort().wait(scope))).c_str());
    kj::NEVER_DONE.wait(scope);
}

/* ---- the caller ---- */

std::unique_ptr<capnp::EzRpcClient> client;
std::unique_ptr<Echo::Client> echo;
kj::Maybe<kj::Promise<void>> calls[PEER_DEPTH_MAX];
kj::Own<kj::PromiseFulfiller<void>> answered;

void Open(const struct peer_options *)
{
    char address[PEER_TEXT_MAX];
    peer_fork(Serve);
    peer_hear(address);
    client = std::make_unique<capnp::EzRpcClient>(address);
    echo = std::make_unique<Echo::Client>(client->getMain<Echo>());
}

void Send(uint32_t index, const void *bytes, size_t len)
{
    auto request = echo->echoRequest(capnp::MessageSize{len / sizeof(capnp::word) + 16, 0});
    request.setValue(kj::arrayPtr(static_cast<const kj::byte *>(bytes), len));
    calls[index] = request.send()
                       .then([index](capnp::Response<Echo::EchoResults> &&response) {
                           auto value = response.getValue();
                           peer_done(index, value.begin(), value.size());
                           if (answered.get() != nullptr)
                               answered->fulfill();
                       })
                       .eagerlyEvaluate([](kj::Exception &&exception) {
                           peer_fail(exception.getDescription().cStr());
                       });
}

void Wait()
{
    auto pair = kj::newPromiseAndFulfiller<void>();
    answered = kj::mv(pair.fulfiller);
    pair.promise.wait(client->getWaitScope());
}

void Close()
{
    for (auto &call : calls)
        call = nullptr;
    echo.reset();
    client.reset();
}

} // namespace

extern "C" const struct peer peer = {"capnproto", Open, Send, Wait, Close};
