//! Software that we did not write: Python with `in-toto-attestation`, `securesystemslib` and
//! `jsonschema`, named by an environment variable.

use std::io::Write as _;
use std::process::{Command, Stdio};

/// Runs a script of `tests/judges` with this input, and gives what it prints; `None` if there is
/// no judge.
pub(crate) fn judge(script: &str, arguments: &[&str], input: &[u8]) -> Option<String> {
    let python = kaizen_testkit::judge::variable("KAIZEN_IN_TOTO_PYTHON")?;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/judges/");
    let mut child = Command::new(python)
        .arg(format!("{folder}{script}"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{script} refused it");
    Some(String::from_utf8(output.stdout).unwrap())
}
