"""The point-in-time join by Feast's `get_historical_features`, on its DuckDB offline store.

Feast reads its events from a file at each call, by nature; here it is the same Parquet file that the
others load beforehand.
"""

import tempfile
from pathlib import Path

import pyarrow.parquet as parquet

from contender import serve
from feast_repository import columns, repository
from joined import summary


class Feast:
    def load(self, _stopwatch, events, questions):
        self.folder = tempfile.TemporaryDirectory(dir=Path(events).parent)
        online = {"type": "sqlite", "path": f"{self.folder.name}/online.db"}
        self.store = repository(self.folder.name, events, online)
        questions = parquet.read_table(questions).to_pandas()
        self.questions = questions.rename(columns={"at": "event_timestamp"})

    def cold(self, stopwatch, ttl="none"):
        def ask():
            job = self.store.get_historical_features(self.questions, columns(f"ttl_{ttl}"))
            return job.to_arrow()

        return summary(stopwatch.time(ask))


serve(Feast())
