"""A cluster of fakes that do exactly what a script says, for the clients' tests."""

import contextlib
import os
import selectors
import socket
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

import hiredis
from ringkeeper.actors.rules.slots import SLOTS, slot

# What a fake may do with a command instead of executing and answering it. Bytes are a reply, given without executing;
# a function is called first.
EXECUTE = object()
CLOSE = object()
EXECUTE_CLOSE = object()
EXECUTE_INDOUBT = object()
SILENT = object()
MOVED = object()
"""A wrong MOVED, to the next node; that one sends the client back."""
ASK = object()
"""Executed by the next node, if it is asked properly."""

LARGE = 14 << 20
"""More bytes than the buffers between two processes take."""

TRYAGAIN = b"-TRYAGAIN not now\r\n"
CLUSTERDOWN = b"-CLUSTERDOWN no\r\n"
LOADING = b"-LOADING still\r\n"
NOREPLICAS = b"-NOREPLICAS Not enough good replicas to write.\r\n"
INDOUBT = b"-INDOUBT stamped, and then the session was lost\r\n"


def encoded(value: Any) -> bytes:
    match value:
        case None:
            return b"_\r\n"
        case int():
            return b":%d\r\n" % value
        case bytes():
            return b"$%d\r\n%b\r\n" % (len(value), value)
        case str():
            return b"+%b\r\n" % value.encode()
        case dict():
            return b"%%%d\r\n" % len(value) + b"".join(encoded(part) for pair in value.items() for part in pair)
        case _:
            return b"*%d\r\n" % len(value) + b"".join(map(encoded, value))


class Refusal(Exception):
    pass


