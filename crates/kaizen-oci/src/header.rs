//! The headers of a registry that have a grammar of their own. They are a stranger's words: each
//! parser takes any text, and gives what it understood or why not.

use std::time::Duration;

use jiff::fmt::rfc2822;
use kaizen_core::{Error, Result, Timestamp};

/// At most this many bytes are read of one header.
pub(crate) const MAX_BYTES: usize = 16 << 10;
/// At most this many challenges in one answer.
pub(crate) const MAX_CHALLENGES: usize = 16;
/// At most this many parameters in one challenge.
const MAX_PARAMETERS: usize = 16;

/// One way to log in that a registry offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// The scheme, in lower case.
    pub(crate) scheme: String,
    /// Names, in lower case, and values, in order.
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The first parameter of this name.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Reads a `WWW-Authenticate` header (RFC 9110, section 11.6.1). One header may hold several
/// challenges, and their parameters are parted by commas as they are.
pub(crate) fn challenges(header: &str) -> Result<Vec<Challenge>> {
    // Neither is shown: an address in it may hold what opens it.
    let bad = |why: &str| Error::invalid(format!("challenge of {} bytes: {why}", header.len()));
    if header.len() > MAX_BYTES {
        return Err(bad("too long"));
    }
    let mut found: Vec<Challenge> = Vec::new();
    let mut rest = Rest(header);
    loop {
        rest.skip(|c| c == ' ' || c == '\t' || c == ',');
        if rest.0.is_empty() {
            return Ok(found);
        }
        let word = rest.take(is_token);
        if word.is_empty() {
            return Err(bad("no scheme or parameter where one must be"));
        }
        let parted = rest.skip(|c| c == ' ' || c == '\t');
        let Some(challenge) = found.last_mut().filter(|_| rest.0.starts_with('=')) else {
            // A scheme: after it comes a space, a comma or the end.
            if !(parted || rest.0.is_empty() || rest.0.starts_with(',')) {
                return Err(bad("no space after a scheme"));
            }
            if found.len() == MAX_CHALLENGES {
                return Err(bad("too many challenges"));
            }
            let scheme = word.to_ascii_lowercase();
            found.push(Challenge { scheme, parameters: Vec::new() });
            skip_token68(&mut rest);
            continue;
        };
        rest.0 = &rest.0[1..];
        rest.skip(|c| c == ' ' || c == '\t');
        let value = rest.value().ok_or_else(|| bad("a value that does not end"))?;
        if challenge.parameters.len() == MAX_PARAMETERS {
            return Err(bad("too many parameters"));
        }
        challenge.parameters.push((word.to_ascii_lowercase(), value));
    }
}

/// Some schemes have one bare value in place of parameters; none of those is of use here.
fn skip_token68(rest: &mut Rest<'_>) {
    let mut ahead = Rest(rest.0);
    let is_68 = |c: char| c.is_ascii_alphanumeric() || "-._~+/".contains(c);
    if ahead.take(is_68).is_empty() {
        return;
    }
    ahead.skip(|c| c == '=');
    ahead.skip(|c| c == ' ' || c == '\t');
    if ahead.0.is_empty() || ahead.0.starts_with(',') {
        *rest = ahead;
    }
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

/// What of a header is still to be read.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn take(&mut self, of: impl Fn(char) -> bool) -> &'a str {
        let end = self.0.find(|c| !of(c)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken
    }

    fn skip(&mut self, of: impl Fn(char) -> bool) -> bool {
        !self.take(of).is_empty()
    }

    /// A token or a quoted string.
    fn value(&mut self) -> Option<String> {
        let Some(quoted) = self.0.strip_prefix('"') else {
            return Some(self.take(|c| c != ',' && c != ' ' && c != '\t' && c != '"').to_owned());
        };
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        while let Some((at, c)) = characters.next() {
            match c {
                '"' => {
                    self.0 = &quoted[at + 1..];
                    return Some(value);
                }
                '\\' => value.push(characters.next()?.1),
                c => value.push(c),
            }
        }
        None
    }
}

