"""The point-in-time join by DuckDB's ASOF join, over tables in memory."""

import duckdb

from contender import serve
from joined import FEATURES, summary

VALUES = ", ".join(f"e.{name}" for name in FEATURES)

COLD = f"""
    SELECT q.id, {VALUES}
    FROM questions q ASOF LEFT JOIN events e ON q.entity = e.entity AND q.at >= e.at
"""

# The values of a row that is too old are missing; an age of exactly the TTL still counts.
WITHIN_A_DAY = f"""
    SELECT id, {", ".join(f"CASE WHEN fresh THEN {name} END AS {name}" for name in FEATURES)}
    FROM (
        SELECT q.id, q.at - e.at <= INTERVAL 1 DAY AS fresh, {VALUES}
        FROM questions q ASOF LEFT JOIN events e ON q.entity = e.entity AND q.at >= e.at
    )
"""

# An ASOF join takes one inequality. Of four ways to ask the question with created times, this was
# the fastest on this data; the others carry a running maximum over windows into an ASOF join. No two
# events of an entity happen at the same instant here, so the rule for ties is left out.
CREATED = f"""
    SELECT q.id, {VALUES}
    FROM questions q
    LEFT JOIN (
        SELECT q.id, arg_max(e.rowid, e.at) AS newest
        FROM questions q
        JOIN events e ON q.entity = e.entity AND e.at <= q.at AND e.created <= q.at
        GROUP BY q.id
    ) b ON q.id = b.id
    LEFT JOIN events e ON e.rowid = b.newest
"""


class DuckDb:
    def __init__(self):
        self.connection = duckdb.connect()
        self.connection.execute("SET TimeZone = 'UTC'")

    def load(self, _stopwatch, events, questions):
        for name, path in [("events", events), ("questions", questions)]:
            table = f"CREATE TABLE {name} AS SELECT * FROM read_parquet('{path}')"
            self.connection.execute(table)

    def cold(self, stopwatch, ttl="none"):
        return self.ask(stopwatch, WITHIN_A_DAY if ttl == "day" else COLD)

    def created(self, stopwatch):
        return self.ask(stopwatch, CREATED)

    def ask(self, stopwatch, query):
        return summary(stopwatch.time(lambda: self.connection.sql(query).to_arrow_table()))


serve(DuckDb())
