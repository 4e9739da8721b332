"""CPython's pools: reads how many operations to carry out, answers how many nanoseconds they took."""

import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor


def same(value):
    return value


def timed(operation):
    def run(operations):
        start = time.perf_counter_ns()
        for _ in range(operations):
            operation()
        return time.perf_counter_ns() - start

    return run


def loky_action(name, number):
    from loky import get_reusable_executor

    executor = get_reusable_executor(max_workers=2)
    if name == "loky-map":
        # The chunks that Pool.map would make.
        return timed(lambda: list(executor.map(same, range(number), chunksize=number // 8))), executor.shutdown
    return timed(lambda: executor.submit(same, 7).result()), executor.shutdown


def mpire_action(name, number):
    from mpire import WorkerPool

    pool = WorkerPool(n_jobs=2, keep_alive=True)
    if name == "mpire-map":
        return timed(lambda: pool.map(same, range(number))), pool.terminate
    return timed(lambda: pool.apply(same, 7)), pool.terminate


def started_and_ended(context, number):
    with context.Pool(number) as pool:
        pool.map(same, range(number))


def action(name, number):
    if name.startswith("loky"):
        return loky_action(name, number)
    if name.startswith("mpire"):
        return mpire_action(name, number)
    context = multiprocessing.get_context("fork")
    if name == "start":
        return timed(lambda: started_and_ended(context, number)), lambda: None
    if name == "executor":
        executor = ProcessPoolExecutor(2, mp_context=context)
        return timed(lambda: executor.submit(same, 7).result()), executor.shutdown
    pool = context.Pool(2)
    if name == "map":
        return timed(lambda: pool.map(same, range(number))), pool.terminate
    if name == "map-one":
        # A twentieth of them is enough to know what all of them take.
        part = timed(lambda: pool.map(same, range(number // 20), chunksize=1))
        return lambda operations: 20 * part(operations), pool.terminate
    value = bytes(number) if number else 7
    return timed(lambda: pool.apply(same, (value,))), pool.terminate


if __name__ == "__main__":
    run, end = action(sys.argv[1], int(sys.argv[2]))
    for line in sys.stdin:
        print(run(int(line)), flush=True)
    end()