/// The target of the first link with `rel="next"` in a `Link` header (RFC 8288), as it was written.
pub(crate) fn next_link(header: &str) -> Result<Option<&str>> {
    let bad = |why: &str| Error::invalid(format!("link of {} bytes: {why}", header.len()));
    if header.len() > MAX_BYTES {
        return Err(bad("too long"));
    }
    let mut rest = Rest(header);
    loop {
        rest.skip(|c| c == ' ' || c == '\t' || c == ',');
        if rest.0.is_empty() {
            return Ok(None);
        }
        let after = rest.0.strip_prefix('<').ok_or_else(|| bad("no `<`"))?;
        let (target, after) = after.split_once('>').ok_or_else(|| bad("no `>`"))?;
        rest.0 = after;
        let mut next = false;
        loop {
            rest.skip(|c| c == ' ' || c == '\t');
            let Some(after) = rest.0.strip_prefix(';') else { break };
            rest.0 = after;
            rest.skip(|c| c == ' ' || c == '\t');
            let name = rest.take(is_token);
            rest.skip(|c| c == ' ' || c == '\t');
            let Some(after) = rest.0.strip_prefix('=') else { continue };
            rest.0 = after;
            rest.skip(|c| c == ' ' || c == '\t');
            let value = match rest.0.starts_with('"') {
                true => rest.value().ok_or_else(|| bad("a value that does not end"))?,
                false => rest.take(|c| !matches!(c, ',' | ';' | ' ' | '\t')).to_owned(),
            };
            let relations = value.split_ascii_whitespace();
            next |= name.eq_ignore_ascii_case("rel")
                && relations.into_iter().any(|one| one.eq_ignore_ascii_case("next"));
        }
        if next {
            return Ok(Some(target));
        }
        if !(rest.0.is_empty() || rest.0.starts_with(',')) {
            return Err(bad("more than a link"));
        }
    }
}

/// How long a `Retry-After` header asks to wait: seconds, or until a date. Of what is neither,
/// nothing.
pub(crate) fn retry_after(header: &str, now: Timestamp) -> Option<Duration> {
    let header = header.trim();
    if !header.is_empty() && header.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Duration::from_secs(header.parse().unwrap_or(u64::MAX)));
    }
    let at = rfc2822::parse(header).ok()?.timestamp().as_microsecond();
    Some(Duration::from_micros(u64::try_from(at.saturating_sub(now.micros())).unwrap_or(0)))
}

/// The first and last byte of a `Range` header as upload sessions give it: `0-1023`, and by some
/// `bytes=0-1023`.
pub(crate) fn upload_range(header: &str) -> Option<(u64, u64)> {
    let header = header.trim();
    let (first, last) = header.strip_prefix("bytes=").unwrap_or(header).split_once('-')?;
    let (first, last) = (digits(first)?, digits(last)?);
    (first <= last).then_some((first, last))
}

/// First and last byte and the whole size of a `Content-Range` header: `bytes 5-9/10`; the size may
/// be `*`.
pub(crate) fn content_range(header: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, size) = header.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (digits(first)?, digits(last)?);
    let size = match size {
        "*" => None,
        size => Some(digits(size)?),
    };
    (first <= last && size.is_none_or(|size| last < size)).then_some((first, last, size))
}

