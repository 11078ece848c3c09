"""A gRPC server of grpcio for `cargo xtask peers`: bytes in, bytes out, and it tells what it saw.

Usage: grpc_server.py PORT NAME
"""

import asyncio
import json
import sys

import grpc

# Calls that one connection may carry at once: a proxy with more to send must open another connection. Above what a client
# of the check has on one connection, since this server counts a call for some time after its end and refuses the next.
STREAMS_MAX = 250
# Room for the large messages of the check, which are above the default of 4 MiB.
MESSAGE_MAX = 64 * 1024 * 1024

name = ""
seen = {"cancelled": 0, "open": 0, "most_open": 0, "seconds_left": []}


def status_of(number):
    return next(code for code in grpc.StatusCode if code.value[0] == number)


async def unary(request, context):
    """The bytes in reverse; or the status that the metadata asks for, with the request as its details."""
    await context.send_initial_metadata((("x-server", name),))
    for key, value in context.invocation_metadata():
        if key == "x-status":
            trailers = (("x-why", "asked"), ("x-why-bin", b"\x00\xff"))
            await context.abort(status_of(int(value)), request.decode(), trailers)
    return request[::-1]


async def server_stream(request, context):
    wanted = json.loads(request)
    for number in range(wanted["count"]):
        yield bytes([number % 256]) * wanted["bytes"]


async def client_stream(requests, context):
    sizes = [len(request) async for request in requests]
    return json.dumps({"count": len(sizes), "bytes": sum(sizes)}).encode()


async def both_stream(requests, context):
    seen["open"] += 1
    seen["most_open"] = max(seen["most_open"], seen["open"])
    try:
        async for request in requests:
            yield request
    finally:
        seen["open"] -= 1


async def wait(request, context):
    """Never answers. Tells later how long the client would wait, and that the call was given up."""
    left = context.time_remaining()
    seen["seconds_left"].append(None if left is None or left > 1e6 else left)
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        seen["cancelled"] += 1
        raise
    return b""


async def tell(request, context):
    return json.dumps(seen).encode()


class Handlers(grpc.GenericRpcHandler):
    methods = {
        "/peers.Calls/Unary": grpc.unary_unary_rpc_method_handler(unary),
        "/peers.Calls/ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
        "/peers.Calls/ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
        "/peers.Calls/BothStream": grpc.stream_stream_rpc_method_handler(both_stream),
        "/peers.Calls/Wait": grpc.unary_unary_rpc_method_handler(wait),
        "/peers.Calls/Tell": grpc.unary_unary_rpc_method_handler(tell),
    }

    def service(self, details):
        return self.methods.get(details.method)


async def main(port):
    options = [
        ("grpc.max_concurrent_streams", STREAMS_MAX),
        ("grpc.max_receive_message_length", MESSAGE_MAX),
        ("grpc.max_send_message_length", MESSAGE_MAX),
        ("grpc.so_reuseport", 0),
    ]
    server = grpc.aio.server(handlers=[Handlers()], options=options)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    name = sys.argv[2]
    asyncio.run(main(int(sys.argv[1])))
