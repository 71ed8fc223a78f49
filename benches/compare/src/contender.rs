//! Our own side of a contest. `rivals/contender.py` is the same for a rival.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use kaizen_core::{Context, ErrorKind, Result};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// What a question found, in a few numbers by name. Contenders must agree on them.
pub(crate) type Found = BTreeMap<String, f64>;

/// Answers questions; one line of JSON per question.
pub(crate) trait Contender {
    /// Answers a question of these words. What shall be timed is run by the stopwatch.
    fn answer(&mut self, question: &[&str], stopwatch: &mut Stopwatch) -> Result<Found>;
}

/// The answer to a question.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Answer {
    /// How long each call took.
    pub(crate) seconds: Vec<f64>,
    /// The CPU time, of all threads, of all calls together.
    pub(crate) cpu_seconds: f64,
    /// What it found.
    pub(crate) found: Found,
}

/// Times calls: wall time of each, CPU time of this process for all together.
#[derive(Default)]
pub(crate) struct Stopwatch {
    seconds: Vec<f64>,
    cpu_seconds: f64,
}

impl Stopwatch {
    /// Calls, and gives what the call gave.
    #[expect(clippy::disallowed_methods, reason = "a stopwatch; nothing but durations comes of it")]
    pub(crate) fn time<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let cpu = cpu_time();
        let begin = Instant::now();
        let result = call();
        self.seconds.push(begin.elapsed().as_secs_f64());
        self.cpu_seconds += cpu_time().saturating_sub(cpu).as_secs_f64();
        result
    }
}

/// The CPU time that this process has used so far, in all its threads.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Answers the lines of standard input until they end.
pub(crate) fn serve(mut contender: Box<dyn Contender>) -> Result<()> {
    let broken = "standard output";
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line.context(ErrorKind::Unavailable, "standard input")?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut stopwatch = Stopwatch::default();
        let found = contender.answer(&words, &mut stopwatch)?;
        let Stopwatch { seconds, cpu_seconds } = stopwatch;
        let answer = serde_json::to_string(&Answer { seconds, cpu_seconds, found })
            .context(ErrorKind::Internal, "an answer as JSON")?;
        writeln!(out, "{answer}").context(ErrorKind::Unavailable, broken)?;
        out.flush().context(ErrorKind::Unavailable, broken)?;
    }
    Ok(())
}
