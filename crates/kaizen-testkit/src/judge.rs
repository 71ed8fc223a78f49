//! Judges: software that we did not write, against which tests hold ours.
//!
//! Where a judge is not installed its tests are skipped, and say so. With the variable
//! `KAIZEN_JUDGES=required` they fail instead, so that a judge that went missing is noticed: the
//! checks of this repository set it.

/// Set to `required`, it makes a test fail that would be skipped.
const REQUIRED: &str = "KAIZEN_JUDGES";

/// Says that a test is skipped for want of a judge.
///
/// # Panics
///
/// If `KAIZEN_JUDGES=required`.
#[allow(clippy::print_stdout, reason = "a test that is skipped says so")]
#[allow(clippy::panic, reason = "that is how a test fails")]
pub fn absent(why: &str) {
    if std::env::var_os(REQUIRED).is_some_and(|value| value == "required") {
        panic!("{REQUIRED}=required, and {why}");
    }
    println!("skipped: {why}");
}

/// What a variable of the environment says of a judge; `None`, and [`absent`], if it is not set.
///
/// # Panics
///
/// As [`absent`].
pub fn variable(name: &str) -> Option<String> {
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
/// As [`absent`].
pub fn program(name: &str) -> bool {
    let mut command = std::process::Command::new(name);
    command.arg("--version").stdout(std::process::Stdio::null());
    let there = command.stderr(std::process::Stdio::null()).status().is_ok();
    if !there {
        absent(&format!("{name} is not installed"));
    }
    there
}
