//! Bytes that nobody can guess.

use kaizen_core::{Context, ErrorKind, Result};

/// So many bytes, drawn from the operating system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .context(ErrorKind::Unavailable, "randomness of the operating system")?;
    Ok(bytes)
}
