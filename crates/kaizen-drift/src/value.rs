//! The monitor of one number per block.

use kaizen_core::{Error, ErrorKind, Result};
use kaizen_stats::conformal::{EProcess, Side, Start, p_value, uniform};
use serde::{Deserialize, Serialize};

use crate::monitor::{Monitor, SHIFTS, Settings};
use crate::reading::Reading;

/// Watches one number per block of time that should not fall, such as money per row.
///
/// The same promise as a [`Monitor`]'s: if the blocks are exchangeable, the probability of any
/// alarm, ever, is at most `alpha`. The score of a block is its number, and the bets are on low
/// ranks only.
///
/// ```
/// use kaizen_drift::ValueMonitor;
///
/// let reference: Vec<f64> = (0..40).map(|day| 5.0 + f64::from(day * 7 % 11) / 10.0).collect();
/// let mut monitor = ValueMonitor::new(&reference, 0.05, 7)?;
/// let readings = (0..8).map(|day| monitor.observe(day, 4.0)).collect::<Result<Vec<_>, _>>()?;
/// assert!(!readings[0].alarm && readings[7].alarm);
/// # Ok::<(), kaizen_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValueMonitor {
    settings: Settings,
    reference: usize,
    /// The reference, then what was observed.
    values: Vec<f64>,
    last: Option<i64>,
    process: EProcess,
}

impl ValueMonitor {
    /// A monitor that has these numbers, one per block, as its reference.
    ///
    /// # Errors
    ///
    /// `alpha` out of range, fewer than two numbers, a number that is not finite.
    pub fn new(reference: &[f64], alpha: f64, seed: u64) -> Result<Self> {
        let settings = Settings { alpha, seed };
        settings.check()?;
        if reference.len() < 2 || reference.len() >= Monitor::MAX_BLOCKS {
            let found = reference.len();
            return Err(Error::invalid(format!("value monitor: a reference of {found} blocks")));
        }
        if let Some(value) = reference.iter().find(|value| !value.is_finite()) {
            return Err(Error::invalid(format!("value monitor: reference value {value}")));
        }
        Ok(Self {
            settings,
            reference: reference.len(),
            values: reference.to_vec(),
            last: None,
            process: EProcess::new(Side::Low, Start::Spread, &SHIFTS),
        })
    }

    /// Looks at the number of one block. The reading lists no features.
    ///
    /// # Errors
    ///
    /// A block not later than the one before; a number that is not finite. The monitor is then as
    /// it was.
    pub fn observe(&mut self, block: i64, value: f64) -> Result<Reading> {
        if let Some(last) = self.last.filter(|last| block <= *last) {
            return Err(Error::invalid(format!("block {block}: not later than block {last}")));
        }
        if !value.is_finite() {
            return Err(Error::invalid(format!("block {block}: value {value}")));
        }
        if self.values.len() >= Monitor::MAX_BLOCKS {
            let message = format!("value monitor: {} blocks; begin anew", Monitor::MAX_BLOCKS);
            return Err(Error::new(ErrorKind::Limit, message));
        }
        self.last = Some(block);
        self.values.push(value);
        let looks = self.values.len() - self.reference;
        let random = uniform(self.settings.seed, 0, looks as u64);
        let evidence = self.process.observe(p_value(&self.values, random));
        let alpha = self.settings.alpha;
        Ok(Reading {
            block,
            evidence,
            alarm: evidence >= 1.0 / alpha,
            looks: u32::try_from(looks).unwrap_or(u32::MAX),
            alpha,
            features: Vec::new(),
        })
    }
}
