//! What the program is told.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use kaizen_core::Digest;

/// The types of entries.
pub(crate) const KINDS: [&str; 20] = [
    "alias_moved",
    "configured",
    "data_snapshot",
    "decided",
    "deployed",
    "drift_alarm",
    "erased",
    "evaluated",
    "folded",
    "packaged",
    "pruned",
    "ran",
    "registered",
    "released",
    "removed",
    "restored",
    "retrain_abandoned",
    "retrain_requested",
    "tagged",
    "trained",
];

/// Looks into a Kaizen store and its audit log, and checks them.
#[derive(Debug, Parser)]
#[command(name = "kaizen", version, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Print JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// When to use colour.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    pub(crate) color: Color,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where things are.
#[derive(Args, Debug)]
pub(crate) struct Place {
    /// The directory of the store. One in an object store is not read.
    #[arg(long, global = true, env = "KAIZEN_STORE", default_value = "store", value_name = "DIR")]
    pub(crate) store: PathBuf,
    /// The directory of the log.
    #[arg(long, global = true, env = "KAIZEN_LOG", default_value = "log", value_name = "DIR")]
    pub(crate) log: PathBuf,
    /// The public key of the log, `name+hash+base64`, or a file that holds it. A log whose key has
    /// changed has several: give this several times, or with commas between.
    #[arg(long, global = true, env = "KAIZEN_KEY", value_name = "KEY", value_delimiter = ',')]
    pub(crate) key: Vec<String>,
    /// The public key of a witness, in the same form. May be given several times, or with commas
    /// between.
    #[arg(long, global = true, env = "KAIZEN_WITNESS", value_name = "KEY", value_delimiter = ',')]
    pub(crate) witness: Vec<String>,
    /// How many of the witnesses must have cosigned; all of them, if this is not given.
    #[arg(long, global = true, requires = "witness", value_name = "COUNT")]
    pub(crate) quorum: Option<usize>,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    pub(crate) fn is_on(self, terminal: bool) -> bool {
        match self {
            Self::Auto => terminal && std::env::var_os("NO_COLOR").is_none(),
            Self::Always => true,
            Self::Never => false,
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The audit log.
    Log {
        #[command(subcommand)]
        command: LogCommand,
    },
    /// Models, their versions, aliases and tags.
    Models(Models),
    /// A model card of a version, in Markdown or HTML.
    Card(Card),
    /// What something was made from, and what was made of it.
    Lineage(Lineage),
    /// Show that an entry is in the log, to whoever has only the public key.
    Proof(Proof),
    /// Read every blob of the store, and name what is damaged, missing or strange.
    Fsck(Fsck),
    /// Copy a record with its payloads to a container registry.
    Push(Push),
    /// Copy a record with its payloads from a container registry.
    Pull(Pull),
}

/// What to do with the log.
#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Read the whole log and check every byte of it.
    Verify,
    /// Show entries.
    Show(Show),
}

/// Which entries to show.
#[derive(Args, Debug)]
pub(crate) struct Show {
    /// From this index on, instead of the last ones.
    #[arg(long, value_name = "INDEX")]
    pub(crate) from: Option<u64>,
    /// At most so many.
    #[arg(long, default_value_t = 20, value_name = "COUNT")]
    pub(crate) count: u64,
    /// Only entries about this digest or its first digits, or with it as evidence; or about the
    /// model that `NAME@ALIAS` or `NAME:NUMBER` says.
    #[arg(long, value_name = "DIGEST")]
    pub(crate) about: Option<String>,
    /// Only entries of this type, such as `alias_moved`.
    #[arg(long = "type", value_name = "TYPE", value_parser = KINDS)]
    pub(crate) kind: Option<String>,
    /// Only entries of this person or program.
    #[arg(long, value_name = "NAME")]
    pub(crate) actor: Option<String>,
}

/// Which models to list.
#[derive(Args, Debug)]
pub(crate) struct Models {
    /// Only names with this in them.
    pub(crate) name: Option<String>,
    /// Only holders of this alias.
    #[arg(long)]
    pub(crate) alias: Option<String>,
    /// Only versions with this tag, `KEY` or `KEY=VALUE`; may be given several times.
    #[arg(long, value_name = "TAG")]
    pub(crate) tag: Vec<String>,
    /// Only models of this algorithm.
    #[arg(long)]
    pub(crate) algorithm: Option<String>,
    /// Only versions that a person set above the gates.
    #[arg(long)]
    pub(crate) overridden: bool,
    /// At most so many. If this is not given: 1,000 in a table, which says if there are more, and
    /// all in JSON.
    #[arg(long, value_name = "COUNT")]
    pub(crate) limit: Option<usize>,
    /// Show every move of every alias, and every tag that was set or taken away.
    #[arg(long)]
    pub(crate) history: bool,
}

/// Which card.
#[derive(Args, Debug)]
pub(crate) struct Card {
    /// The version: `NAME@ALIAS`, `NAME:NUMBER`, or `NAME` for the champion.
    pub(crate) model: String,
    /// As one HTML page, instead of Markdown.
    #[arg(long)]
    pub(crate) html: bool,
    /// The currency of the metric `value`.
    #[arg(long)]
    pub(crate) currency: Option<String>,
}

/// Of what to show the lineage.
#[derive(Args, Debug)]
pub(crate) struct Lineage {
    /// A digest or its first digits (six or more), the path of a source's file, `NAME@ALIAS`, or
    /// `NAME:NUMBER`.
    pub(crate) what: String,
    /// Only what it was made from.
    #[arg(long, conflicts_with = "down")]
    pub(crate) up: bool,
    /// Only what was made of it.
    #[arg(long)]
    pub(crate) down: bool,
    /// Without the log: who made what, and when, is not said. Where there is no log, this needs not
    /// be given.
    #[arg(long)]
    pub(crate) without_log: bool,
}

/// Which proof to make or to check.
#[derive(Args, Debug)]
pub(crate) struct Proof {
    /// Make the proof of the entry at this index.
    #[arg(conflicts_with = "about")]
    pub(crate) index: Option<u64>,
    /// Make the proof of the last entry about this digest, or its first digits.
    #[arg(long, value_name = "DIGEST")]
    pub(crate) about: Option<String>,
    /// Check the proof in this file; no log is needed.
    #[arg(long, value_name = "FILE", requires = "entry", conflicts_with_all = ["index", "about"])]
    pub(crate) check: Option<PathBuf>,
    /// The file of the entry whose proof is checked: as JSON, or as `proof --json` printed it.
    #[arg(long, value_name = "FILE")]
    pub(crate) entry: Option<PathBuf>,
}

/// How to check a store.
#[derive(Args, Debug)]
pub(crate) struct Fsck {
    /// Without the log: what was removed for good is then reported as missing.
    #[arg(long)]
    pub(crate) without_log: bool,
}

/// What travels along with a record, and how.
#[derive(Args, Debug)]
pub(crate) struct Way {
    /// With what is said about it: evaluations, decisions, signatures.
    #[arg(long)]
    pub(crate) referrers: bool,
    /// With the records that it was made from.
    #[arg(long)]
    pub(crate) parents: bool,
    /// By http, which anybody on the way can read.
    #[arg(long)]
    pub(crate) plain_http: bool,
}

/// What to push, and where.
#[derive(Args, Debug)]
pub(crate) struct Push {
    /// A digest or its first digits, `NAME@ALIAS`, or `NAME:NUMBER`.
    pub(crate) what: String,
    /// `HOST/REPOSITORY`, with `:TAG` if it is to have one.
    pub(crate) repository: String,
    #[command(flatten)]
    pub(crate) way: Way,
}

/// What to pull, and from where.
#[derive(Args, Debug)]
pub(crate) struct Pull {
    /// `HOST/REPOSITORY:TAG` or `HOST/REPOSITORY@DIGEST`.
    pub(crate) repository: String,
    #[command(flatten)]
    pub(crate) way: Way,
}

/// Whether a text is a digest, or the first digits of one; gives those.
pub(crate) fn digits(text: &str) -> Option<String> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let fits = (6..=2 * size_of::<Digest>()).contains(&hex.len())
        && hex.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c));
    fits.then(|| hex.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_type_of_entry_can_be_asked_for() {
        let lines = include_str!("../../kaizen-store/tests/fixtures/entries.jsonl").lines();
        let kinds = lines.map(|line| {
            let entry: kaizen_core::Entry = serde_json::from_str(line).unwrap();
            crate::log::kind(&entry.event)
        });
        let known: BTreeSet<String> = KINDS.map(str::to_owned).into();
        assert!(kinds.collect::<BTreeSet<_>>().is_subset(&known), "{known:?}");
    }
}
