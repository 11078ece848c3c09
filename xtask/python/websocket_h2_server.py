"""A server of WebSockets over HTTP/2 (RFC 8441), on the libraries `h2` and `websockets`: every message comes back.

Usage: websocket_h2_server.py PORT
"""

import asyncio
import sys

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
from websockets.frames import Opcode
from websockets.protocol import Protocol, Side

MESSAGE_MAX = 64 * 1024 * 1024


class Connection(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        self.h2 = h2.connection.H2Connection(config)
        # In the first SETTINGS, not in later ones: a client need not wait for those.
        values = {h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL: 1}
        self.h2.local_settings = h2.settings.Settings(client=False, initial_values=values)
        self.h2.initiate_connection()
        self.sockets = {}
        # What waits for room in the peer's window, by stream.
        self.waiting = {}
        self.flush()

    def data_received(self, data):
        try:
            for event in self.h2.receive_data(data):
                self.take(event)
        except h2.exceptions.ProtocolError as error:
            print("protocol error:", error, flush=True)
            self.flush()
            self.transport.close()
            return
        self.flush()

    def take(self, event):
        number = getattr(event, "stream_id", None)
        if isinstance(event, h2.events.RequestReceived):
            self.request(number, dict(event.headers))
        elif isinstance(event, h2.events.DataReceived):
            self.h2.acknowledge_received_data(event.flow_controlled_length, number)
            if number in self.sockets:
                self.receive(number, event.data)
        elif isinstance(event, h2.events.StreamEnded) and number in self.sockets:
            self.waiting[number][1] = True
        elif isinstance(event, h2.events.StreamReset):
            self.sockets.pop(number, None)
            self.waiting.pop(number, None)

    def request(self, number, fields):
        whole = fields.get(":method") == "CONNECT" and fields.get(":protocol") == "websocket"
        # What RFC 8441 leaves out must not be here; what it keeps must.
        left_over = {"upgrade", "connection", "sec-websocket-key"} & set(fields)
        if not whole or left_over or fields.get("sec-websocket-version") != "13":
            print("refused:", fields, flush=True)
            self.h2.send_headers(number, [(":status", "400")], end_stream=True)
            return
        answer = [(":status", "200")]
        if "chat" in fields.get("sec-websocket-protocol", ""):
            answer.append(("sec-websocket-protocol", "chat"))
        self.h2.send_headers(number, answer)
        self.sockets[number] = Protocol(Side.SERVER, max_size=MESSAGE_MAX)
        self.waiting[number] = [b"", False]
        if fields[":path"] == "/enough":
            self.sockets[number].send_close(4001, "enough")
            self.pull(number)

    def receive(self, number, data):
        socket = self.sockets[number]
        socket.receive_data(data)
        for frame in socket.events_received():
            if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                send = {
                    Opcode.TEXT: socket.send_text,
                    Opcode.BINARY: socket.send_binary,
                    Opcode.CONT: socket.send_continuation,
                }
                send[frame.opcode](bytes(frame.data), fin=frame.fin)
        self.pull(number)

    def pull(self, number):
        """Takes what the WebSocket wants to send; an empty piece is its end."""
        for piece in self.sockets[number].data_to_send():
            self.waiting[number][0] += piece
            self.waiting[number][1] |= not piece

    def flush(self):
        for number, (data, end) in list(self.waiting.items()):
            while data and (window := self.h2.local_flow_control_window(number)) > 0:
                size = min(len(data), window, self.h2.max_outbound_frame_size)
                self.h2.send_data(number, data[:size])
                data = data[size:]
            self.waiting[number][0] = data
            if end and not data:
                self.h2.end_stream(number)
                del self.waiting[number], self.sockets[number]
        self.transport.write(self.h2.data_to_send())


async def main(port):
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
