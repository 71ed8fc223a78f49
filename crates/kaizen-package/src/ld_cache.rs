//! The cache of libraries that glibc's loader keeps in `/etc/ld.so.cache`.
//!
//! Format: `glibc-ld.so.cache1.1`, as glibc's `sysdeps/generic/dl-cache.h` has it: a header of 48
//! bytes, entries of 24 (flags, offset of the name, offset of the path, version, capabilities),
//! then the strings. Offsets count from the header. An older header may come before it.

const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const HEADER: usize = 48;
const ENTRY: usize = 24;

/// The paths that a cache holds for a library's name, in the loader's order. Libraries built for a
/// newer processor than the baseline are passed over, so that the image runs on any. A cache in
/// another format holds nothing.
pub(crate) fn paths(cache: &[u8], name: &str) -> Vec<String> {
    let Some(start) = cache.windows(MAGIC.len()).position(|window| window == MAGIC) else {
        return Vec::new();
    };
    let cache = &cache[start..];
    let entries = number(cache, MAGIC.len()).unwrap_or(0) as usize;
    let table = cache.get(HEADER..).unwrap_or_default();
    table
        .chunks_exact(ENTRY)
        .take(entries)
        .filter_map(|entry| {
            let baseline = entry[16..].iter().all(|byte| *byte == 0);
            let found = string(cache, number(entry, 4)?)?;
            (baseline && found == name).then_some(())?;
            string(cache, number(entry, 8)?).map(str::to_owned)
        })
        .collect()
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

fn string(cache: &[u8], at: u32) -> Option<&str> {
    let tail = cache.get(at as usize..)?;
    let end = tail.iter().position(|byte| *byte == 0)?;
    std::str::from_utf8(&tail[..end]).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A cache with one entry, before it some bytes of an older format.
    pub(crate) fn one_entry(name: &str, path: &str, capabilities: u64) -> Vec<u8> {
        let mut cache = b"ld.so-1.7.0\0".to_vec();
        let strings = format!("{name}\0{path}\0");
        cache.extend_from_slice(MAGIC);
        for word in [1, strings.len() as u32, 0, 0, 0, 0, 0] {
            cache.extend_from_slice(&word.to_ne_bytes());
        }
        let text = (HEADER + ENTRY) as u32;
        for word in [0x0303, text, text + name.len() as u32 + 1, 0] {
            cache.extend_from_slice(&word.to_ne_bytes());
        }
        cache.extend_from_slice(&capabilities.to_ne_bytes());
        cache.extend_from_slice(strings.as_bytes());
        cache
    }

    fn cache(capabilities: u64) -> Vec<u8> {
        one_entry("libx.so.1", "/opt/x/libx.so.1", capabilities)
    }

    #[test]
    fn a_name_is_found_unless_it_is_for_newer_processors() {
        assert_eq!(paths(&cache(0), "libx.so.1"), ["/opt/x/libx.so.1"]);
        assert!(paths(&cache(0), "libx.so").is_empty());
        assert!(paths(&cache(1 << 62), "libx.so.1").is_empty());
        assert!(paths(b"", "libx.so.1").is_empty());
    }

    #[test]
    fn the_cache_of_this_machine_holds_its_libraries() {
        let Ok(cache) = std::fs::read("/etc/ld.so.cache") else {
            return kaizen_testkit::judge::absent("there is no /etc/ld.so.cache");
        };
        for path in paths(&cache, "libc.so.6") {
            assert!(std::path::Path::new(&path).exists(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn damage_does_no_harm(at in 0usize..100, byte: u8, length in 0usize..110) {
            let mut cache = cache(0);
            cache[at] = byte;
            cache.truncate(length);
            paths(&cache, "libx.so.1");
        }
    }
}
