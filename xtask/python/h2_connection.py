"""One HTTP/2 connection with prior knowledge, on the library `h2`: streams by hand, for what other clients cannot ask."""

import socket

import h2.config
import h2.connection
import h2.events

# How long the peer may say nothing.
SILENCE_MAX = 20


class Stream:
    """What has arrived on one stream."""

    def __init__(self):
        self.heads = []
        self.body = b""
        self.ended = False
        self.reset = None

    @property
    def status(self):
        """The status of the final answer, as text; none while there is none."""
        found = [dict(head)[":status"] for head in self.heads if ":status" in dict(head)]
        return next((status for status in found if not status.startswith("1")), None)

    def last(self, name):
        """A field of the last head or trailers."""
        return dict(self.heads[-1]).get(name)


class Connection:
    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=SILENCE_MAX)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8", validate_outbound_headers=False)
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self.streams = {}
        self.settings = None
        self.send()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self):
        self.socket.sendall(self.h2.data_to_send())

    def open(self, fields, body=None, end=True):
        """Begins a stream; it ends on our side with the body, or here if there is none, unless told otherwise."""
        number = self.h2.get_next_available_stream_id()
        self.streams[number] = Stream()
        self.h2.send_headers(number, fields, end_stream=end and body is None)
        self.send()
        if body is not None:
            self.write(number, body, end)
        return number

    def write(self, number, data, end=False):
        """Sends as much at a time as the peer has room for."""
        while True:
            self.until(lambda: not data or self.h2.local_flow_control_window(number) > 0, "room to send")
            size = min(len(data), self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size)
            now, data = data[:size], data[size:]
            self.h2.send_data(number, now, end_stream=end and not data)
            self.send()
            if not data:
                break

    def until(self, holds, what):
        """Reads until something holds."""
        while not holds():
            data = self.socket.recv(65536)
            if not data:
                raise SystemExit(f"{what}: the connection was closed")
            for event in self.h2.receive_data(data):
                self.take(event, what)
            self.send()

    def take(self, event, what):
        stream = self.streams.get(getattr(event, "stream_id", None))
        if isinstance(event, h2.events.RemoteSettingsChanged):
            self.settings = dict(self.h2.remote_settings)
        elif isinstance(event, h2.events.ConnectionTerminated):
            raise SystemExit(f"{what}: GOAWAY with error {event.error_code}, {event.additional_data!r}")
        elif stream is None:
            pass
        elif isinstance(
            event,
            (h2.events.ResponseReceived, h2.events.TrailersReceived, h2.events.InformationalResponseReceived),
        ):
            stream.heads.append(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            stream.body += event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            stream.ended = True
        elif isinstance(event, h2.events.StreamReset):
            stream.ended, stream.reset = True, event.error_code

    def exchange(self, fields, body=None):
        """A whole request and its whole answer."""
        number = self.open(fields, body)
        stream = self.streams[number]
        self.until(lambda: stream.ended, "an answer")
        if stream.reset is not None:
            raise SystemExit(f"the stream was reset with error {stream.reset}")
        return stream
