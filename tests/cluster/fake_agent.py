"""An agent that says what it is told to say: for the self-test, which plants damage in what is read over the network."""
import socketserver
import struct
import threading

from wire import BATCH_HEAD, FETCH


def varint(number):
    """Zigzag, as records have it."""
    number, out = (number << 1) ^ (number >> 63), bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out) + bytes([number])


def batch(base, values):
    """A batch whose checksum nobody looks at."""
    body = b""
    for delta, value in enumerate(values):
        record = b"\0\0" + varint(delta) + varint(-1) + varint(len(value)) + value + b"\0"
        body += varint(len(record)) + record
    return BATCH_HEAD.pack(base, BATCH_HEAD.size - 12 + len(body), 0, 2, 0, 0, len(values) - 1, 0, 0, -1, -1, -1, len(values)) + body


class FakeAgent:
    """Serves one topic: `logs` has a list of (offset, value) of each partition, a batch of one record each."""

    def __init__(self, logs):
        agent = self

        class Handler(socketserver.BaseRequestHandler):
            """One connection."""

            def handle(self):
                """Until it is closed."""
                while head := self.request.recv(4, 0x100):
                    length = struct.unpack(">i", head)[0]
                    request = b""
                    while len(request) < length:
                        request += self.request.recv(length - len(request))
                    answer = agent.answer(request)
                    self.request.sendall(struct.pack(">i", len(answer)) + answer)
        self.logs = logs
        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def end(self):
        """No more connections."""
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request):
        """To one request, of those that `wire` sends."""
        api, _, correlation, client = struct.unpack_from(">hhih", request)
        body = request[10 + client:]
        head = struct.pack(">ii", correlation, 0)
        topic_at = 21 if api == FETCH else 9
        name = struct.unpack_from(">h", body, topic_at)[0]
        topic, rest = body[topic_at:topic_at + 2 + name], body[topic_at + 6 + name:]
        if api == FETCH:
            partition, offset = struct.unpack_from(">iq", rest)
            log = self.logs[partition]
            data = b"".join(batch(at, [value]) for at, value in log if at >= offset)
            end = log[-1][0] + 1 if log else 0
            return head + struct.pack(">i", 1) + topic + struct.pack(">iihqqii", 1, partition, 0, end, end, -1, len(data)) + data
        told = b"".join(struct.pack(">ihqq", partition, 0, -1, log[-1][0] + 1 if log else 0) for partition, log in enumerate(self.logs))
        return head + struct.pack(">i", 1) + topic + struct.pack(">i", len(self.logs)) + told
