"""WebSockets through a proxy, over HTTP/1.1 by the library `websockets` and over HTTP/2 (RFC 8441) on the library `h2`.

Usage: websocket_client.py ADDRESS http1|http2 SERVICE

Behind the service is a server that sends every message back. Prints how many bytes of messages went each way.
"""

import socket
import sys

import h2.settings
import websockets.sync.client
from websockets.frames import Close, Opcode
from websockets.protocol import Protocol, Side

from h2_connection import Connection

LARGE = bytes(range(256)) * 4096
MESSAGE_MAX = 64 * 1024 * 1024
SILENCE_MAX = 20


def expect(found, expected, what):
    if found != expected:
        raise SystemExit(f"{what}: {found!r:.200} instead of {expected!r:.200}")


def over_http1(address, authority):
    def connect(path, **options):
        host, port = address.rsplit(":", 1)
        to = socket.create_connection((host, int(port)), timeout=SILENCE_MAX)
        uri = f"ws://{authority}{path}"
        return websockets.sync.client.connect(uri, sock=to, proxy=None, max_size=MESSAGE_MAX, **options)

    with connect("/chat", subprotocols=["chat"]) as to:
        expect(to.subprotocol, "chat", "the protocol within")
        for number in range(100):
            to.send(f"hello {number}")
            expect(to.recv(SILENCE_MAX), f"hello {number}", "a text")
        to.send(LARGE)
        if to.recv(SILENCE_MAX) != LARGE:
            raise SystemExit("a large message did not come back as it was sent")
        to.send(["in ", "three ", "pieces"])
        expect(to.recv(SILENCE_MAX), "in three pieces", "a message in pieces")
        if not to.ping().wait(SILENCE_MAX):
            raise SystemExit("no pong")
        to.close(1000, "done")
        expect((to.close_code, to.close_reason), (1000, "done"), "the end")
    with connect("/enough", subprotocols=["chat"]) as to:
        try:
            raise SystemExit(f"a message after the end: {to.recv(SILENCE_MAX)!r:.200}")
        except websockets.exceptions.ConnectionClosed as error:
            expect(error.rcvd, Close(4001, "enough"), "the server's end")


class Socket:
    """A WebSocket on one stream of a connection."""

    def __init__(self, connection, authority, path):
        self.connection = connection
        self.protocol = Protocol(Side.CLIENT, max_size=MESSAGE_MAX)
        self.frames = []
        self.read = 0
        fields = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":authority", authority),
            (":path", path),
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", "chat"),
        ]
        self.number = connection.open(fields, end=False)
        self.stream = connection.streams[self.number]
        connection.until(lambda: self.stream.heads or self.stream.ended, "an answer to CONNECT")
        expect(self.stream.status, "200", "the status of CONNECT")

    def flush(self):
        for piece in self.protocol.data_to_send():
            self.connection.write(self.number, piece, end=not piece)

    def frame(self):
        """The next frame."""

        def arrived():
            data = self.stream.body[self.read :]
            self.read = len(self.stream.body)
            if data:
                self.protocol.receive_data(data)
                self.frames += self.protocol.events_received()
            return self.frames or self.stream.ended

        self.connection.until(arrived, "a frame")
        if not self.frames:
            raise SystemExit(f"the stream ended without a frame (reset: {self.stream.reset})")
        return self.frames.pop(0)

    def message(self):
        frames = [self.frame()]
        while not frames[-1].fin:
            frames.append(self.frame())
        return b"".join(bytes(frame.data) for frame in frames)


def over_http2(address, authority):
    with Connection(address) as connection:
        connection.until(lambda: connection.settings is not None, "the proxy's settings")
        allowed = connection.settings.get(h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL)
        expect(allowed, 1, "SETTINGS_ENABLE_CONNECT_PROTOCOL")
        to = Socket(connection, authority, "/chat")
        expect(to.stream.last("sec-websocket-protocol"), "chat", "the protocol within")
        # A second one on the same connection is independent of the first.
        other = Socket(connection, authority, "/chat")
        for number in range(100):
            text = f"hello {number}".encode()
            for one in (to, other):
                one.protocol.send_text(text)
                one.flush()
            for one in (to, other):
                expect(one.message(), text, "a text")
        to.protocol.send_binary(LARGE)
        to.flush()
        if to.message() != LARGE:
            raise SystemExit("a large message did not come back as it was sent")
        to.protocol.send_text(b"in ", fin=False)
        to.protocol.send_continuation(b"two pieces", fin=True)
        to.flush()
        expect(to.message(), b"in two pieces", "a message in pieces")
        to.protocol.send_ping(b"ping")
        to.flush()
        pong = to.frame()
        expect((pong.opcode, bytes(pong.data)), (Opcode.PONG, b"ping"), "a pong")
        to.protocol.send_close(1000, "done")
        to.flush()
        expect(Close.parse(bytes(to.frame().data)), Close(1000, "done"), "the end")
        connection.until(lambda: to.stream.ended, "the end of the stream")
        other.protocol.send_text(b"still here")
        other.flush()
        expect(other.message(), b"still here", "another stream after the end of one")
        enough = Socket(connection, authority, "/enough")
        expect(Close.parse(bytes(enough.frame().data)), Close(4001, "enough"), "the server's end")


if __name__ == "__main__":
    way = {"http1": over_http1, "http2": over_http2}[sys.argv[2]]
    way(sys.argv[1], f"{sys.argv[3]}.sockets:9080")
