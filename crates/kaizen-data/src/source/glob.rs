//! Patterns of paths.

/// A pattern of paths: `*` and `?` stand for any text and any one character of a name, `**` as a
/// whole name for any number of names.
#[derive(Clone, Debug)]
pub(crate) struct Glob(Vec<String>);

impl Glob {
    /// Whether a text has a character that makes it a pattern.
    pub(crate) fn is_glob(text: &str) -> bool {
        text.contains(['*', '?'])
    }

    /// The folder before the first name that is a pattern, and the pattern from there on.
    pub(crate) fn split(text: &str) -> Option<(&str, Self)> {
        let first = text.find(['*', '?'])?;
        let start = text[..first].rfind('/').map_or(0, |slash| slash + 1);
        let names = text[start..].split('/').filter(|name| !name.is_empty() && *name != ".");
        Some((&text[..start], Self(names.map(str::to_owned).collect())))
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
                for (now, then) in reached.iter().zip(&mut next) {
                    any |= *now;
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
        let (base, glob) = Glob::split("**").unwrap();
        assert_eq!(base, "");
        assert!(glob.matches("a/b"));
        assert!(Glob::split("/a/b.parquet").is_none() && !Glob::is_glob("a[0].parquet"));
    }
}
