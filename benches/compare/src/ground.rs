//! Where a comparison takes place: its folder, its size, and the rivals' Python.

use std::cell::{Cell, OnceCell};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kaizen_core::{Context, Error, ErrorKind, Result};

/// The rivals, by name and version. All fit into one environment.
const RIVALS: [&str; 5] = [
    "polars==2.1.0",
    "duckdb==2.0.0",
    "pyarrow==26.0.1",
    "numpy==2.4.6",
    "feast[duckdb,redis]==0.67.0",
];

/// Where the rivals' scripts are.
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/rivals");

/// The folder of a comparison, and what is needed to hold it there.
pub(crate) struct Ground {
    comparison: &'static str,
    folder: PathBuf,
    scale: f64,
    python: OnceCell<PathBuf>,
    failures: Cell<usize>,
}

impl Ground {
    /// The ground of this comparison, under the folder that cargo builds into.
    pub(crate) fn new(comparison: &'static str, scale: f64) -> Result<Self> {
        if !(scale > 0.0 && scale <= 1.0) {
            return Err(Error::invalid(format!("a scale of {scale}; it lies in (0, 1]")));
        }
        if scale < 1.0 {
            println!(
                "note: scaled by {scale}: what follows tries the program out and is no figure"
            );
        }
        if cfg!(debug_assertions) {
            println!("note: this is no release build: what follows is no figure");
        }
        let program = this_program()?;
        let target = program.ancestors().nth(2).context(ErrorKind::Internal, "its own folder")?;
        let folder = target.join("compare");
        let ground =
            Self { comparison, folder, scale, python: OnceCell::new(), failures: Cell::new(0) };
        let data = ground.data();
        fs::create_dir_all(&data).context(ErrorKind::Unavailable, data.display())?;
        Ok(ground)
    }

    /// The comparison's name.
    pub(crate) fn comparison(&self) -> &'static str {
        self.comparison
    }

    /// Prints an error and goes on: one line that fails leaves the others standing.
    pub(crate) fn attempt(&self, line: Result<()>) {
        if let Err(error) = line {
            eprintln!("compare: error: {error:#}");
            self.failures.set(self.failures.get() + 1);
        }
    }

    /// An error if any attempt failed.
    pub(crate) fn verdict(&self) -> Result<()> {
        match self.failures.get() {
            0 => Ok(()),
            failures => Err(Error::new(
                ErrorKind::Unavailable,
                format!("{}: {failures} without a figure", self.comparison),
            )),
        }
    }

    /// This many rows, scaled.
    pub(crate) fn scaled(&self, rows: u64) -> u64 {
        ((rows as f64 * self.scale) as u64).max(1_000)
    }

    /// The folder of the data.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The file for what a contender writes to standard error.
    pub(crate) fn log(&self, contender: &str) -> PathBuf {
        self.folder.join(format!("{}_{contender}.log", self.comparison))
    }

    /// A rival's script.
    pub(crate) fn script(name: &str) -> PathBuf {
        Path::new(SCRIPTS).join(name)
    }

    /// The Python in which the rivals are installed; installs them if they are not.
    pub(crate) fn python(&self) -> Result<&Path> {
        if let Some(python) = self.python.get() {
            return Ok(python);
        }
        let folder = self.folder.join("rivals");
        let python = folder.join("bin/python");
        let installed = folder.join("installed");
        let wanted = RIVALS.join("\n");
        if fs::read_to_string(&installed).ok().as_deref() != Some(&wanted) {
            println!("note: installing {} (once, minutes)", RIVALS.join(", "));
            succeed(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
            succeed(Command::new(&python).args(["-m", "pip", "install", "-q"]).args(RIVALS))?;
            fs::write(&installed, wanted).context(ErrorKind::Unavailable, installed.display())?;
        }
        Ok(self.python.get_or_init(|| python))
    }
}

/// The path of this very program.
pub(crate) fn this_program() -> Result<PathBuf> {
    std::env::current_exe().context(ErrorKind::Unavailable, "the path of this program")
}

fn succeed(command: &mut Command) -> Result<()> {
    let program = command.get_program().display().to_string();
    let status = command.status().context(ErrorKind::Unavailable, &program)?;
    if !status.success() {
        return Err(Error::new(ErrorKind::Unavailable, format!("{program}: {status}")));
    }
    Ok(())
}
