"""A dict of CPython's Manager: reads how many operations to carry out, answers how many nanoseconds they took."""

import multiprocessing
import sys
import time


def main(action, keys):
    with multiprocessing.Manager() as manager:
        shared = manager.dict({key: key for key in range(keys)})
        for line in sys.stdin:
            operations = int(line)
            start = time.perf_counter_ns()
            if action == "get":
                for number in range(operations):
                    shared.get(number % keys)
            else:
                for number in range(operations):
                    shared[number % keys] = number
            print(time.perf_counter_ns() - start, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
