//! Kaizen beside its rivals: the same questions, the same data, the same run.
//!
//! `cargo run --release -p compare -- NAME`; the README beside this package says what each line
//! means. Adding a comparison is a module here, a row in [`COMPARISONS`], and a script per rival.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what it prints is its product")]

mod contender;
mod contest;
mod data;
mod figure;
mod ground;
mod online;
mod point_in_time;
mod redis_server;
mod store;
mod windows;

use std::process::ExitCode;

use contender::Contender;
use ground::Ground;
use kaizen_core::{Context, Error, ErrorKind, Result};

/// Something that is compared.
struct Comparison {
    name: &'static str,
    about: &'static str,
    /// Asks everybody and prints the lines.
    run: fn(&Ground) -> Result<()>,
    /// Our own side of it, in a process of its own.
    ours: fn(&[String]) -> Result<Box<dyn Contender>>,
}

const COMPARISONS: [Comparison; 4] = [
    Comparison {
        name: "point_in_time",
        about: "features as of each row's instant: Polars, DuckDB, Feast",
        run: point_in_time::run,
        ours: point_in_time::ours,
    },
    Comparison {
        name: "online",
        about: "features by key, and how they get there: Feast on SQLite and on Redis",
        run: online::run,
        ours: online::ours,
    },
    Comparison {
        name: "windows",
        about: "20 windows over each event's own past: DuckDB, Polars",
        run: windows::run,
        ours: windows::ours,
    },
    Comparison {
        name: "store",
        about: "durable appends, a long log verified, large blobs: the bare disk, openssl and cp",
        run: store::run,
        ours: store::ours,
    },
];

/// What the command line says: `[NAME] [--scale FRACTION]`.
#[derive(Debug, PartialEq)]
struct Arguments {
    name: Option<String>,
    /// Scales the number of rows, to try the program out. Only 1 gives figures.
    scale: f64,
    /// `--contender`, and its settings: answer questions from standard input as our own side. The
    /// program starts itself like this, so that every contender is a process of its own.
    contender: Option<Vec<String>>,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut arguments = Self { name: None, scale: 1.0, contender: None };
        while let Some(word) = words.next() {
            match word.as_str() {
                "--contender" => arguments.contender = Some(words.by_ref().collect()),
                "--scale" => {
                    let scale = words.next().and_then(|scale| scale.parse().ok());
                    let message = "--scale takes a number";
                    arguments.scale = scale.context(ErrorKind::Invalid, message)?;
                }
                name if arguments.name.is_none() && !name.starts_with('-') => {
                    arguments.name = Some(word);
                }
                _ => return Err(Error::invalid(format!("`{word}`; NAME [--scale FRACTION]"))),
            }
        }
        Ok(arguments)
    }
}

fn main() -> ExitCode {
    match Arguments::parse(std::env::args().skip(1)).and_then(|arguments| compare(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn compare(arguments: &Arguments) -> Result<()> {
    let wanted = arguments.name.as_deref();
    let found = COMPARISONS.iter().find(|comparison| wanted == Some(comparison.name));
    match (found, wanted, &arguments.contender) {
        (Some(comparison), _, Some(settings)) => contender::serve((comparison.ours)(settings)?),
        (Some(comparison), ..) => {
            let ground = Ground::new(comparison.name, arguments.scale)?;
            (comparison.run)(&ground)?;
            ground.verdict()
        }
        (None, Some(wanted), _) => {
            list();
            Err(Error::not_found(format!("no comparison `{wanted}`")))
        }
        (None, None, _) => {
            list();
            Ok(())
        }
    }
}

fn list() {
    for comparison in &COMPARISONS {
        println!("{:<16}{}", comparison.name, comparison.about);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments> {
        Arguments::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn a_command_line_names_a_comparison_and_a_scale() {
        let name = || Some("online".to_owned());
        let plain = Arguments { name: name(), scale: 1.0, contender: None };
        assert_eq!(parse("online").unwrap(), plain);
        assert_eq!(parse("--scale 0.5 online").unwrap(), Arguments { scale: 0.5, ..plain });
        let contender = Some(vec!["redb".to_owned(), "--file".to_owned()]);
        let ours = Arguments { name: name(), scale: 1.0, contender };
        assert_eq!(parse("online --contender redb --file").unwrap(), ours);
        for line in ["--scale", "--scale x", "online windows", "--rows 3"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
