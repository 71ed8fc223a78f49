//! What an ELF file says of itself: its machine, its interpreter and the libraries that it needs.

use kaizen_core::{Context, Error, ErrorKind, Result};
use object::Endianness;
use object::elf::{self, FileHeader64, ProgramHeader64};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};

/// The machine that an executable is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Machine {
    X86_64,
    Aarch64,
}

impl Machine {
    /// The machine's name in an image's configuration.
    pub(crate) fn architecture(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// The machine's name in the folders of libraries on Debian and its kin.
    pub(crate) fn multiarch(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-linux-gnu",
            Self::Aarch64 => "aarch64-linux-gnu",
        }
    }
}

/// An executable or a shared library for 64-bit Linux.
#[derive(Clone, Debug)]
pub(crate) struct Elf {
    pub(crate) machine: Machine,
    /// The program that loads it, for a dynamic executable.
    pub(crate) interpreter: Option<String>,
    /// The libraries that it needs, by name, in order.
    pub(crate) needed: Vec<String>,
    /// Its own name as a library.
    pub(crate) soname: Option<String>,
    /// Where to look for libraries, and for those that they need; void beside a `runpath`.
    pub(crate) rpath: Vec<String>,
    /// Where to look for the libraries that it needs itself.
    pub(crate) runpath: Vec<String>,
    /// Whether it starts by itself.
    pub(crate) executable: bool,
}

type Segments<'a> = &'a [ProgramHeader64<Endianness>];

impl Elf {
    /// Reads the headers of an ELF file; `what` names it in errors.
    pub(crate) fn parse(data: &[u8], what: &str) -> Result<Self> {
        let bad = || format!("{what}: not an ELF file for 64-bit Linux");
        let header =
            FileHeader64::<Endianness>::parse(data).context(ErrorKind::Unsupported, bad())?;
        let endian = header.endian().context(ErrorKind::Unsupported, bad())?;
        let machine = match header.e_machine(endian) {
            elf::EM_X86_64 => Machine::X86_64,
            elf::EM_AARCH64 => Machine::Aarch64,
            other => {
                let message = format!("{what}: an ELF file for machine {other:?}");
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
        };
        let broken = || format!("{what}: broken ELF headers");
        let segments =
            header.program_headers(endian, data).context(ErrorKind::Corrupt, broken())?;
        let mut file = Self {
            machine,
            interpreter: interpreter(segments, endian, data).context_of(&broken)?,
            needed: Vec::new(),
            soname: None,
            rpath: Vec::new(),
            runpath: Vec::new(),
            executable: false,
        };
        let is_pie = file.read_dynamic(segments, endian, data).context_of(&broken)?;
        let starts = header.e_type(endian) == elf::ET_EXEC || file.interpreter.is_some() || is_pie;
        file.executable = starts && header.e_entry(endian) != 0;
        Ok(file)
    }

    /// Reads the dynamic section, if there is one; says whether it marks an executable.
    fn read_dynamic(
        &mut self,
        segments: Segments<'_>,
        endian: Endianness,
        data: &[u8],
    ) -> Option<bool> {
        let mut entries: &[elf::Dyn64<Endianness>] = &[];
        for segment in segments {
            if let Some(found) = segment.dynamic(endian, data).ok()? {
                entries = found;
            }
        }
        let entries = || {
            entries
                .iter()
                .map(|entry| (entry.d_tag(endian), entry.d_val(endian)))
                .take_while(|(tag, _)| *tag != elf::DT_NULL)
        };
        let value = |tag| entries().find(|entry| entry.0 == tag).map(|entry| entry.1);
        let strings = match (value(elf::DT_STRTAB), value(elf::DT_STRSZ)) {
            (Some(address), Some(size)) => loaded(segments, endian, data, address, size)?,
            _ => &[],
        };
        let mut is_pie = false;
        for (tag, value) in entries() {
            match tag {
                elf::DT_NEEDED => self.needed.push(string(strings, value)?),
                elf::DT_SONAME => self.soname = Some(string(strings, value)?),
                elf::DT_RPATH => self.rpath = folders(&string(strings, value)?),
                elf::DT_RUNPATH => self.runpath = folders(&string(strings, value)?),
                elf::DT_FLAGS_1 => is_pie = value & elf::DF_1_PIE.0 != 0,
                _ => {}
            }
        }
        if !self.runpath.is_empty() {
            self.rpath.clear();
        }
        Some(is_pie)
    }
}

trait ContextOf<T> {
    fn context_of(self, message: &dyn Fn() -> String) -> Result<T>;
}

impl<T> ContextOf<T> for Option<T> {
    fn context_of(self, message: &dyn Fn() -> String) -> Result<T> {
        self.ok_or_else(|| Error::corrupt(message()))
    }
}

fn interpreter(segments: Segments<'_>, endian: Endianness, data: &[u8]) -> Option<Option<String>> {
    for segment in segments {
        if let Some(path) = segment.interpreter(endian, data).ok()? {
            return Some(Some(String::from_utf8(path.to_vec()).ok()?));
        }
    }
    Some(None)
}

/// The bytes that the loader would put at this address.
fn loaded<'a>(
    segments: Segments<'_>,
    endian: Endianness,
    data: &'a [u8],
    address: u64,
    size: u64,
) -> Option<&'a [u8]> {
    let mut segments = segments.iter().filter(|s| s.p_type(endian) == elf::PT_LOAD);
    segments.find_map(|segment| segment.data_range(endian, data, address, size).ok().flatten())
}

/// The text at this offset, up to its zero byte.
fn string(strings: &[u8], offset: u64) -> Option<String> {
    let tail = strings.get(usize::try_from(offset).ok()?..)?;
    let end = tail.iter().position(|byte| *byte == 0)?;
    String::from_utf8(tail[..end].to_vec()).ok()
}

fn folders(list: &str) -> Vec<String> {
    list.split(':').filter(|folder| !folder.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_test_itself_is_an_executable() {
        let path = std::env::current_exe().unwrap();
        let file = Elf::parse(&std::fs::read(&path).unwrap(), "test").unwrap();
        assert!(file.executable);
        assert_eq!(file.interpreter.is_some(), !file.needed.is_empty());
    }

    #[test]
    fn another_kind_of_file_is_named() {
        let error = Elf::parse(b"#!/bin/sh\n", "run.sh").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("run.sh"), "{error}");
    }

    proptest! {
        /// A file that was cut or changed anywhere in its headers gives an answer or an error.
        #[test]
        fn damage_does_no_harm(at in 0usize..4096, byte: u8, length in 0usize..1 << 16) {
            let mut data = std::fs::read(std::env::current_exe().unwrap()).unwrap();
            data[at] = byte;
            let _ = Elf::parse(&data, "damaged");
            data.truncate(length);
            let _ = Elf::parse(&data, "damaged");
        }
    }
}
