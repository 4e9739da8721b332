"""mpi4py.futures: the rates that mp-mpi's example `rates` measures as well."""
import sys, time
from mpi4py.futures import MPICommExecutor
from mpi4py import MPI

def noop(x): return x
def sleep10(x): time.sleep(0.010); return x
def size(b): return len(b)

def rate(name, count, run):
    best = 0
    for _ in range(3):
        t = time.perf_counter(); n = sum(1 for _ in run()); dt = time.perf_counter() - t
        assert n == count
        best = max(best, count / dt)
    print(f"{name} {best:.1f}", flush=True)

with MPICommExecutor(MPI.COMM_WORLD, root=0) as ex:
    if ex is not None:
        list(ex.map(noop, range(100)))
        rate("noop-chunk-1", 5000, lambda: ex.map(noop, range(5000), chunksize=1, unordered=True))
        for c in (100, 1000, 10000):
            rate(f"noop-chunk-{c}", 300000, lambda: ex.map(noop, range(300000), chunksize=c, unordered=True))
        blob = bytes(1 << 20)
        rate("mebibyte", 300, lambda: ex.map(size, [blob] * 300, unordered=True))
        n = ex.num_workers * 100
        rate("sleep10", n, lambda: ex.map(sleep10, range(n), unordered=True))
        print("workers", ex.num_workers)
