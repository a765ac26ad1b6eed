"""The two brokers that are compared, and what each has numbered itself.

A request names such a thing (a topic's id, a producer's, a member's, a session's) by a name; each side puts in its own
number, and in answers numbers become names again. So both the mapping and its consistency are compared.
"""

import socket
import struct
from dataclasses import dataclass

from codec import NULL_UUID
from records import Records

ANSWERS_WITHIN_S = 30
CLOSED = "the connection was closed"


@dataclass(frozen=True)
class Ref:
    """Something that each broker has numbered itself."""

    name: str


class Side:
    """One broker: connections to it, and the numbers it gave."""

    def __init__(self, name, port, messages):
        self.name, self.port, self.messages = name, port, messages
        self.sockets, self.numbers, self.names = {}, {}, {}
        self.correlation = 0
        self.waiting = {}

    def learn(self, name, number):
        self.numbers[name] = number
        self.names[(name.split(":")[0], number)] = name

    def number(self, name):
        """The number behind a name; anything else is itself."""
        return self.numbers[name] if isinstance(name, str) else name

    def name_of(self, kind, number):
        """The name of a number; one that nobody learned stays as it is."""
        if number in (-1, 0, "", NULL_UUID):
            return number
        return self.names.get((kind, number), number)

    def resolve(self, value):
        if isinstance(value, Ref):
            if value.name in self.numbers:
                return self.numbers[value.name]
            raise KeyError(f"{self.name} has no {value.name}")
        if isinstance(value, Records):
            return value.encode(self)
        if isinstance(value, dict):
            return {key: self.resolve(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.resolve(inner) for inner in value]
        return value

    def send(self, lane, api, version, body):
        self.correlation += 1
        frame = self.messages.request(api, version, self.correlation, "differential", self.resolve(body))
        if lane not in self.sockets:
            self.sockets[lane] = socket.create_connection(("127.0.0.1", self.port), ANSWERS_WITHIN_S)
            self.sockets[lane].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.waiting[lane] = (api, version, self.correlation)
        try:
            self.sockets[lane].sendall(frame)
        except OSError:
            pass

    def receive(self, lane):
        """The answer as a dict, or CLOSED."""
        api, version, correlation = self.waiting.pop(lane)
        try:
            size = struct.unpack(">i", self.read(lane, 4))[0]
            frame = self.read(lane, size)
        except (EOFError, ConnectionError):
            self.sockets.pop(lane).close()
            return CLOSED
        except TimeoutError:
            self.sockets.pop(lane).close()
            raise TimeoutError(f"{self.name} doesn't answer {api} v{version}") from None
        return self.messages.response(api, version, correlation, frame)

    def read(self, lane, count):
        data = bytearray()
        while len(data) < count:
            piece = self.sockets[lane].recv(count - len(data))
            if not piece:
                raise EOFError
            data += piece
        return bytes(data)

    def ask(self, api, version, body, lane="setup"):
        """A request outside of what is compared."""
        self.send(lane, api, version, body)
        return self.receive(lane)

    def close(self):
        for connection in self.sockets.values():
            connection.close()
        self.sockets.clear()
