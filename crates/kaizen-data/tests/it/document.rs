//! `docs/point-in-time.md` is numbered without a gap, and the tests that it names exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The clauses: their number, and the tests that they name.
fn clauses() -> Vec<(usize, Vec<String>)> {
    let text = fs::read_to_string(root().join("docs/point-in-time.md")).unwrap();
    let mut clauses: Vec<(usize, Vec<String>)> = Vec::new();
    let mut tests = false;
    for line in text.lines() {
        let number = line.split_once(". ").and_then(|(number, _)| number.parse().ok());
        if let Some(number) = number {
            clauses.push((number, Vec::new()));
            tests = false;
        }
        // The names follow the word, over as many lines as they need.
        tests = (tests && !line.trim().is_empty()) || line.trim_start().starts_with("Test");
        if let (true, Some((_, named))) = (tests, clauses.last_mut()) {
            named.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    clauses
}

/// The names of all tests under the crates.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut folders = vec![root().join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                names.extend(tests_of(&fs::read_to_string(path).unwrap()));
            }
        }
    }
    names
}

/// The functions that stand below an attribute that makes them tests.
fn tests_of(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut attributed = false;
    for line in text.lines().map(str::trim_start) {
        attributed |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        let function = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn "));
        if let (true, Some(rest)) = (attributed, function) {
            names.extend(rest.split('(').next().map(str::to_owned));
            attributed = false;
        }
    }
    names
}

#[test]
fn the_clauses_are_numbered_and_each_names_a_test_that_exists() {
    let (clauses, tests) = (clauses(), tests());
    assert!(clauses.len() >= 40, "{} clauses", clauses.len());
    for (place, (number, named)) in clauses.iter().enumerate() {
        assert_eq!(*number, place + 1, "clauses are numbered without a gap");
        assert!(!named.is_empty(), "clause {number} names no test");
        for test in named {
            assert!(tests.contains(test), "clause {number}: there is no test `{test}`");
        }
    }
}
