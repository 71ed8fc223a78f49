//! The command `kaizen`: looks into a store and its log, and checks them.
//!
//! *You are here:* beside the loop, for people: data → train → eval → **store** → package → deploy
//! → serve → drift.\
//! *Takes:* the directories of a store and of a log, and the public key of the log.\
//! *Gives:* what they hold, as text for people or as JSON.\
//! *Touches the world through:* those directories. It needs no private key.
//!
//! The program is [`run`] on the arguments of its process:
//!
//! ```
//! # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
//! # runtime.block_on(async {
//! let mut out = String::new();
//! kaizen_cli::run(["kaizen", "--help"], &mut out, false).await.unwrap();
//! assert!(out.contains("lineage"));
//! # });
//! ```

mod arguments;
mod failed;
mod fsck;
mod log;
mod models;
mod open;
mod print;
mod proof;
mod remote;
mod trace;

use std::ffi::OsString;
use std::fmt::Write;

use clap::Parser as _;
use kaizen_core::{Error, ErrorKind, Result};

use arguments::{Arguments, Command, LogCommand};
pub use failed::Failed;
use print::Printer;

/// Does what the arguments say and writes what comes of it to `out`, in colour if `terminal`. The
/// first argument is the name of the program.
///
/// # Errors
///
/// [`Failed::Usage`] and [`Failed::Asked`] if the arguments make no sense; otherwise
/// [`Failed::Done`] with the error of the command, such as [`ErrorKind::Corrupt`] naming a damaged
/// file.
pub async fn run<I, T>(
    arguments: I,
    out: &mut (dyn Write + Send),
    terminal: bool,
) -> Result<(), Failed>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) if error.exit_code() == 0 => {
            return Ok(written(write!(out, "{}", error.render()))?);
        }
        Err(error) => return Err(Failed::Usage(error.render().to_string().trim_end().to_owned())),
    };
    let mut printer = Printer::new(out, arguments.json, arguments.color.is_on(terminal));
    let Arguments { place, command, .. } = arguments;
    match command {
        Command::Log { command: LogCommand::Verify } => log::verify(&place, &mut printer).await,
        Command::Log { command: LogCommand::Show(show) } => {
            log::show(&place, &show, &mut printer).await
        }
        Command::Models(models) => models::list(&place, &models, &mut printer).await,
        Command::Card(card) => models::card(&place, &card, &mut printer).await,
        Command::Lineage(lineage) => trace::lineage(&place, &lineage, &mut printer).await,
        Command::Proof(proof) => proof::run(&place, &proof, &mut printer).await,
        Command::Fsck(fsck) => fsck::run(&place, &fsck, &mut printer).await,
        Command::Push(push) => remote::push(&place, &push, &mut printer).await,
        Command::Pull(pull) => remote::pull(&place, &pull, &mut printer).await,
    }
}

fn written(result: std::fmt::Result) -> Result<()> {
    result.map_err(|error| Error::new(ErrorKind::Internal, "output").with_source(error))
}

/// The code of the page on the store.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/store.md")]
struct StorePage;
