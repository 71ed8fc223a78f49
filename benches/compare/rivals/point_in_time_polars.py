"""The point-in-time join by `polars.DataFrame.join_asof`."""

import polars as pl

from contender import serve
from joined import FEATURES, summary

DAY = "1d"


class Polars:
    def load(self, _stopwatch, events, questions):
        self.events = pl.read_parquet(events)
        self.questions = pl.read_parquet(questions)
        self.plain = self.events.select(["entity", "at", *FEATURES])

    def prepare(self, _stopwatch, _ttl):
        """Sorts by time once, for the questions that may keep what they prepared."""
        self.sorted_events = self.plain.sort("at")
        self.sorted_questions = self.questions.sort("at")

    def cold(self, stopwatch, ttl="none"):
        def ask():
            return join(self.questions.sort("at"), self.plain.sort("at"), ttl)

        return summary(stopwatch.time(ask).to_arrow())

    def indexed(self, stopwatch, ttl="none"):
        def ask():
            return join(self.sorted_questions, self.sorted_events, ttl)

        return summary(stopwatch.time(ask).to_arrow())

    def created(self, stopwatch):
        """With created times: the latest event of those known, carried along in the order in which
        they became known; then a join on that order. No two events of an entity happen at the same
        instant here, so the rule for ties is left out."""

        def ask():
            known = self.events.with_columns(
                known=pl.max_horizontal("at", "created"),
                row=pl.int_range(pl.len(), dtype=pl.UInt32),
            )
            known = known.select("entity", "at", "known", "row").sort("known")
            newest = pl.col("at") == pl.col("at").cum_max().over("entity")
            known = known.with_columns(
                row=pl.when(newest).then("row").forward_fill().over("entity")
            )
            found = self.questions.sort("at").join_asof(
                known.select("entity", "known", "row"),
                left_on="at",
                right_on="known",
                by="entity",
                check_sortedness=False,
            )
            values = self.events.select(FEATURES)[found["row"]]
            return pl.concat([found.select("id"), values], how="horizontal")

        return summary(stopwatch.time(ask).to_arrow())


def join(questions, events, ttl):
    tolerance = DAY if ttl == "day" else None
    return questions.join_asof(
        events, on="at", by="entity", tolerance=tolerance, check_sortedness=False
    )


serve(Polars())
