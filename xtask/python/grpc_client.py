"""gRPC calls of grpcio through a proxy, for `cargo xtask peers`.

Usage: grpc_client.py full ADDRESS | grpc_client.py echo ADDRESS

`full` expects servers of grpc_server.py behind the services `counted`, `calls` and `spread` (two), and nothing that works
behind `gone` and `refused`. `echo` expects `outrigger echo` behind `echo`. The last line is JSON: what the client counted.
"""

import asyncio
import json
import sys
import time

import grpc

from h2_connection import Connection

# No single check takes longer than this on a machine that does other things as well.
CHECK_MAX = 60
MESSAGE_MAX = 64 * 1024 * 1024
LARGE = 8 * 1024 * 1024
CONCURRENT = 1000
# Streams that a client puts on one connection: what the proxy lets it have.
STREAMS = 100

address = ""


def channel(service):
    """A connection of its own: channels share one otherwise."""
    options = [
        ("grpc.default_authority", f"{service}.calls:9000"),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_http_proxy", 0),
        ("grpc.max_receive_message_length", MESSAGE_MAX),
        ("grpc.max_send_message_length", MESSAGE_MAX),
    ]
    return grpc.aio.insecure_channel(address, options=options)


def path(method):
    return f"/peers.Calls/{method}"


def expect(found, expected, what):
    if found != expected:
        raise SystemExit(f"{what}: {found!r} instead of {expected!r}")


async def failure(call, what):
    """The error that a call must end with."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return error
    raise SystemExit(f"{what}: answered {answer!r} instead of failing")


async def counted():
    """Every kind of call and every status, with a tally of what went through."""
    statuses, sent, received = {}, 0, 0

    def tally(status, requests, answers):
        nonlocal sent, received
        statuses[str(status)] = statuses.get(str(status), 0) + 1
        sent += requests
        received += answers

    async with channel("counted") as to:
        for number in range(20):
            body = f"unary {number}".encode()
            expect(await to.unary_unary(path("Unary"))(body), body[::-1], "a unary call")
            tally(0, 1, 1)
        expect(await to.unary_unary(path("Unary"))(b""), b"", "an empty message")
        tally(0, 1, 1)
        large = bytes(range(256)) * (LARGE // 256)
        if await to.unary_unary(path("Unary"))(large) != large[::-1]:
            raise SystemExit("a large message did not arrive as it was sent")
        tally(0, 1, 1)
        wanted = {"count": 7, "bytes": 100_000}
        call = to.unary_stream(path("ServerStream"))(json.dumps(wanted).encode())
        expect([len(answer) async for answer in call], [100_000] * 7, "a stream of answers")
        tally(0, 1, 7)

        async def messages(count):
            for number in range(count):
                yield bytes([number]) * 1000

        answer = json.loads(await to.stream_unary(path("ClientStream"))(messages(9)))
        expect(answer, {"count": 9, "bytes": 9000}, "a stream of requests")
        tally(0, 9, 1)
        call = to.stream_stream(path("BothStream"))()
        for number in range(11):
            # One answered before the next is sent: nothing on the way may wait for more.
            await call.write(bytes([number]))
            expect(await call.read(), bytes([number]), "streams both ways")
        await call.done_writing()
        expect(await call.read(), grpc.aio.EOF, "the end of streams both ways")
        tally(0, 11, 11)
        for number in range(1, 17):
            details = f"naïve: 100 % of {number}"
            call = to.unary_unary(path("Unary"))(details.encode(), metadata=(("x-status", str(number)),))
            error = await failure(call, f"status {number}")
            expect(error.code().value[0], number, "a status")
            expect(error.details(), details, f"details of status {number}")
            trailers = dict(error.trailing_metadata())
            expect((trailers.get("x-why"), trailers.get("x-why-bin")), ("asked", b"\x00\xff"), "trailing metadata")
            tally(number, 1, 0)
        error = await failure(to.unary_unary(path("NoSuchMethod"))(b""), "an unknown method")
        expect(error.code(), grpc.StatusCode.UNIMPLEMENTED, "an unknown method")
        tally(12, 1, 0)
    return {"statuses": statuses, "sent": sent, "received": received}


async def tell(to):
    return json.loads(await to.unary_unary(path("Tell"))(b""))


async def until(to, what, holds):
    start = time.monotonic()
    while not holds(seen := await tell(to)):
        if time.monotonic() - start > 10:
            raise SystemExit(f"{what}: the server saw {seen}")
        await asyncio.sleep(0.05)


async def deadlines_and_cancellation():
    async with channel("calls") as to:
        error = await failure(to.unary_unary(path("Wait"))(b"", timeout=0.5), "a deadline")
        expect(error.code(), grpc.StatusCode.DEADLINE_EXCEEDED, "a deadline")
        await until(to, "a deadline ends the call at the server", lambda seen: seen["cancelled"] == 1)
        left = (await tell(to))["seconds_left"]
        # The library reads what is left on another clock than the one it set the deadline on: they differ by up to some milliseconds.
        if len(left) != 1 or left[0] is None or not 0 < left[0] <= 0.51:
            raise SystemExit(f"the server was told to answer within {left} s, not within 0.5 s")
        call = to.unary_unary(path("Wait"))(b"")
        await until(to, "a call that waits", lambda seen: len(seen["seconds_left"]) == 2)
        expect((await tell(to))["seconds_left"][1], None, "the time for a call without a deadline")
        call.cancel()
        await until(to, "a cancelled call ends at the server", lambda seen: seen["cancelled"] == 2)
        call = to.stream_stream(path("BothStream"))()
        await call.write(b"x")
        await call.read()
        call.cancel()
        await until(to, "a cancelled stream ends at the server", lambda seen: seen["open"] == 0)


async def concurrent():
    """A thousand streams open at once, and then a thousand calls at once on one connection."""
    channels = [channel("calls") for _ in range(CONCURRENT // STREAMS)]

    async def opened(number):
        call = channels[number % len(channels)].stream_stream(path("BothStream"))()
        body = str(number).encode()
        await call.write(body)
        expect(await call.read(), body, "one of many streams")
        return call

    async def ended(call):
        await call.done_writing()
        expect(await call.read(), grpc.aio.EOF, "the end of one of many streams")
        expect(await call.code(), grpc.StatusCode.OK, "the status of one of many streams")

    calls = await asyncio.gather(*(opened(number) for number in range(CONCURRENT)))
    # Asked on a connection that is not full.
    async with channel("calls") as to:
        seen = await tell(to)
    expect((seen["open"], seen["most_open"]), (CONCURRENT, CONCURRENT), "streams that the server saw open at once")
    await asyncio.gather(*(ended(call) for call in calls))
    await asyncio.gather(*(to.close() for to in channels))
    async with channel("calls") as to:
        answers = await asyncio.gather(*(to.unary_unary(path("Unary"))(str(n).encode()) for n in range(CONCURRENT)))
        expect(answers, [str(n).encode()[::-1] for n in range(CONCURRENT)], "many calls on one connection")


async def spread():
    """Calls on one connection go to both servers: balancing is by request."""
    servers = {}
    async with channel("spread") as to:
        for _ in range(100):
            call = to.unary_unary(path("Unary"))(b"x")
            metadata = dict(await call.initial_metadata())
            await call
            servers[metadata["x-server"]] = servers.get(metadata["x-server"], 0) + 1
    if sorted(servers) != ["one", "two"] or min(servers.values()) < 25:
        raise SystemExit(f"calls on one connection went to {servers}")


async def made_by_the_proxy():
    """Where no server can be asked, the answer is gRPC's too, and says why."""
    for service in ["gone", "refused"]:
        async with channel(service) as to:
            error = await failure(to.unary_unary(path("Unary"))(b"x"), service)
            expect(error.code(), grpc.StatusCode.UNAVAILABLE, service)
            if not error.details():
                raise SystemExit(f"{service}: no word of the cause")
            call = to.stream_stream(path("BothStream"))()
            expect(await call.code(), grpc.StatusCode.UNAVAILABLE, f"a stream to {service}")


