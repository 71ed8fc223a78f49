"""How a rival is asked: questions come as lines, answers go back as lines of JSON.

A question is a word and its arguments, such as `load 1m` or `ask cold`. The answer says how long
each of its calls took, how much CPU time they took in all, and what they found:

    {"seconds": [0.35], "cpu_seconds": 0.61, "found": {"unmatched": 1060, "sum": 5.2e11}}

What was found is computed after the clock has stopped.
"""

import json
import os
import sys
import time


class Stopwatch:
    """Times calls: wall time of each, CPU time of this process for all together."""

    def __init__(self):
        self.seconds = []
        self.cpu_seconds = 0.0

    def time(self, call):
        """Calls, and gives what the call gave."""
        cpu = time.process_time()
        wall = time.perf_counter()
        result = call()
        self.seconds.append(time.perf_counter() - wall)
        self.cpu_seconds += time.process_time() - cpu
        return result


def serve(contender):
    """Answers each line by the contender's method of that name, until the lines end.

    A method takes a stopwatch and the arguments, and gives what was found, or nothing.
    """
    # Libraries may print: only answers go to the real standard output.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        word, *arguments = line.split()
        stopwatch = Stopwatch()
        found = getattr(contender, word)(stopwatch, *arguments)
        answer = {
            "seconds": stopwatch.seconds,
            "cpu_seconds": stopwatch.cpu_seconds,
            "found": found or {},
        }
        print(json.dumps(answer), file=out, flush=True)
