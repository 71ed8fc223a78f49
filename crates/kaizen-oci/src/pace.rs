//! Waiting, and how long.

use std::fmt;
use std::time::Duration;

use kaizen_core::{Error, ErrorKind, Result, async_trait};

/// How the client waits and draws: the two things that make its doings differ from run to run.
#[async_trait]
pub trait Pace: fmt::Debug + Send + Sync {
    /// Waits so long.
    async fn pause(&self, duration: Duration);

    /// A number from 0 up to but not including 1, each as likely as any other.
    fn draw(&self) -> f64;
}

/// Waits by tokio's timer, and draws from the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemPace;

#[async_trait]
impl Pace for SystemPace {
    async fn pause(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    fn draw(&self) -> f64 {
        // Without a source of randomness, all wait the same: worse for the registry, no worse here.
        let bits = getrandom::u64().unwrap_or(1 << 63);
        (bits >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// How often a request is tried, and how long the client waits in between.
///
/// Before the n-th repetition it waits a time drawn evenly from 0 to `base` · 2ⁿ⁻¹, at most `cap`
/// (exponential back-off with full jitter): many clients that were turned away together come back
/// apart. What a registry asks for by `Retry-After` is waited in addition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// How often a request is sent before its failure is the caller's; at least once.
    pub attempts: u32,
    /// The longest wait before the first repetition.
    pub base: Duration,
    /// The longest wait before any.
    pub cap: Duration,
    /// A registry that asks to wait longer than this is given up at once.
    pub longest_ask: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 5,
            base: Duration::from_millis(250),
            cap: Duration::from_secs(20),
            longest_ask: Duration::from_secs(60),
        }
    }
}

/// Something that may succeed when it is tried again, if its error says so.
#[derive(Debug)]
pub(crate) struct Failed {
    /// What the registry asks to wait at least.
    pub(crate) ask: Option<Duration>,
    /// What the caller gets if it is not tried again.
    pub(crate) error: Error,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { ask: None, error }
    }
}

/// The attempts at one thing.
#[derive(Debug)]
pub(crate) struct Backoff {
    retry: Retry,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(retry: Retry) -> Self {
        Self { retry, failures: 0 }
    }

    /// Waits before the next attempt; the failure's error if there is none.
    pub(crate) async fn wait(&mut self, pace: &dyn Pace, failed: Failed) -> Result<()> {
        self.failures += 1;
        if !failed.error.is_retryable() || self.failures >= self.retry.attempts.max(1) {
            return Err(failed.error);
        }
        let ask = failed.ask.unwrap_or_default();
        if ask > self.retry.longest_ask {
            let text = format!("{}; it asks to wait {} s", failed.error, ask.as_secs());
            return Err(Error::new(ErrorKind::Unavailable, text).with_source(failed.error));
        }
        let doubled = self.retry.base.saturating_mul(1 << (self.failures - 1).min(30));
        let drawn = doubled.min(self.retry.cap).mul_f64(pace.draw().clamp(0.0, 1.0));
        tracing::debug!(error = %failed.error, wait = ?(ask + drawn), "trying again");
        pace.pause(ask + drawn).await;
        Ok(())
    }

    /// There was progress: failures before it count no more.
    pub(crate) fn progressed(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Debug)]
    struct Noted(Mutex<Vec<Duration>>, f64);

    #[async_trait]
    impl Pace for Noted {
        async fn pause(&self, duration: Duration) {
            self.0.lock().unwrap().push(duration);
        }

        fn draw(&self) -> f64 {
            self.1
        }
    }

    fn failed(ask: Option<u64>) -> Failed {
        let error = Error::new(ErrorKind::Unavailable, "down");
        Failed { ask: ask.map(Duration::from_secs), error }
    }

    #[tokio::test]
    async fn waits_double_up_to_the_cap_and_add_to_what_is_asked() {
        let retry = Retry {
            attempts: 6,
            base: Duration::from_secs(1),
            cap: Duration::from_secs(5),
            longest_ask: Duration::from_secs(60),
        };
        let pace = Noted(Mutex::default(), 0.5);
        let mut backoff = Backoff::new(retry);
        for ask in [None, None, None, None, Some(60)] {
            backoff.wait(&pace, failed(ask)).await.unwrap();
        }
        assert_eq!(backoff.wait(&pace, failed(None)).await.unwrap_err().to_string(), "down");
        let waited: Vec<f64> = pace.0.lock().unwrap().iter().map(Duration::as_secs_f64).collect();
        assert_eq!(waited, [0.5, 1.0, 2.0, 2.5, 62.5]);
        backoff.progressed();
        let error = backoff.wait(&pace, failed(Some(61))).await.unwrap_err();
        assert_eq!(error.to_string(), "down; it asks to wait 61 s");
    }

    #[test]
    fn draws_lie_in_the_unit_interval_and_differ() {
        let drawn: Vec<f64> = (0..100).map(|_| SystemPace.draw()).collect();
        assert!(drawn.iter().all(|one| (0.0..1.0).contains(one)));
        assert!(drawn.iter().any(|one| *one < 0.5) && drawn.iter().any(|one| *one >= 0.5));
    }
}