class FakeCluster:
    """Nodes that share one dictionary and one thread, and follow a script."""

    def __init__(self, nodes: int = 3) -> None:
        self.values: dict[bytes, bytes] = {}
        self.epoch = 7
        self.copies = 1
        """So many nodes are shown for each slot, the coordinator first."""
        self.eager: list[bytes] = []
        """Keys written on connections that want to be answered by one."""
        self.table = [slot * nodes // SLOTS for slot in range(SLOTS)]
        self.left: set[int] = set()
        """Nodes that the ring does not name any more; who has no slots, and is not among them, is down."""
        self.views: dict[int, tuple[int, list[int]]] = {}
        """What a node shows of the ring, when that is not the truth."""
        self.log: list[tuple[int, tuple[bytes, ...]]] = []
        self.reads: list[tuple[int, int]] = []
        """Node and number of commands of every read from a socket."""
        self.acts: dict[tuple[int, bytes], deque[Any]] = defaultdict(deque)
        self.everywhere: deque[Any] = deque()
        """Acts for commands about data, on any node, before those of ``acts``."""
        self.connections_max = 0
        self.bytes_max: dict[int, int] = {}
        """The node breaks the next connection after reading so many bytes."""
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._orders: deque[tuple[Callable[[], None], threading.Event]] = deque()
        self._listeners: dict[int, socket.socket] = {}
        self._connections: dict[socket.socket, tuple[int, hiredis.Reader, dict[str, bool]]] = {}
        self.ports: list[int] = []
        for index in range(nodes):
            self._listeners[index] = socket.create_server(("127.0.0.1", 0))
            self.ports.append(self._listeners[index].getsockname()[1])
            self._selector.register(self._listeners[index], selectors.EVENT_READ)
        self._running = True
        self._thread = threading.Thread(target=self._run, name="fake cluster")
        self._thread.start()

    def address(self, index: int) -> str:
        return f"127.0.0.1:{self.ports[index]}"

    def key(self, index: int, number: int = 0) -> str:
        """A key that the node coordinates."""
        return [key for key in (f"key:{n}" for n in range(200)) if self.table[slot(key.encode())] == index][number]

    def script(self, index: int, name: str, *acts: Any) -> None:
        self.acts[index, name.encode()].extend(acts)

    def commands(self, *names: str) -> list[tuple[int, bytes]]:
        """Node and name of what arrived, of these names."""
        return [(index, words[0]) for index, words in self.log if words[0].decode() in names]

    def stop_node(self, index: int) -> None:
        def stop() -> None:
            self._selector.unregister(self._listeners[index])
            self._listeners.pop(index).close()
            self._drop(index)

        self._order(stop)

    def start_node(self, index: int) -> None:
        def start() -> None:
            self._listeners[index] = socket.create_server(("127.0.0.1", self.ports[index]))
            self._selector.register(self._listeners[index], selectors.EVENT_READ)

        self._order(start)

    def drop_connections(self, index: int) -> None:
        self._order(lambda: self._drop(index))

    def close(self) -> None:
        self._running = False
        self._wake.send(b"x")
        self._thread.join()
        for used in (*self._listeners.values(), *self._connections, self._wake, self._woken):
            used.close()
        self._selector.close()

    def __enter__(self) -> "FakeCluster":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _order(self, what: Callable[[], None]) -> None:
        done = threading.Event()
        self._orders.append((what, done))
        self._wake.send(b"x")
        assert done.wait(10)

    def _drop(self, index: int) -> None:
        for connection in [c for c, (owner, _, _) in self._connections.items() if owner == index]:
            self._close(connection)

    def _close(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        del self._connections[connection]
        connection.close()

    def _run(self) -> None:
        while self._running:
            for key, _ in self._selector.select():
                used = key.fileobj
                assert isinstance(used, socket.socket)
                if used is self._woken:
                    used.recv(100)
                    while self._orders:
                        what, done = self._orders.popleft()
                        what()
                        done.set()
                elif used in self._connections:
                    self._read(used)
                elif used in self._listeners.values():
                    index = next(index for index, listener in self._listeners.items() if listener is used)
                    connection, _ = used.accept()
                    connection.settimeout(10)
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._connections[connection] = (index, hiredis.Reader(), {})
                    self._selector.register(connection, selectors.EVENT_READ)
                    here = sum(owner == index for owner, _, _ in self._connections.values())
                    self.connections_max = max(self.connections_max, here)

    def _read(self, connection: socket.socket) -> None:
        index, reader, state = self._connections[connection]
        try:
            data = connection.recv(self.bytes_max.get(index) or 1 << 16)
        except OSError:
            data = b""
        if not data:
            return self._close(connection)
        if index in self.bytes_max and not data.startswith(b"*2\r\n$5\r\nHELLO"):
            del self.bytes_max[index]
            return self._close(connection)
        reader.feed(data)
        commands = []
        while (words := reader.gets()) is not False:
            commands.append(words)
        self.reads.append((index, len(commands)))
        for words in commands:
            try:
                reply = self._answer(index, words, state)
            except Refusal as refusal:
                reply = f"-{refusal}\r\n".encode()
            if reply is None:
                continue
            with contextlib.suppress(OSError):
                connection.sendall(reply)
            if state.get("closing"):
                return self._close(connection)
        return None

    def _answer(self, index: int, words: list[bytes], state: dict[str, bool]) -> bytes | None:
        words[0] = name = words[0].upper()
        self.log.append((index, tuple(words)))
        asked = state.pop("asking", False)
        about_data = name not in (b"HELLO", b"CLUSTER", b"ASKING", b"PING", b"READONLY") and words[1:2] != [b"ACKS"]
        act = EXECUTE
        if self.acts[index, name]:
            act = self.acts[index, name].popleft()
        elif about_data and self.everywhere:
            act = self.everywhere.popleft()
        other = (index + 1) % len(self.ports)
        keys = self._keys(words)
        if callable(act):
            act()
        if act in (CLOSE, EXECUTE_CLOSE):
            state["closing"] = True
        if isinstance(act, bytes):
            return act
        if act is SILENT:
            return None
        if act is CLOSE:
            return b""
        if act is MOVED and keys:
            return f"-MOVED {slot(keys[0])} {self.address(other)}\r\n".encode()
        if act is ASK and keys:
            self.acts[other, name].appendleft(EXECUTE)
            return f"-ASK {slot(keys[0])} {self.address(other)}\r\n".encode()
        if name == b"READONLY":
            state["readonly"] = True
            return b"+OK\r\n"
        if words[:2] == [b"RING", b"ACKS"]:
            state["eager"] = words[2] == b"one"
            return b"+OK\r\n"
        reads_here = name in (b"GET", b"EXISTS", b"MGET") and state.get("readonly") and index in self._members(keys)
        if keys and not asked and not reads_here and self.table[slot(keys[0])] != index:
            return f"-MOVED {slot(keys[0])} {self.address(self.table[slot(keys[0])])}\r\n".encode()
        if name == b"ASKING":
            state["asking"] = True
            return b"+OK\r\n"
        if state.get("eager") and name in (b"SET", b"DEL", b"MSET", b"INCRBY"):
            self.eager += keys
        result = encoded(self._execute(index, words))
        if act is EXECUTE_INDOUBT:
            return INDOUBT
        return b"" if act is EXECUTE_CLOSE else result

    @staticmethod
    def _keys(words: list[bytes]) -> list[bytes]:
        match words[0]:
            case b"DEL" | b"EXISTS" | b"MGET":
                return words[1:]
            case b"MSET":
                return words[1::2]
            case b"GET" | b"SET" | b"INCRBY" | b"APPEND" | b"HSET":
                return words[1:2]
        return []

    def _execute(self, index: int, words: list[bytes]) -> Any:
        values = self.values
        mine = [key for key in values if self.table[slot(key)] == index]
        match words:
            case [b"HELLO", b"3", *_]:
                return {"server": "fake", "proto": 3}
            case [b"PING"]:
                return "PONG"
            case [b"CLUSTER", b"INFO"]:
                return f"cluster_state:ok\r\ncluster_current_epoch:{self._view(index)[0]}\r\n".encode()
            case [b"CLUSTER", b"SLOTS"]:
                table = self._view(index)[1]
                cuts = [0, *(s for s in range(1, SLOTS) if table[s] != table[s - 1]), SLOTS]
                return [
                    [first, end - 1, *([b"127.0.0.1", self.ports[n], b"id"] for n in self._from(table[first]))]
                    for first, end in zip(cuts, cuts[1:], strict=False)
                ]
            case [b"CLUSTER", b"NODES"]:
                named = {node for each in set(self._view(index)[1]) for node in self._from(each)}
                flags = {node: "master" if node in named else "master,fail" for node in range(len(self.ports))}
                listed = flags.keys() - self.left
                return "".join(
                    f"id {self.address(each)}@1 {flags[each]} - 0 0 7 connected\n" for each in listed
                ).encode()
            case [b"RING", b"SHOW"]:
                return b'{"epoch": 7}'
            case [b"GET", key]:
                return values.get(key)
            case [b"SET", key, value, *rest]:
                before = values.get(key)
                holds = (
                    (b"NX" not in rest or before is None)
                    and (b"XX" not in rest or before is not None)
                    and (b"IFEQ" not in rest or before == rest[rest.index(b"IFEQ") + 1])
                )
                if holds:
                    values[key] = value
                return before if b"GET" in rest else ("OK" if holds else None)
            case [b"INCRBY", key, by]:
                try:
                    values[key] = b"%d" % (int(values.get(key, b"0")) + int(by))
                except ValueError:
                    raise Refusal("ERR value is not an integer or out of range") from None
                return int(values[key])
            case [b"APPEND", key, value]:
                values[key] = values.get(key, b"") + value
                return len(values[key])
            case [b"DEL", *keys]:
                return sum(values.pop(key, None) is not None for key in keys)
            case [b"EXISTS", *keys]:
                return sum(key in values for key in keys)
            case [b"MGET", *keys]:
                return [values.get(key) for key in keys]
            case [b"MSET", *pairs]:
                values.update(zip(pairs[::2], pairs[1::2], strict=True))
                return "OK"
            case [b"DBSIZE"]:
                return len(mine)
            case [b"KEYS", b"*"]:
                return mine
            case [b"SCAN", cursor, *_]:
                after = b"" if cursor == b"0" else bytes.fromhex(cursor.decode())
                rest = sorted(key for key in mine if key > after)
                return [rest[2].hex().encode() if len(rest) > 3 else b"0", rest[:3]]
            case [b"FLUSHALL"]:
                for key in mine:
                    del values[key]
                return "OK"
        raise Refusal(f"ERR unknown command '{words[0].decode()}'")

    def _from(self, index: int) -> list[int]:
        """A coordinator and its successors."""
        return [(index + place) % len(self.ports) for place in range(self.copies)]

    def _members(self, keys: list[bytes]) -> list[int]:
        return self._from(self.table[slot(keys[0])]) if keys else []

    def _view(self, index: int) -> tuple[int, list[int]]:
        return self.views.get(index, (self.epoch, self.table))


def open_sockets() -> int:
    names = []
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            names.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return sum(name.startswith("socket:") for name in names)