async def echo():
    """The echo servers of the product, under a foreign client."""
    async with channel("echo") as to:
        answer = json.loads(await to.unary_unary("/any.Service/Method")(b"hello"))
        expect(answer["path"], "/any.Service/Method", "the path that the echo tells")
        expect(await to.unary_unary("/grpc.health.v1.Health/Check")(b""), b"\x08\x01", "the health of the echo")
        call = to.stream_stream("/any.Service/Both")()
        for _ in range(5):
            await call.write(b"x")
            json.loads(await call.read())
        await call.done_writing()
        expect(await call.read(), grpc.aio.EOF, "the end of an echoed stream")
    return {"calls": 3, "sent": 7, "received": 7}


def deadline_of_the_proxy():
    """`grpc-timeout` counts although neither client nor server obeys it: this client waits, the echo is told to dawdle."""
    start = time.monotonic()
    with Connection(address) as connection:
        fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "echo.calls:9000"),
            (":path", "/any.Service/Slow"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("grpc-timeout", "300m"),
            ("x-echo-delay", "20s"),
        ]
        answer = connection.exchange(fields, b"\0\0\0\0\1x")
    took = time.monotonic() - start
    expect((answer.status, answer.last("grpc-status")), ("200", "4"), "a deadline that only the proxy obeys")
    if not 0.25 < took < 10:
        raise SystemExit(f"a deadline of 300 ms took {took:.1f} s")


async def checked(check):
    start = time.monotonic()
    try:
        result = await asyncio.wait_for(check(), CHECK_MAX)
    except asyncio.TimeoutError:
        raise SystemExit(f"{check.__name__}: not done after {CHECK_MAX} s") from None
    except grpc.aio.AioRpcError as error:
        raise SystemExit(f"{check.__name__}: {error.code()} {error.details()!r}") from error
    print(f"{check.__name__}: {time.monotonic() - start:.2f} s", file=sys.stderr)
    return result


async def main(which):
    if which == "echo":
        tally = await checked(echo)
        await asyncio.get_running_loop().run_in_executor(None, deadline_of_the_proxy)
    else:
        tally = await checked(counted)
        for check in [deadlines_and_cancellation, spread, made_by_the_proxy, concurrent]:
            await checked(check)
    print(json.dumps(tally))


if __name__ == "__main__":
    address = sys.argv[2]
    asyncio.run(main(sys.argv[1]))
