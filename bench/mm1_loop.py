# SPDX-License-Identifier: MIT
"""The model of bench/mm1.lua as a bare event loop: a heap, a line and nothing else.

No tasks, no client, no policy: what the least that could do it costs in Python.
usage: python3 mm1_loop.py [CALLS] [SEED]
"""
import random
import sys
from collections import deque
from heapq import heappop, heappush
from math import sqrt

GAP, SERVICE, TIMEOUT, ATTEMPTS, BATCHES = 1.25, 1.0, 5.0, 3, 50
ARRIVE, SERVED, LATE, AGAIN = range(4)


class Call:
    __slots__ = ("batch", "began", "attempt", "waits")

    def __init__(self, batch, began):
        self.batch = batch
        self.began = began
        self.attempt = 0  # the number of the one under way
        self.waits = False  # in the line, or being served


def simulate(calls, seed):
    arrivals, rng = random.Random(seed), random.Random(seed + 1000)
    seconds, answered, attempts = [0.0] * BATCHES, [0] * BATCHES, [0] * BATCHES
    events, line, serving, number, order = [], deque(), None, 0, 0

    def push(at, kind, one, attempt):
        nonlocal order
        order += 1
        heappush(events, (at, order, kind, one, attempt))

    def serve(now):
        # The first in line who has not left.
        nonlocal serving
        serving = None
        while line:
            one, attempt = line.popleft()
            if one.waits and one.attempt == attempt:
                serving = one
                push(now + rng.expovariate(1 / SERVICE), SERVED, one, attempt)
                return

    def send(now, one):
        one.attempt += 1
        one.waits = True
        attempts[one.batch] += 1
        push(now + TIMEOUT, LATE, one, one.attempt)
        line.append((one, one.attempt))
        if serving is None:
            serve(now)

    push(0.0, ARRIVE, None, 0)
    while events:
        now, _, kind, one, attempt = heappop(events)
        if kind == ARRIVE:
            send(now, Call(number * BATCHES // calls, now))
            number += 1
            if number < calls:
                push(now + arrivals.expovariate(1 / GAP), ARRIVE, None, 0)
        elif kind == AGAIN:
            send(now, one)
        elif one.waits and one.attempt == attempt:
            one.waits = False
            if kind == SERVED:
                seconds[one.batch] += now - one.began
                answered[one.batch] += 1
            elif attempt < ATTEMPTS:
                push(now + rng.random() * 2.0 ** attempt, AGAIN, one, 0)
            if one is serving:
                serve(now)
    return seconds, answered, attempts


def mean_and_error(values):
    mean = sum(values) / len(values)
    return f"{mean:.6f}\t{sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values)):.6f}"


def report(calls, seconds, answered, attempts):
    print("time\t" + mean_and_error([s / n for s, n in zip(seconds, answered)]))
    print("answered\t" + mean_and_error([n * BATCHES / calls for n in answered]))
    print("attempts\t" + mean_and_error([n * BATCHES / calls for n in attempts]))
    print(f"{calls} done, 0 failed")


def main():
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 200000
    report(calls, *simulate(calls, int(sys.argv[2]) if len(sys.argv) > 2 else 1))


if __name__ == "__main__":
    main()
