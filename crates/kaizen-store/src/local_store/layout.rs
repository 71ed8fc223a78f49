//! The directory as it lies there, for `fsck`.

use std::fs;
use std::path::Path;

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
        self.run(move |_| Ok(files::read_at_most(&path, most)?.map(Bytes::from))).await
    }

    fn keeps(&self, name: &str) -> bool {
        matches!(name, "index.json.lock" | super::REMOVAL_LOCK)
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
