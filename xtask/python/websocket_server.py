"""A WebSocket server of the library `websockets`: every message comes back.

Usage: websocket_server.py PORT
"""

import asyncio
import sys

import websockets.asyncio.server


async def echo(socket):
    if socket.request.path == "/enough":
        await socket.close(4001, "enough")
        return
    async for message in socket:
        await socket.send(message)


async def main(port):
    options = {"subprotocols": ["chat"], "max_size": 64 * 1024 * 1024}
    async with websockets.asyncio.server.serve(echo, "127.0.0.1", port, **options) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