/// A number in plain digits, without a sign.
pub(crate) fn digits(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(header: &str) -> String {
        let show = |one: &Challenge| format!("{} {:?}", one.scheme, one.parameters);
        challenges(header).unwrap().iter().map(show).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let docker = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let bearer = &challenges(docker).unwrap()[0];
        assert_eq!(bearer.scheme, "bearer");
        assert_eq!(bearer.parameter("realm"), Some("https://auth.docker.io/token"));
        assert_eq!(bearer.parameter("scope"), Some("repository:a/b:pull,push"));
        assert_eq!(read("Basic realm=\"a \\\"b\\\"\""), r#"basic [("realm", "a \"b\"")]"#);
        let two = "Negotiate, Basic realm=x , BEARER Realm = \"y\", charset=\"UTF-8\"";
        let expected = r#"negotiate []; basic [("realm", "x")]; bearer [("realm", "y"), ("charset", "UTF-8")]"#;
        assert_eq!(read(two), expected);
        assert_eq!(read("Negotiate YWJj==, Basic"), "negotiate []; basic []");
        assert_eq!(read(""), "");
    }

    #[test]
    fn challenges_without_bound_or_end_are_refused() {
        for bad in ["Bearer realm=\"x", "=", "Bearer realm=\"x\\", "\"", "Bea(rer"] {
            assert!(challenges(bad).is_err(), "{bad}");
        }
        assert!(challenges(&"a, ".repeat(MAX_CHALLENGES + 1)).is_err());
        assert!(challenges(&format!("a {}", "b=c,".repeat(MAX_PARAMETERS + 1))).is_err());
        assert!(challenges(&"x".repeat(MAX_BYTES + 1)).is_err());
    }

    #[test]
    fn links_are_read_as_registries_write_them() {
        let one = "</v2/a/tags/list?last=b&n=2>; rel=\"next\"";
        assert_eq!(next_link(one).unwrap(), Some("/v2/a/tags/list?last=b&n=2"));
        let second = "<x>; rel=prev; title=\"a, b\", <y,z>; rel=\"last Next\"";
        assert_eq!(next_link(second).unwrap(), Some("y,z"));
        assert_eq!(next_link("<x>").unwrap(), None);
        for bad in ["x", "<x", "<x>; rel=\"next", "<x> y"] {
            assert!(next_link(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_wait_is_seconds_or_a_date() {
        let now: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        assert_eq!(retry_after(" 7 ", now), Some(Duration::from_secs(7)));
        let date = "Mon, 23 Nov 2026 10:00:30 GMT";
        assert_eq!(retry_after(date, now), Some(Duration::from_secs(30)));
        assert_eq!(retry_after(date, now.plus_seconds(60)), Some(Duration::ZERO));
        assert_eq!(retry_after("99999999999999999999", now), Some(Duration::from_secs(u64::MAX)));
        assert_eq!(retry_after("soon", now), None);
        assert_eq!(retry_after("-1", now), None);
    }

    #[test]
    fn ranges_are_read_or_not_at_all() {
        assert_eq!(upload_range("0-9"), Some((0, 9)));
        assert_eq!(upload_range("bytes=0-9"), Some((0, 9)));
        assert_eq!(content_range("bytes 5-9/10"), Some((5, 9, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, 9, None)));
        for bad in ["", "9-0", "-1", "1-", "+1-2", "0--1", "0-99999999999999999999999"] {
            assert_eq!(upload_range(bad), None, "{bad}");
        }
        for bad in ["bytes 5-9/9", "bytes 9-5/10", "5-9/10", "bytes */10", "bytes 1-2/"] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }

    proptest! {
        /// No text makes a parser panic, and what is understood is within its bounds.
        #[test]
        fn any_text_is_read_or_refused(
            text in "([ ,;=<>\"\\\\]|Bearer|Basic|realm|rel|next|bytes|[0-9]{1,3}|-|/|\\PC){0,40}",
        ) {
            if let Ok(found) = challenges(&text) {
                prop_assert!(found.len() <= MAX_CHALLENGES);
                prop_assert!(found.iter().all(|one| one.parameters.len() <= MAX_PARAMETERS));
            }
            if let Ok(Some(target)) = next_link(&text) {
                prop_assert!(text.contains(target));
            }
            let _ = retry_after(&text, Timestamp::from_micros(0));
            if let Some((first, last)) = upload_range(&text) {
                prop_assert!(first <= last);
            }
            if let Some((first, last, size)) = content_range(&text) {
                prop_assert!(first <= last && size.is_none_or(|size| last < size));
            }
        }

        /// Any parameters, written as quoted strings, come back.
        #[test]
        fn what_is_quoted_comes_back(
            values in proptest::collection::vec("[ -~]{0,20}", 1..MAX_PARAMETERS),
        ) {
            let quoted = |value: &String| value.replace('\\', "\\\\").replace('"', "\\\"");
            let parts: Vec<String> =
                values.iter().map(|value| format!("p=\"{}\"", quoted(value))).collect();
            let header = format!("Bearer {}", parts.join(", "));
            let found = challenges(&header).unwrap();
            prop_assert_eq!(found.len(), 1);
            let back: Vec<&String> = found[0].parameters.iter().map(|(_, value)| value).collect();
            prop_assert_eq!(back, values.iter().collect::<Vec<_>>());
        }
    }
}
