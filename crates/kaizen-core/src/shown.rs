//! Text of others, fit to be shown to people.

/// The text on one line, for a terminal, a message or a page.
///
/// What is in a log or a store was written by anybody. Line ends and other control characters
/// become spaces, so that no text drives the terminal that shows it. Marks that turn the direction
/// of reading, and characters that nobody sees, are left out: else `eda` could read `ade`. Joiners,
/// which some scripts and emoji need, stay.
///
/// ```
/// use kaizen_core::one_line;
///
/// assert_eq!(one_line("a\u{1b}[2J\nb"), "a [2J b");
/// assert_eq!(one_line("by \u{202e}ada"), "by ada");
/// ```
pub fn one_line(text: &str) -> String {
    let seen = text.chars().filter(|c| !is_unseen(*c));
    seen.map(|c| if is_break(c) { ' ' } else { c }).collect()
}

fn is_break(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

/// Format characters (the category Cf of Unicode), but for the two joiners.
fn is_unseen(c: char) -> bool {
    matches!(c,
        '\u{ad}'
        | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{8e2}'
        | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
        | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_drives_no_terminal_and_is_read_as_it_is_written() {
        assert_eq!(one_line("a\tb\r\nc\u{9b}d\u{2028}e"), "a b  c d e");
        assert_eq!(one_line("\u{feff}x\u{202e}\u{2066}y\u{200b}\u{e0041}"), "xy");
        let kept = "é, 改善, می\u{200c}خواهم, 👩\u{200d}🔬";
        assert_eq!(one_line(kept), kept);
    }
}
