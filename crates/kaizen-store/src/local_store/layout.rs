//! The directory as it lies there, for `fsck`.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use kaizen_core::{Bytes, Error, ErrorKind, Result, async_trait};

use super::{Inner, LocalStore};
use crate::files;
use crate::fsck::Layout;

/// How deep folders may lie in one another. A layout has two levels.
const MAX_DEPTH: u32 = 16;

#[async_trait]
impl Layout for LocalStore {
    async fn files(&self) -> Result<Vec<(String, u64)>> {
        self.run(|inner| {
            let mut found = Vec::new();
            inner.walk(&inner.dir, "", 0, &mut found)?;
            Ok(found)
        })
        .await
    }

    async fn read_file(&self, name: &str, most: u64) -> Result<Option<Bytes>> {
        if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(Error::invalid(format!("file `{name}`: not a name in a layout")));
        }
        let path = self.dir().join(name);
        self.run(move |_| read(&path, most)).await
    }

    fn keeps(&self, name: &str) -> bool {
        name == "index.json.lock"
    }

    fn is_unfinished(&self, name: &str) -> bool {
        files::is_draft(Path::new(name))
    }
}

impl Inner {
    fn walk(
        &self,
        dir: &Path,
        prefix: &str,
        depth: u32,
        found: &mut Vec<(String, u64)>,
    ) -> Result<()> {
        if depth > MAX_DEPTH {
            let message = format!("{}: folders lie too deep in one another", dir.display());
            return Err(Error::new(ErrorKind::Limit, message));
        }
        for path in files::list(dir)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let name = format!("{prefix}{name}");
            // A link is a file of its own, and is not followed.
            match fs::symlink_metadata(&path) {
                Ok(file) if file.is_dir() => {
                    self.walk(&path, &format!("{name}/"), depth + 1, found)?;
                }
                Ok(file) => found.push((name, file.len())),
                // Renamed or removed since it was listed.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(files::failed(&path, error)),
            }
        }
        Ok(())
    }
}

fn read(path: &PathBuf, most: u64) -> Result<Option<Bytes>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(files::failed(path, error)),
    };
    let mut bytes = Vec::new();
    let read = file.take(most.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|error| files::failed(path, error))?;
    if bytes.len() as u64 > most {
        let message = format!("{}: more than {most} bytes", path.display());
        return Err(Error::new(ErrorKind::Limit, message));
    }
    Ok(Some(bytes.into()))
}
