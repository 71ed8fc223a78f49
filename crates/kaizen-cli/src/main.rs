//! The program `kaizen`.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use kaizen_cli::Failed;
use kaizen_core::{Error, ErrorKind};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            // There is nobody to tell if this fails.
            let _ = writeln!(std::io::stderr(), "{failed}");
            ExitCode::from(failed.exit_code())
        }
    }
}

fn run() -> Result<(), Failed> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| Error::internal("runtime").with_source(error))?;
    let stdout = std::io::stdout();
    let mut out = String::new();
    let done =
        runtime.block_on(kaizen_cli::run(std::env::args_os(), &mut out, stdout.is_terminal()));
    // Also what was found before an error: that a log is damaged, and where.
    match stdout.lock().write_all(out.as_bytes()) {
        // Whoever read it has seen enough, as `head` does.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => done,
        Err(error) => {
            let failed = Error::new(ErrorKind::Unavailable, "standard output");
            Err(failed.with_source(error).into())
        }
        Ok(()) => done,
    }
}
