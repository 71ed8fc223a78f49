//! Judges: software that we did not write, against which tests hold ours.
//!
//! Where a judge is not installed its tests are skipped, and say so. With the variable
//! `KAIZEN_JUDGES=required` they fail instead, so that a judge that went missing is noticed: the
//! checks of this repository set it.

use std::ffi::OsStr;

/// Set to `required`, it makes a test fail that would be skipped.
const REQUIRED: &str = "KAIZEN_JUDGES";

/// Says that a test is skipped for want of a judge.
///
/// # Panics
///
/// If `KAIZEN_JUDGES=required`, or if it has another value, which would mean nothing.
#[allow(clippy::print_stdout, reason = "a test that is skipped says so")]
#[allow(clippy::panic, reason = "that is how a test fails")]
pub fn absent(why: &str) {
    if are_required() {
        panic!("{REQUIRED}=required, and {why}");
    }
    println!("skipped: {why}");
}

fn are_required() -> bool {
    says_required(std::env::var_os(REQUIRED).as_deref())
}

/// What is misspelt must not make tests pass that did not run.
#[allow(clippy::panic, reason = "that is how a test fails")]
fn says_required(value: Option<&OsStr>) -> bool {
    match value.map(OsStr::as_encoded_bytes) {
        None | Some(b"") => false,
        Some(b"required") => true,
        Some(_) => panic!("{REQUIRED} is neither `required` nor empty"),
    }
}

/// What a variable of the environment says of a judge; `None`, and [`absent`], if it is not set.
///
/// # Panics
///
/// As [`absent`]; also if the variable is set, and `KAIZEN_JUDGES` means nothing.
pub fn variable(name: &str) -> Option<String> {
    are_required();
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        absent(&format!("{name} is not set; see tests/judges and .ci/run"));
    }
    value
}

/// Whether a program can be run; [`absent`] if it cannot.
///
/// # Panics
///
/// As [`absent`]; also if the program is there, and `KAIZEN_JUDGES` means nothing.
pub fn program(name: &str) -> bool {
    are_required();
    let mut command = std::process::Command::new(name);
    command.arg("--version").stdout(std::process::Stdio::null());
    let there = command.stderr(std::process::Stdio::null()).status().is_ok();
    if !there {
        absent(&format!("{name} is not installed"));
    }
    there
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judges_are_required_or_not_and_nothing_else() {
        let says = |value: &str| says_required(Some(OsStr::new(value)));
        assert!(says("required") && !says("") && !says_required(None));
        for bad in ["Required", "required ", "1", "true", "no"] {
            assert!(std::panic::catch_unwind(|| says(bad)).is_err(), "{bad}");
        }
    }
}
