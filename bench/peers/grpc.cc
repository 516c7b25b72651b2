/* SPDX-License-Identifier: Apache-2.0 */
/* gRPC's unary calls over TCP: generated code, one channel, completion queues on both sides; the
 * worker is a process with one thread, which is what is fastest with one core for it. */
#include <grpcpp/grpcpp.h>

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "bench/peers/peer.h"
#include "grpc.grpc.pb.h"

namespace
{

/* ---- the worker ---- */

/* One place for a call: asked for, answered, and asked for again. */
class Place
{
  public:
    Place(echo::Echo::AsyncService &service, grpc::ServerCompletionQueue &queue)
        : service_(service), queue_(queue)
    {
        Ask();
    }

    void Proceed(bool ok)
    {
        if (!is_answered_ && ok) {
            is_answered_ = true;
            writer_->Finish(value_, grpc::Status::OK, this);
            return;
        }
        Ask();
    }

  private:
    void Ask()
    {
        is_answered_ = false;
        context_ = std::make_unique<grpc::ServerContext>();
        writer_ = std::make_unique<grpc::ServerAsyncResponseWriter<echo::Value>>(context_.get());
        service_.RequestEcho(context_.get(), &value_, writer_.get(), &queue_, &queue_, this);
    }

    echo::Echo::AsyncService &service_;
    grpc::ServerCompletionQueue &queue_;
    std::unique_ptr<grpc::ServerContext> context_;
    std::unique_ptr<grpc::ServerAsyncResponseWriter<echo::Value>> writer_;
    echo::Value value_;
    bool is_answered_ = false;
};

void Serve()
{
    echo::Echo::AsyncService service;
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&service);
    auto queue = builder.AddCompletionQueue();
    auto server = builder.BuildAndStart();
    if (!server)
        peer_fail("the worker does not start");
    std::vector<std::unique_ptr<Place>> places;
    for (int i = 0; i < PEER_DEPTH_MAX; i++)
        places.push_back(std::make_unique<Place>(service, *queue));
    peer_tell(("127.0.0.1:" + std::to_string(port)).c_str());
    void *tag;
    bool ok;
    while (queue->Next(&tag, &ok))
        static_cast<Place *>(tag)->Proceed(ok);
}

/* ---- the caller ---- */

struct Call {
    uint32_t index;
    echo::Value request, response;
    std::unique_ptr<grpc::ClientContext> context;
    std::unique_ptr<grpc::ClientAsyncResponseReader<echo::Value>> reader;
    grpc::Status status;
};

Call calls[PEER_DEPTH_MAX];
std::unique_ptr<echo::Echo::Stub> stub;
grpc::CompletionQueue *queue;

void Open(const struct peer_options *)
{
    char address[PEER_TEXT_MAX];
    peer_fork(Serve);
    peer_hear(address);
    queue = new grpc::CompletionQueue;
    stub = echo::Echo::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
}

void Send(uint32_t index, const void *bytes, size_t len)
{
    Call &call = calls[index];
    call.index = index;
    call.request.set_bytes(bytes, len);
    call.context = std::make_unique<grpc::ClientContext>();
    call.reader = stub->AsyncEcho(call.context.get(), call.request, queue);
    call.reader->Finish(&call.response, &call.status, &call);
}

void Wait()
{
    void *tag;
    bool ok;
    if (!queue->Next(&tag, &ok))
        peer_fail("the queue has ended");
    Call *call = static_cast<Call *>(tag);
    if (!ok || !call->status.ok())
        peer_fail(call->status.error_message().c_str());
    peer_done(call->index, call->response.bytes().data(), call->response.bytes().size());
}

void Close()
{
    queue->Shutdown();
}

} // namespace

extern "C" const struct peer peer = {"grpc", Open, Send, Wait, Close};
