"""CPython's side of a row: reads how many operations to carry out, answers how many nanoseconds they took."""

import multiprocessing
import sys
import time
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory

try:
    import numpy
except ImportError:
    numpy = None


def nothing():
    pass


def echo(connection):
    while (value := connection.recv()) is not None:
        connection.send(value)


def receive(messages, control):
    while operations := control.recv():
        for _ in range(operations):
            messages.recv_bytes()
        control.send(operations)


def spawner(method):
    context = multiprocessing.get_context(method)

    def run(operations):
        start = time.perf_counter_ns()
        for _ in range(operations):
            process = context.Process(target=nothing)
            process.start()
            process.join()
            process.close()
        return time.perf_counter_ns() - start

    return run, lambda: None


def round_trips(pause):
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=echo, args=(theirs,))
    process.start()
    pause = int(pause) / 1e6

    def run(operations):
        taken = 0
        for _ in range(operations):
            if pause:
                time.sleep(pause)
            start = time.perf_counter_ns()
            ours.send(7)
            ours.recv()
            taken += time.perf_counter_ns() - start
        return taken

    def end():
        ours.send(None)
        process.join()

    return run, end


def flow(size):
    message = b"Z" * int(size)
    receiver, sender = multiprocessing.Pipe(duplex=False)
    control, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=receive, args=(receiver, theirs))
    process.start()

    def run(operations):
        start = time.perf_counter_ns()
        control.send(operations)
        for _ in range(operations):
            sender.send_bytes(message)
        control.recv()
        return time.perf_counter_ns() - start

    def end():
        control.send(0)
        process.join()

    return run, end


def read_memory(control):
    while name := control.recv():
        memory = SharedMemory(name)
        byte = memory.buf[memory.size // 2]
        memory.close()
        control.send(byte)


def shared_memory(size):
    message = b"Z" * int(size)
    control, theirs = multiprocessing.Pipe()
    # Otherwise each process has its own, and the other one's takes the memory for lost.
    resource_tracker.ensure_running()
    process = multiprocessing.Process(target=read_memory, args=(theirs,))
    process.start()

    def copied():
        memory = SharedMemory(create=True, size=len(message))
        if numpy:
            numpy.frombuffer(memory.buf, numpy.uint8, len(message))[:] = numpy.frombuffer(message, numpy.uint8)
        else:
            memory.buf[: len(message)] = message
        return memory

    def run(operations):
        start = time.perf_counter_ns()
        for _ in range(operations):
            memory = copied()
            control.send(memory.name)
            control.recv()
            memory.close()
            memory.unlink()
        return time.perf_counter_ns() - start

    def end():
        control.send("")
        process.join()

    return run, end


if __name__ == "__main__":
    actions = {"spawn": spawner, "round-trip": round_trips, "flow": flow, "shared-memory": shared_memory}
    run, end = actions[sys.argv[1]](*sys.argv[2:])
    for line in sys.stdin:
        print(run(int(line)), flush=True)
    end()
