//! Patterns of paths.

/// A pattern of paths: `*` and `?` stand for any text and any one character of a name, `**` as a
/// whole name for any number of names. None of them stands for the `.` at the beginning of a name,
/// so that files which are not whole yet are not found.
#[derive(Clone, Debug)]
pub(crate) struct Glob(Vec<String>);

impl Glob {
    /// Whether a text has a character that makes it a pattern.
    pub(crate) fn is_glob(text: &str) -> bool {
        text.contains(['*', '?'])
    }

    /// A folder, and the pattern from there on: it begins with the first name that has a `*` or
    /// `?`, or with those of the form `key=value` right before it, which are columns.
    pub(crate) fn split(text: &str) -> Option<(&str, Self)> {
        let first = text.find(['*', '?'])?;
        let mut start = text[..first].rfind('/').map_or(0, |slash| slash + 1);
        while let Some(before) = text[..start].strip_suffix('/') {
            let name = before.rfind('/').map_or(0, |slash| slash + 1);
            if !before[name..].contains('=') {
                break;
            }
            start = name;
        }
        let names = text[start..].split('/').filter(|name| !name.is_empty() && *name != ".");
        Some((&text[..start], Self(names.map(str::to_owned).collect())))
    }

    /// The folders, from the root, in which everything lies that it stands for; empty if that is
    /// the root itself.
    pub(crate) fn folders(&self) -> String {
        let names = self.0.iter().take(self.0.len().saturating_sub(1));
        names.take_while(|name| !Self::is_glob(name)).cloned().collect::<Vec<_>>().join("/")
    }

    /// Whether it has a name that begins with `.`.
    pub(crate) fn names_hidden(&self) -> bool {
        self.0.iter().any(|name| name.starts_with('.'))
    }

    /// Whether it stands for this path, whose names `/` parts.
    pub(crate) fn matches(&self, path: &str) -> bool {
        let names: Vec<&str> = path.split('/').collect();
        // Which prefixes of the names the pattern so far stands for.
        let mut reached = vec![false; names.len() + 1];
        reached[0] = true;
        for pattern in &self.0 {
            let mut next = vec![false; names.len() + 1];
            if pattern == "**" {
                let mut any = false;
                for (place, then) in next.iter_mut().enumerate() {
                    let hidden = place > 0 && names[place - 1].starts_with('.');
                    any = (any && !hidden) || reached[place];
                    *then = any;
                }
            } else {
                for (place, name) in names.iter().enumerate() {
                    next[place + 1] = reached[place] && matches(pattern, name);
                }
            }
            reached = next;
        }
        reached[names.len()]
    }
}

/// Whether a pattern without `/` stands for a name.
fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let name: Vec<char> = name.chars().collect();
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for wanted in pattern.chars() {
        let mut next = vec![false; name.len() + 1];
        if wanted == '*' {
            let mut any = false;
            for (now, then) in reached.iter().zip(&mut next) {
                any |= *now;
                *then = any;
            }
        } else {
            for (place, found) in name.iter().enumerate() {
                next[place + 1] = reached[place] && (wanted == '?' || wanted == *found);
            }
        }
        reached = next;
    }
    reached[name.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stand_for_names_and_for_folders() {
        let (base, glob) = Glob::split("/data/year=*/**/part-?.parquet").unwrap();
        assert_eq!(base, "/data/");
        for path in ["year=1/part-a.parquet", "year=/x/y/part-ä.parquet"] {
            assert!(glob.matches(path), "{path}");
        }
        for path in ["year=1/part-ab.parquet", "part-a.parquet", "year=1/part-a.parquet/x", "x"] {
            assert!(!glob.matches(path), "{path}");
        }
        let (base, glob) = Glob::split("/data/a=b/c/year=2013/month=1/*.parquet").unwrap();
        assert_eq!((base, glob.folders().as_str()), ("/data/a=b/c/", "year=2013/month=1"));
        assert!(glob.matches("year=2013/month=1/x.parquet"));
        let (base, glob) = Glob::split("year=1/*").unwrap();
        assert_eq!((base, glob.folders().as_str()), ("", "year=1"));
        for (pattern, path, found) in [
            ("*", ".a.tmp", false),
            ("?a", ".a", false),
            (".*", ".a.tmp", true),
            ("**", ".git/x", false),
            ("**/x", "a/.git/x", false),
            ("**/.git/*", "a/.git/x", true),
            ("**", "a/.x", false),
        ] {
            let glob = Glob::split(pattern).unwrap().1;
            assert_eq!(glob.matches(path), found, "{pattern} and {path}");
            assert_eq!(glob.names_hidden(), pattern.contains('.'));
        }
        let (base, glob) = Glob::split("**").unwrap();
        assert_eq!(base, "");
        assert!(glob.matches("a/b"));
        assert!(Glob::split("/a/b.parquet").is_none() && !Glob::is_glob("a[0].parquet"));
    }
}
