//! The rules of the house that no lint knows.

use std::collections::BTreeMap;

use crate::repository::{files, folders, read};

/// A file may hold this many lines before its tests.
const MOST_LINES: usize = 600;

/// Endings that say nothing about a type.
const EMPTY_ENDINGS: [&str; 5] = ["Manager", "Helper", "Util", "Impl", "Info"];

/// What every crate says of itself before anything else.
const OPENING: [&str; 4] =
    ["*You are here:*", "*Takes:*", "*Gives:*", "*Touches the world through:*"];

/// Of these there is one version, or their types do not fit together.
const SINGLE: [&str; 4] = ["arrow-array", "ndarray", "candle-core", "parquet"];

fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn files_are_short_enough_to_read() {
    let mut faults = Vec::new();
    for file in files(&[".rs"]) {
        let text = read(&file);
        let lines = production(&text).lines().count();
        if lines > MOST_LINES {
            faults.push(format!("{file}: {lines} lines, at most {MOST_LINES}"));
        }
    }
    assert_none(&faults);
}

/// The part of a file before its unit tests.
fn production(text: &str) -> &str {
    text.find("\n#[cfg(test)]\nmod tests {").map_or(text, |end| &text[..end])
}

#[test]
fn no_type_has_a_name_that_says_nothing() {
    let mut faults = Vec::new();
    for file in files(&[".rs"]) {
        for name in type_names(&read(&file)) {
            if EMPTY_ENDINGS.iter().any(|ending| name.ends_with(ending)) {
                faults.push(format!("{file}: `{name}`: name what it is or does"));
            }
        }
    }
    assert_none(&faults);
}

/// The names of the types that a file declares.
fn type_names(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
        let mut words = line.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        while let Some(word) = words.next() {
            if ["struct", "enum", "trait", "type", "union"].contains(&word) {
                let name = words.next().unwrap_or_default();
                if name.starts_with(|c: char| c.is_uppercase()) {
                    names.push(name.to_owned());
                }
            }
        }
    }
    names
}

#[test]
fn modules_bear_their_names() {
    let faults: Vec<String> = files(&["/mod.rs"])
        .iter()
        .map(|file| format!("{file}: name it after its module, beside the folder"))
        .collect();
    assert_none(&faults);
}

#[test]
fn every_crate_says_where_it_stands_and_performs_its_verb() {
    let mut faults = Vec::new();
    for folder in folders("crates") {
        let file = format!("crates/{folder}/src/lib.rs");
        let text = read(&file);
        let intro: Vec<&str> = text
            .lines()
            .take_while(|line| line.starts_with("//!"))
            .map(|line| line[3..].trim())
            .collect();
        let mut rest = intro.iter();
        for opening in OPENING {
            if !rest.any(|line| line.starts_with(opening)) {
                faults.push(format!("{file}: `{opening}` is missing, or not in its place"));
                break;
            }
        }
        if !fences(&intro).iter().any(|(_, language)| ["", "rust"].contains(&language.as_str())) {
            faults.push(format!("{file}: no doctest that runs"));
        }
    }
    assert_none(&faults);
}

/// Line number and language of each code block that begins, in lines of Markdown.
fn fences(lines: &[&str]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<usize> = None;
    for (number, line) in (1..).zip(lines) {
        let line = line.trim_start();
        let ticks = line.len() - line.trim_start_matches('`').len();
        match open {
            None if ticks >= 3 => {
                open = Some(ticks);
                found.push((number, line[ticks..].trim().to_owned()));
            }
            Some(ticks_of_open) if ticks >= ticks_of_open && line.len() == ticks => open = None,
            _ => {}
        }
    }
    found
}

#[test]
fn every_code_block_of_the_documents_names_its_language() {
    let mut faults = Vec::new();
    for file in files(&[".md"]) {
        let text = read(&file);
        for (line, language) in fences(&text.lines().collect::<Vec<_>>()) {
            if language.is_empty() {
                faults.push(format!("{file}:{line}: a code block without a language"));
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn the_glossary_is_in_order_and_knows_every_record_and_port() {
    let glossary = read("docs/glossary.md");
    let nouns: Vec<String> = glossary
        .lines()
        .filter_map(|line| line.strip_prefix("**")?.split("**").next())
        .map(|noun| noun.to_lowercase().replace('-', " "))
        .collect();
    assert!(nouns.is_sorted(), "docs/glossary.md: not in alphabetical order: {nouns:?}");
    let (mut faults, mut known) = (Vec::new(), 0);
    for file in files(&[".rs"]) {
        let definitions = ["crates/kaizen-core/src/", "crates/kaizen-table/src/"];
        if !definitions.iter().any(|folder| file.starts_with(folder)) {
            continue;
        }
        for line in read(&file).lines() {
            let port = line.strip_prefix("pub trait ").and_then(|rest| {
                rest.split_once(": fmt::Debug + Send + Sync {").map(|(name, _)| name)
            });
            let record = line.strip_prefix("impl Record for ").map(|rest| &rest[..rest.len() - 2]);
            for name in port.into_iter().chain(record) {
                known += 1;
                if !glossary.contains(&format!("`{name}`")) {
                    faults.push(format!("{file}: `{name}` is not in docs/glossary.md"));
                }
            }
        }
    }
    assert!(known >= 25, "only {known} records and ports found: are they declared otherwise now?");
    assert_none(&faults);
}

#[test]
fn no_line_ends_in_whitespace_and_every_file_ends_in_a_line() {
    let mut faults = Vec::new();
    for file in files(&[".rs", ".md", ".toml", ".ci/run", ".gitignore", ".py"]) {
        let text = read(&file);
        for (number, line) in (1..).zip(text.split('\n')) {
            if line.ends_with([' ', '\t', '\r']) {
                faults.push(format!("{file}:{number}: whitespace at the end of the line"));
            }
        }
        if !text.ends_with('\n') || text.ends_with("\n\n") {
            faults.push(format!("{file}: does not end in exactly one line break"));
        }
    }
    assert_none(&faults);
}

#[test]
fn there_is_one_arrow_one_ndarray_and_one_candle() {
    let lock: toml::Table = read("Cargo.lock").parse().unwrap();
    let mut versions = BTreeMap::<&str, Vec<&str>>::new();
    for package in lock["package"].as_array().unwrap() {
        let text = |key: &str| package.get(key).and_then(toml::Value::as_str).unwrap();
        versions.entry(text("name")).or_default().push(text("version"));
    }
    for name in SINGLE {
        let found = versions.get(name).map(Vec::as_slice).unwrap_or_default();
        assert_eq!(found.len(), 1, "versions of {name} in Cargo.lock: {found:?}");
    }
}

#[test]
fn the_rules_find_what_breaks_them() {
    let text = "/// struct Never\npub(crate) struct Plane<T>;\ntype X = Y;\nlet a = r#type;";
    assert_eq!(type_names(text), ["Plane", "X"]);
    let text = "a\n\n#[cfg(test)]\nmod tests {\n}\n";
    assert_eq!(production(text), "a\n");
    let lines = ["````text", "```", "````", "x", "```", "y", "```", "```sh", "```"];
    let found: Vec<String> =
        fences(&lines).into_iter().map(|(line, name)| format!("{line}{name}")).collect();
    assert_eq!(found.join(" "), "1text 5 8sh");
}
