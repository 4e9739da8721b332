"""CPython's side of the rows of queues: reads how many operations to carry out, answers how many nanoseconds they took.

The other processes learn over a pipe how many messages a turn has for them, and answer over it.
"""

import multiprocessing
import sys
import time

MESSAGE = b"Z" * 64


class Crew:
    """The other processes of a turn."""

    def __init__(self):
        self.controls = []
        self.processes = []

    def add(self, target, *arguments):
        ours, theirs = multiprocessing.Pipe()
        # A process that is forked holds what this one has, so all of them are daemons, which end with this one.
        process = multiprocessing.Process(target=target, args=(theirs, *arguments), daemon=True)
        process.start()
        self.controls.append(ours)
        self.processes.append(process)

    def announce(self, messages):
        for control in self.controls:
            control.send(messages)

    def answers(self):
        return [control.recv() for control in self.controls]

    def end(self):
        self.announce(0)
        for process in self.processes:
            process.join()


def receive(control, queue):
    while operations := control.recv():
        for _ in range(operations):
            queue.get()
        control.send(None)


def receive_and_tell(control, queue):
    while operations := control.recv():
        for _ in range(operations):
            queue.get()
            control.send(time.monotonic_ns())


def send(control, queue):
    while operations := control.recv():
        for _ in range(operations):
            queue.put(MESSAGE)
        control.send(None)


def give_back(control, there, back):
    while operations := control.recv():
        for _ in range(operations):
            back.put(there.get())
        control.send(None)


def make(kind):
    return multiprocessing.SimpleQueue() if kind == "SimpleQueue" else multiprocessing.Queue()


def stream(kind, messages, length):
    messages = int(messages)
    message = b"Z" * int(length)
    if messages > 1:
        message = [message] * messages
    queue, crew = make(kind), Crew()
    crew.add(receive, queue)

    def run(operations):
        start = time.perf_counter_ns()
        crew.announce(operations)
        for _ in range(operations):
            queue.put(message)
        crew.answers()
        return (time.perf_counter_ns() - start) // messages

    return run, crew.end


def asleep(kind, pause):
    queue, crew = make(kind), Crew()
    crew.add(receive_and_tell, queue)
    pause = int(pause) / 1e6

    def run(operations):
        crew.announce(operations)
        taken = 0
        for _ in range(operations):
            time.sleep(pause)
            sent = time.monotonic_ns()
            queue.put(MESSAGE)
            taken += crew.answers()[0] - sent
        return taken

    return run, crew.end


def crowd(kind, processes):
    queue, crew = make(kind), Crew()
    processes = int(processes)
    for _ in range(processes):
        crew.add(send, queue)
        crew.add(receive, queue)

    def run(operations):
        start = time.perf_counter_ns()
        crew.announce(operations)
        crew.answers()
        return (time.perf_counter_ns() - start) // processes

    return run, crew.end


def ping_pong(kind):
    there, back, crew = make(kind), make(kind), Crew()
    crew.add(give_back, there, back)

    def run(operations):
        crew.announce(operations)
        start = time.perf_counter_ns()
        for _ in range(operations):
            there.put(MESSAGE)
            back.get()
        taken = time.perf_counter_ns() - start
        crew.answers()
        return taken

    return run, crew.end


if __name__ == "__main__":
    actions = {"stream": stream, "asleep": asleep, "crowd": crowd, "ping-pong": ping_pong}
    run, end = actions[sys.argv[1]](*sys.argv[2:])
    for line in sys.stdin:
        print(run(int(line)), flush=True)
    end()
