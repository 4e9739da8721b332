"""Calls a method of an object in a manager of Rust: client.py SOCKET NAME METHOD [JSON]..., with the key in MP_KEY."""

import json
import os
import sys
from multiprocessing.connection import Client


class Proxy:
    def __init__(self, connection, name):
        self.connection, self.name = connection, name

    def __getattr__(self, method):
        def call(*args):
            request = {"object": self.name, "method": method, "args": args}
            self.connection.send_bytes(json.dumps(request).encode())
            answer = json.loads(self.connection.recv_bytes())
            if "error" in answer:
                raise RuntimeError(answer["error"])
            return answer["value"]

        return call


if __name__ == "__main__":
    socket, name, method, *arguments = sys.argv[1:]
    with Client(socket, authkey=os.environ["MP_KEY"].encode()) as connection:
        print(json.dumps(getattr(Proxy(connection, name), method)(*map(json.loads, arguments))))
