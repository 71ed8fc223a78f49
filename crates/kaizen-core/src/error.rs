//! The one error type of the workspace.

use std::error::Error as StdError;
use std::fmt;

/// The result of every fallible function in Kaizen.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn StdError + Send + Sync + 'static>;

/// What went wrong, named by what the caller should do about it.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorKind {
    /// The input is wrong: change it and call again.
    Invalid,
    /// The thing that was named does not exist: name another.
    NotFound,
    /// The thing exists already: use it, or choose another name.
    AlreadyExists,
    /// Somebody changed the state in between: read it again and decide anew.
    Conflict,
    /// Stored bytes do not match their digest or their format: restore them from a copy.
    Corrupt,
    /// A rule forbids it (a gate, a guard against leakage): satisfy the rule or override it by
    /// name.
    Refused,
    /// This implementation cannot do it: use another one.
    Unsupported,
    /// A limit was exceeded: ask for less.
    Limit,
    /// The outside world failed for now: try again later.
    Unavailable,
    /// A defect in Kaizen: report it.
    Internal,
}

#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Inner {
    kind: ErrorKind,
    message: String,
    #[source]
    source: Option<Source>,
}

/// An error with a [kind](ErrorKind), a one-line message that names the thing at fault, and a
/// source.
///
/// `{}` prints the message, `{:#}` the message and its chain of sources on one line.
///
/// ```
/// use kaizen_core::{Context, Error, ErrorKind};
///
/// let parsed: Result<u32, Error> = "x7".parse().context(ErrorKind::Invalid, "version `x7`");
/// let error = parsed.unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Invalid);
/// assert_eq!(format!("{error:#}"), "version `x7`: invalid digit found in string");
/// ```
pub struct Error(Box<Inner>);

impl Error {
    /// An error of this kind; the message names the thing at fault.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), source: None }))
    }

    /// An [`ErrorKind::Invalid`] error.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// An [`ErrorKind::NotFound`] error.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// An [`ErrorKind::Conflict`] error.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    /// An [`ErrorKind::Corrupt`] error.
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// An [`ErrorKind::Refused`] error.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Refused, message)
    }

    /// An [`ErrorKind::Internal`] error.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Attaches the error that caused this one.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What the caller should do about it.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same call may succeed later without any change.
    pub fn is_retryable(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Unavailable)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)?;
        if f.alternate() {
            let mut shown = self.0.to_string();
            let mut source = self.0.source();
            while let Some(cause) = source {
                let text = cause.to_string();
                // Many a message ends with its cause.
                if !shown.ends_with(&text) {
                    write!(f, ": {text}")?;
                    shown = text;
                }
                source = cause.source();
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.0.message)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            write!(f, "\n  caused by: {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}

/// Attaches a kind and a message to a foreign error.
pub trait Context<T> {
    /// Wraps the error, if there is one, under `message`.
    fn context(self, kind: ErrorKind, message: impl fmt::Display) -> Result<T>;
}

impl<T, E: Into<Source>> Context<T> for std::result::Result<T, E> {
    fn context(self, kind: ErrorKind, message: impl fmt::Display) -> Result<T> {
        self.map_err(|source| Error::new(kind, message.to_string()).with_source(source))
    }
}

impl<T> Context<T> for Option<T> {
    fn context(self, kind: ErrorKind, message: impl fmt::Display) -> Result<T> {
        self.ok_or_else(|| Error::new(kind, message.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_pointer_wide() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }

    #[test]
    fn the_plain_form_is_one_line_and_debug_shows_the_chain() {
        let error = Error::invalid("column `delay`").with_source(Error::not_found("no such file"));
        assert_eq!(error.to_string(), "column `delay`");
        assert_eq!(format!("{error:#}"), "column `delay`: no such file");
        assert_eq!(format!("{error:?}"), "Invalid: column `delay`\n  caused by: no such file");
        assert!(!error.is_retryable());
    }

    #[test]
    fn what_a_message_says_already_is_not_said_again() {
        let cause = Error::corrupt("signature by `x`").with_source(Error::corrupt("too short"));
        let error = Error::corrupt("checkpoint: signature by `x`").with_source(cause);
        assert_eq!(format!("{error:#}"), "checkpoint: signature by `x`: too short");
    }
}
