"""A gRPC echo server on grpcio, without generated code: messages are plain bytes.

Prints its port as the first line. Every method reports who answered in the initial metadata `server`, returns the
request's `x-echo` and `x-echo-bin` in the initial and the trailing metadata, and says in the trailing metadata
`messages` how many messages it got. A call that is cancelled while it waits prints `cancelled METHOD`.
"""

import sys
import threading
import time
from concurrent import futures

import grpc


def out(line):
    print(line, flush=True)


def echoed(context):
    return tuple((key, value) for key, value in context.invocation_metadata() if key.startswith("x-echo"))


def begin(context):
    context.send_initial_metadata((("server", sys.argv[1]),) + echoed(context))


def end(context, messages):
    context.set_trailing_metadata((("messages", str(messages)),) + echoed(context))


def unary(request, context):
    begin(context)
    end(context, 1)
    return request


def client_stream(requests, context):
    begin(context)
    parts = list(requests)
    end(context, len(parts))
    return b"".join(parts)


def server_stream(request, context):
    """The request is `COUNT SIZE`."""
    begin(context)
    count, size = (int(word) for word in request.split())
    for number in range(count):
        yield b"%08d" % number + b"." * (size - 8)
    end(context, 1)


def bidi(requests, context):
    begin(context)
    count = 0
    for request in requests:
        count += 1
        yield request
    end(context, count)


def fail(request, context):
    """The request is `CODE MESSAGE`."""
    code, _, message = request.decode().partition(" ")
    end(context, 1)
    context.abort(getattr(grpc.StatusCode, code), message)


def fail_late(request, context):
    begin(context)
    yield b"one"
    yield b"two"
    end(context, 1)
    context.abort(grpc.StatusCode.DATA_LOSS, "after two messages: 100 % lost \u00e9")


def hang(request, context):
    """Sends one message and then nothing until the call is cancelled."""
    begin(context)
    gone = threading.Event()
    context.add_callback(gone.set)
    yield b"hanging"
    if gone.wait(20):
        out("cancelled hang")


def slow(request, context):
    gone = threading.Event()
    context.add_callback(gone.set)
    begun = time.monotonic()
    remaining = context.time_remaining()
    gone.wait(20)
    out("cancelled slow after %.1f of %.1f" % (time.monotonic() - begun, remaining or -1))
    return b""


HANDLERS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
    "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
    "Bidi": grpc.stream_stream_rpc_method_handler(bidi),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "FailLate": grpc.unary_stream_rpc_method_handler(fail_late),
    "Hang": grpc.unary_stream_rpc_method_handler(hang),
    "Slow": grpc.unary_unary_rpc_method_handler(slow),
}


def main():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=64), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("remora.test.Echo", HANDLERS),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    out(port)
    sys.stdin.read()  # the test ends us by closing our input
    server.stop(None)


main()
