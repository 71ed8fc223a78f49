//! The libraries of a dynamic executable, found as its loader would find them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use kaizen_core::{Bytes, Error, ErrorKind, Result};

use crate::elf::{Elf, Machine};
use crate::files::{self, MAX_FILE_BYTES};
use crate::ld_cache;

/// At most this many libraries.
const MAX_LIBRARIES: usize = 1_000;
/// At most this many bytes of the loader's cache.
const MAX_CACHE_BYTES: u64 = 64 << 20;

/// What a dynamic executable needs beside itself.
#[derive(Debug, Default)]
pub(crate) struct Libraries {
    /// Interpreter and libraries by their absolute path in the image.
    pub(crate) files: BTreeMap<String, Bytes>,
    /// Folders where the loader finds libraries on this machine but would not in the image, which
    /// has no cache: they go into `LD_LIBRARY_PATH`.
    pub(crate) extra_folders: Vec<String>,
}

/// One loaded file: where it is, and where it will be.
struct Loaded {
    elf: Elf,
    here: PathBuf,
    there: String,
    needed_by: Option<usize>,
}

/// A place where a library may be.
struct Place {
    here: PathBuf,
    there: String,
    /// Whether only the cache leads there.
    cached: bool,
}

/// Finds the interpreter and, step by step, all libraries of an executable that will be at `there`
/// in the image. A static executable has none; a library that is missing is
/// [`ErrorKind::NotFound`].
pub(crate) fn resolve(executable: Elf, here: &Path, there: &str) -> Result<Libraries> {
    let Some(interpreter) = executable.interpreter.clone() else {
        return Ok(Libraries::default());
    };
    let mut search = Search::new(executable.machine, &interpreter);
    search.add_interpreter(&interpreter)?;
    search.loaded.push(Loaded {
        elf: executable,
        here: here.to_owned(),
        there: there.to_owned(),
        needed_by: None,
    });
    let mut next = 0;
    while next < search.loaded.len() {
        for name in search.loaded[next].elf.needed.clone() {
            search.load(&name, next)?;
        }
        if search.loaded.len() > MAX_LIBRARIES {
            let message = format!("{there}: more than {MAX_LIBRARIES} libraries");
            return Err(Error::new(ErrorKind::Limit, message));
        }
        next += 1;
    }
    Ok(search.found)
}

struct Search {
    machine: Machine,
    is_musl: bool,
    cache: Bytes,
    /// Names that are loaded already.
    names: BTreeSet<String>,
    loaded: Vec<Loaded>,
    found: Libraries,
}

impl Search {
    fn new(machine: Machine, interpreter: &str) -> Self {
        let is_musl = interpreter.rsplit('/').next().is_some_and(|n| n.starts_with("ld-musl-"));
        let cache = if is_musl {
            Bytes::new()
        } else {
            files::read(Path::new("/etc/ld.so.cache"), MAX_CACHE_BYTES).unwrap_or_default()
        };
        let (names, loaded) = (BTreeSet::new(), Vec::new());
        Self { machine, is_musl, cache, names, loaded, found: Libraries::default() }
    }

    fn add_interpreter(&mut self, path: &str) -> Result<()> {
        let what = format!("interpreter {path}");
        if !path.starts_with('/') || normal(path) != path {
            return Err(Error::invalid(format!("{what}: not a plain absolute path")));
        }
        let bytes = files::read(Path::new(path), MAX_FILE_BYTES)?;
        let elf = Elf::parse(&bytes, &what)?;
        if elf.machine != self.machine {
            return Err(Error::invalid(format!("{what}: for another machine")));
        }
        self.names.extend(elf.soname);
        self.names.extend(path.rsplit('/').next().map(str::to_owned));
        self.found.files.insert(path.to_owned(), bytes);
        Ok(())
    }

    /// Loads a library, unless it is there already.
    fn load(&mut self, name: &str, needed_by: usize) -> Result<()> {
        // musl's loader is its C library.
        let built_in = self.is_musl && name.starts_with("libc.");
        if built_in || !self.names.insert(name.to_owned()) {
            return Ok(());
        }
        let mut passed_over = String::new();
        for place in self.places(name, needed_by) {
            let Ok(bytes) = files::read(&place.here, MAX_FILE_BYTES) else { continue };
            match Elf::parse(&bytes, name) {
                Ok(elf) if elf.machine == self.machine => {
                    return self.add(elf, bytes, place, needed_by);
                }
                _ => passed_over = format!("; {} is for another machine", place.here.display()),
            }
        }
        let by = self.loaded[needed_by].here.display();
        let message = format!("library {name}, needed by {by}: not found{passed_over}");
        Err(Error::not_found(message))
    }

