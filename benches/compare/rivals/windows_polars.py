"""Windows over each event's own past, by Polars' `rolling`, the sort included."""

import polars as pl

from contender import serve
from windowed import LENGTHS, summary


class Polars:
    def load(self, _stopwatch, events):
        self.events = pl.read_parquet(events, columns=["entity", "at", "f0"])

    def all(self, stopwatch):
        def ask():
            events = self.events.sort("entity", "at")
            tables = [window(events, *length) for length in LENGTHS.items()]
            return pl.concat(tables, how="horizontal")

        return summary(stopwatch.time(ask).to_arrow())


def window(events, name, seconds):
    """The aggregates over `(t - seconds, t]` for each event, in the order of the events."""
    value = pl.col("f0")
    aggregates = {
        "count": value.count(),
        "sum": value.sum(),
        "mean": value.mean(),
        "min": value.min(),
        "max": value.max(),
    }
    rolled = events.rolling("at", period=f"{seconds}s", group_by="entity")
    rolled = rolled.agg(**{f"{key}_{name}": value for key, value in aggregates.items()})
    return rolled.drop("entity", "at")


serve(Polars())
