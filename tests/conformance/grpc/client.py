"""The gRPC cases, through grpcio: each prints `ok NAME` or `FAILED NAME: why`.

Arguments: the target, then optionally the names of the cases to run.
"""

import queue
import sys
import threading
import traceback

import grpc

CASES = []


def case(function):
    CASES.append(function)
    return function


def check(condition, words):
    if not condition:
        raise AssertionError(words)


def equal(found, expected):
    check(found == expected, "expected %r, found %r" % (expected, found))


class Echo:
    def __init__(self, channel):
        path = "/remora.test.Echo/"
        self.unary = channel.unary_unary(path + "Unary")
        self.client_stream = channel.stream_unary(path + "ClientStream")
        self.server_stream = channel.unary_stream(path + "ServerStream")
        self.bidi = channel.stream_stream(path + "Bidi")
        self.fail = channel.unary_unary(path + "Fail")
        self.fail_late = channel.unary_stream(path + "FailLate")
        self.hang = channel.unary_stream(path + "Hang")
        self.slow = channel.unary_unary(path + "Slow")
        self.missing = channel.unary_unary(path + "Missing")


@case
def unary(echo):
    equal(echo.unary(b"hello", timeout=10), b"hello")


@case
def unary_empty_message(echo):
    equal(echo.unary(b"", timeout=10), b"")


@case
def unary_large_message(echo):
    message = bytes(range(256)) * 12000
    equal(echo.unary(message, timeout=20), message)


@case
def metadata_both_ways(echo):
    metadata = (("x-echo", "plain text"), ("x-echo-bin", bytes(range(256))), ("x-echo-bin", b"second"))
    _, call = echo.unary.with_call(b"m", metadata=metadata, timeout=10)
    first = call.initial_metadata()
    last = call.trailing_metadata()
    check(any(key == "server" for key, _ in first), "no initial metadata 'server' in %r" % (first,))
    for found in (first, last):
        values = [(key, value) for key, value in found if key.startswith("x-echo")]
        equal(sorted(values, key=repr), sorted(metadata, key=repr))
    equal(dict(last)["messages"], "1")


@case
def client_streaming(echo):
    parts = [b"%d," % number for number in range(200)]
    response, call = echo.client_stream.with_call(iter(parts), timeout=10)
    equal(response, b"".join(parts))
    equal(dict(call.trailing_metadata())["messages"], "200")


@case
def client_streaming_without_messages(echo):
    equal(echo.client_stream(iter(()), timeout=10), b"")


@case
def server_streaming(echo):
    messages = list(echo.server_stream(b"500 2000", timeout=20))
    equal(len(messages), 500)
    equal([int(message[:8]) for message in messages], list(range(500)))


@case
def server_streaming_read_slowly(echo):
    """More than any window holds: the proxy must wait for us without keeping it all."""
    call = echo.server_stream(b"200 65536", timeout=30)
    total = 0
    pause = threading.Event()
    for number, message in enumerate(call):
        total += len(message)
        if number < 20:
            pause.wait(0.01)
    equal(total, 200 * 65536)


@case
def bidirectional_in_lockstep(echo):
    """Each message is sent only after the answer to the one before: nothing may be held back."""
    outgoing = queue.Queue()
    call = echo.bidi(iter(outgoing.get, None), timeout=20)
    for number in range(100):
        message = b"ping %d" % number
        outgoing.put(message)
        equal(next(call), message)
    outgoing.put(None)
    equal(list(call), [])
    equal(dict(call.trailing_metadata())["messages"], "100")


@case
def bidirectional_at_once(echo):
    def one(failures):
        try:
            parts = [b"x" * 3000] * 50
            equal(list(echo.bidi(iter(parts), timeout=20)), parts)
        except Exception as error:  # reported by the case
            failures.append(error)

    failures = []
    threads = [threading.Thread(target=one, args=(failures,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(not failures, "%d of 20 streams failed, first: %r" % (len(failures), failures[:1]))


def status_of(call):
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call succeeded")


@case
def error_status_without_messages(echo):
    """A response of trailers only."""
    error = status_of(lambda: echo.fail(b"PERMISSION_DENIED not you: 50 % \xc3\xa9", timeout=10))
    equal(error.code(), grpc.StatusCode.PERMISSION_DENIED)
    equal(error.details(), "not you: 50 % \u00e9")


@case
def every_status_code(echo):
    for code in grpc.StatusCode:
        if code is not grpc.StatusCode.OK:
            error = status_of(lambda: echo.fail(code.name.encode() + b" words", timeout=10))
            equal((error.code(), error.details()), (code, "words"))


@case
def error_status_after_messages(echo):
    messages = []

    def read():
        for message in echo.fail_late(b"", timeout=10):
            messages.append(message)

    error = status_of(read)
    equal(messages, [b"one", b"two"])
    equal((error.code(), error.details()), (grpc.StatusCode.DATA_LOSS, "after two messages: 100 % lost \u00e9"))


@case
def unknown_method(echo):
    equal(status_of(lambda: echo.missing(b"", timeout=10)).code(), grpc.StatusCode.UNIMPLEMENTED)


@case
def cancellation(echo):
    call = echo.hang(b"", timeout=20)
    equal(next(call), b"hanging")
    check(call.cancel(), "could not be cancelled")
    equal(call.code(), grpc.StatusCode.CANCELLED)
    equal(echo.unary(b"after", timeout=10), b"after")


@case
def deadline(echo):
    error = status_of(lambda: echo.slow(b"", timeout=0.5))
    equal(error.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
    equal(echo.unary(b"after", timeout=10), b"after")


def main():
    wanted = sys.argv[2:]
    failed = False
    options = [("grpc.max_receive_message_length", -1), ("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(sys.argv[1], options=options) as channel:
        echo = Echo(channel)
        for run in CASES:
            name = run.__name__
            if wanted and name not in wanted:
                continue
            try:
                run(echo)
                print("ok " + name, flush=True)
            except Exception:
                failed = True
                lines = traceback.format_exc().strip().splitlines()
                print("FAILED %s: %s" % (name, " | ".join(lines[-3:])), flush=True)
    sys.exit(1 if failed else 0)


main()
