//! Why a call came to nothing: because of what was asked, or in doing it.

use std::fmt;

use kaizen_core::{Error, Result, one_line};

/// Why the program ends without success. Its text is what is said about that.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failed {
    /// The arguments are none that there are: the usage, in several lines.
    Usage(String),
    /// An argument means nothing.
    Asked(Error),
    /// It was asked rightly, and did not succeed.
    Done(Error),
}

impl Failed {
    /// With what the program ends: 2 if it was asked wrongly, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Asked(_) => 2,
            Self::Done(_) => 1,
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) => f.write_str(text),
            // What is at fault may have been named by anybody.
            Self::Asked(error) | Self::Done(error) => {
                write!(f, "kaizen: {}", one_line(&format!("{error:#}")))
            }
        }
    }
}

impl std::error::Error for Failed {}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Done(error)
    }
}

/// Lays an error at the door of who asked.
pub(crate) trait Blame<T> {
    /// An error is that of an argument.
    fn asked(self) -> Result<T, Failed>;
}

impl<T> Blame<T> for Result<T> {
    fn asked(self) -> Result<T, Failed> {
        self.map_err(Failed::Asked)
    }
}

/// An argument that means nothing.
pub(crate) fn asked(message: impl Into<String>) -> Failed {
    Failed::Asked(Error::invalid(message))
}
