# SPDX-License-Identifier: MIT
"""The model of bench/mm1.lua as processes of SimPy 3 (Debian: python3-simpy3).

usage: python3 mm1_simpy.py [CALLS] [SEED]
"""
import random
import sys

import simpy

from mm1_loop import BATCHES, GAP, SERVICE, TIMEOUT, ATTEMPTS, report


def call(env, server, rng, batch, seconds, answered, attempts):
    began = env.now
    bound = 2.0
    for attempt in range(ATTEMPTS):
        attempts[batch] += 1
        with server.request() as place:
            patience = env.timeout(TIMEOUT)
            yield place | patience
            if place.triggered:
                service = env.timeout(rng.expovariate(1 / SERVICE))
                yield service | patience
                if service.processed:
                    seconds[batch] += env.now - began
                    answered[batch] += 1
                    return
        if attempt + 1 < ATTEMPTS:
            yield env.timeout(rng.random() * bound)
            bound *= 2


def arrive(env, server, calls, arrivals, rng, *sums):
    for number in range(calls):
        env.process(call(env, server, rng, number * BATCHES // calls, *sums))
        yield env.timeout(arrivals.expovariate(1 / GAP))


def main():
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 200000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    sums = [0.0] * BATCHES, [0] * BATCHES, [0] * BATCHES
    env = simpy.Environment()
    env.process(arrive(env, simpy.Resource(env, 1), calls, random.Random(seed), random.Random(seed + 1000), *sums))
    env.run()
    report(calls, *sums)


if __name__ == "__main__":
    main()