    fn add(&mut self, elf: Elf, bytes: Bytes, place: Place, needed_by: usize) -> Result<()> {
        self.names.extend(elf.soname.clone());
        let other = self.found.files.insert(place.there.clone(), bytes.clone());
        if other.is_some_and(|other| other != bytes) {
            let there = &place.there;
            return Err(Error::invalid(format!("{there}: two libraries would lie there")));
        }
        let folder = folder(&place.there).to_owned();
        if place.cached
            && !self.usual_folders().contains(&folder)
            && !self.found.extra_folders.contains(&folder)
        {
            self.found.extra_folders.push(folder);
        }
        let Place { here, there, .. } = place;
        self.loaded.push(Loaded { elf, here, there, needed_by: Some(needed_by) });
        Ok(())
    }

    /// Where the loader looks for a library, in its order: see ld.so(8). `LD_LIBRARY_PATH` is left
    /// out, because it is not a property of the executable.
    fn places(&self, name: &str, needed_by: usize) -> Vec<Place> {
        let here = |path: String, cached| Place { here: path.clone().into(), there: path, cached };
        if name.contains('/') {
            let there = normal(name);
            return if there == name { vec![here(there, false)] } else { Vec::new() };
        }
        let asking = &self.loaded[needed_by];
        let mut places = Vec::new();
        if asking.elf.runpath.is_empty() {
            let mut next = Some(asking);
            while let Some(loaded) = next {
                places.extend(loaded.elf.rpath.iter().filter_map(|f| loaded.expand(f, name)));
                next = loaded.needed_by.map(|index| &self.loaded[index]);
            }
        }
        places.extend(asking.elf.runpath.iter().filter_map(|f| asking.expand(f, name)));
        places.extend(ld_cache::paths(&self.cache, name).into_iter().map(|path| here(path, true)));
        let usual = self.usual_folders();
        places.extend(usual.into_iter().map(|folder| here(format!("{folder}/{name}"), false)));
        places
    }

    fn usual_folders(&self) -> Vec<String> {
        let multiarch = self.machine.multiarch();
        let mut folders = vec![format!("/lib/{multiarch}"), format!("/usr/lib/{multiarch}")];
        folders.extend(["/lib64", "/usr/lib64", "/lib", "/usr/lib"].map(str::to_owned));
        if self.is_musl {
            folders.push("/usr/local/lib".to_owned());
        }
        folders
    }
}

impl Loaded {
    /// A folder of a search path, here and in the image. `$ORIGIN` is the folder of the file that
    /// names it, which differs between the two; other variables and relative folders are passed
    /// over.
    fn expand(&self, entry: &str, name: &str) -> Option<Place> {
        let entry = entry.replace("${ORIGIN}", "$ORIGIN");
        let (origin_here, origin_there) = (self.here.parent()?.to_str()?, folder(&self.there));
        let in_folder = |origin: &str| {
            let path = entry.replace("$ORIGIN", origin);
            (path.starts_with('/') && !path.contains('$')).then(|| format!("{path}/{name}"))
        };
        let here = PathBuf::from(in_folder(origin_here)?);
        Some(Place { here, there: normal(&in_folder(origin_there)?), cached: false })
    }
}

/// The folder of an absolute path.
fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// An absolute path without `.`, `..` and empty parts.
fn normal(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_plain() {
        assert_eq!(normal("/app/../lib//x/./y"), "/lib/x/y");
        assert_eq!(normal("/.."), "/");
        assert_eq!(folder("/lib/x"), "/lib");
        assert_eq!(folder("/x"), "");
    }

    #[test]
    fn the_libraries_of_the_test_itself_are_found() {
        let path = std::env::current_exe().unwrap();
        let elf = Elf::parse(&std::fs::read(&path).unwrap(), "test").unwrap();
        let (interpreter, needed) = (elf.interpreter.clone(), elf.needed.clone());
        let found = resolve(elf, &path, "/app/test").unwrap();
        if let Some(interpreter) = interpreter {
            assert!(found.files.contains_key(&interpreter));
        }
        for name in needed {
            let end = format!("/{name}");
            assert!(found.files.keys().any(|path| path.ends_with(&end)), "{name}");
        }
    }

    /// A library that only the cache knows gets its folder into the search path of the image.
    #[test]
    fn a_folder_that_only_the_cache_knows_is_noted() {
        let path = std::env::current_exe().unwrap();
        let elf = Elf::parse(&std::fs::read(&path).unwrap(), "test").unwrap();
        let Some(interpreter) = elf.interpreter.clone() else {
            return kaizen_testkit::judge::absent("the test is static");
        };
        let found = resolve(elf.clone(), &path, "/app/test").unwrap();
        assert!(found.extra_folders.is_empty(), "{:?}", found.extra_folders);

        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("libkaizen.so.1");
        std::fs::write(&library, found.files.values().next().unwrap()).unwrap();
        let library = library.to_str().unwrap();
        let mut search = Search::new(elf.machine, &interpreter);
        search.cache = ld_cache::tests::one_entry("libkaizen.so.1", library, 0).into();
        search.loaded.push(Loaded {
            elf,
            here: path,
            there: "/app/test".to_owned(),
            needed_by: None,
        });
        search.load("libkaizen.so.1", 0).unwrap();
        assert!(search.found.files.contains_key(library));
        assert_eq!(search.found.extra_folders, [folder.path().to_str().unwrap()]);
    }
}
