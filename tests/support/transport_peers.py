"""Helpers of the transport's tests: misbehaving peers and a network that can be cut."""

import contextlib
import os
import selectors
import socket
import threading
import time

from itp.transport.protocol import frames, handshake
from itp.transport.protocol.frames import Kind
from itp.transport.protocol.handshake import Hello

WAIT_S = 30.0


def eventually(condition, what):
    """Wait, for a bounded time, until something is so."""
    due_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < due_s, f"never happened: {what}"
        time.sleep(0.01)


def leftovers(folder):
    """Temporary files in a receiver's folder."""
    return [name for name in os.listdir(folder) if name.startswith(".itp-")]


class RawSender:
    """A sender that sends exactly the given frames."""

    def __init__(self, address, version=handshake.VERSION):
        self.sock = socket.create_connection(address, timeout=WAIT_S)
        self.sock.sendall(handshake.encode_preface(version))

    def greet(self, session_id=b"s" * 16, stream=0, n_streams=1):
        self.receive(handshake.PREFACE_BYTES)
        self.send(Kind.HELLO, body=handshake.encode_hello(Hello(session_id, stream, n_streams)))
        return self.reply()

    def send(self, kind, file_id=0, offset=0, body=b""):
        self.sock.sendall(frames.encode_header(kind, file_id, offset, body) + body)

    def receive(self, count):
        data = b""
        while len(data) < count:
            more = self.sock.recv(count - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def reply(self):
        """The next frame: (header, body)."""
        header = frames.decode_header(self.receive(frames.HEADER_BYTES))
        return header, self.receive(header.length)

    def reply_of(self, kind):
        """The next frame of a kind."""
        while True:
            header, body = self.reply()
            if header.kind is kind:
                return header, body

    def is_closed_by_peer(self):
        with contextlib.suppress(ConnectionError):
            while self.sock.recv(65536):
                pass
        return True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()


@contextlib.contextmanager
def fake_receiver(converse):
    """Hold this conversation on every connection, then hang up when the sender does."""

    def serve(sock):
        with sock, contextlib.suppress(OSError):
            converse(sock)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass

    def accept():
        with contextlib.suppress(OSError):
            while True:
                thread = threading.Thread(target=serve, args=(listener.accept()[0],))
                threads.append(thread)
                thread.start()

    listener = socket.create_server(("127.0.0.1", 0))
    threads = []
    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield listener.getsockname()
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join()
        for thread in threads:
            thread.join()


class Proxy:
    """Forwards TCP connections; each can be cut once it has carried so many bytes, or damaged.

    `cut_after` maps the connection's number, in the order of acceptance, to bytes.
    """

    def __init__(self, target, cut_after=None, damage_at=None):
        self._target = target
        self._cut_after = cut_after or {}
        self._damage_at = damage_at
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stopping = False
        self.address = self._listener.getsockname()
        self.cut_count = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        pairs = {}  # socket -> (other socket, connection number, is from the sender)
        carried = {}
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            while not self._stopping:
                for key, _ in selector.select(0.05):
                    if key.fileobj is self._listener:
                        near, _ = self._listener.accept()
                        far = socket.create_connection(self._target)
                        number = len(carried)
                        carried[number] = 0
                        for a, b, upward in ((near, far, True), (far, near, False)):
                            pairs[a] = (b, number, upward)
                            selector.register(a, selectors.EVENT_READ)
                    elif key.fileobj in pairs:
                        self._forward(key.fileobj, pairs, carried, selector)
            for sock in pairs:
                sock.close()

    def _forward(self, sock, pairs, carried, selector):
        other, number, upward = pairs[sock]
        try:
            data = bytearray(sock.recv(65536))
        except ConnectionError:
            data = b""
        if data and upward:
            if self._damage_at is not None and carried[number] <= self._damage_at < carried[number] + len(
                data
            ):
                data[self._damage_at - carried[number]] ^= 0x10
            carried[number] += len(data)
        cut = carried[number] > self._cut_after.get(number, float("inf"))
        if not data or cut:
            self.cut_count += cut
            for end in (sock, other):
                selector.unregister(end)
                del pairs[end]
                end.close()
            return
        with contextlib.suppress(ConnectionError):
            other.sendall(data)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stopping = True
        self._thread.join()
        self._listener.close()
