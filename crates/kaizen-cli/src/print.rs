//! Text for people, or JSON.

use std::fmt::Write;

use kaizen_core::{Context, ErrorKind, Result, Timestamp, one_line};
use serde::Serialize;

use crate::written;

/// How a piece of text stands out on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Strong,
    Quiet,
    Good,
    Bad,
    Warn,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Strong => "1",
            Self::Quiet => "2",
            Self::Good => "32",
            Self::Bad => "1;31",
            Self::Warn => "1;33",
        }
    }
}

/// A cell of a table: what it says, and how.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

/// Text from a store or a log, without what could drive the terminal that shows it.
pub(crate) fn cell(text: impl ToString, style: Style) -> Cell {
    Cell { text: one_line(&text.to_string()), style }
}

/// So many bytes, for people: to a tenth of a unit of 1,024.
pub(crate) fn bytes(count: u64) -> String {
    if count < 1_024 {
        return format!("{count} bytes");
    }
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut value, mut unit) = (count as f64 / 1_024.0, 0);
    // What would be shown as 1024.0 is 1.0 of the next unit.
    while value >= 1_023.95 && unit + 1 < units.len() {
        (value, unit) = (value / 1_024.0, unit + 1);
    }
    format!("{value:.1} {}", units[unit])
}

/// An instant to the second, for people; in UTC.
pub(crate) fn instant(at: Timestamp) -> String {
    let text = at.to_string();
    match (text.get(..10), text.get(11..19), text.as_bytes().get(10)) {
        (Some(date), Some(time), Some(b'T')) => format!("{date} {time}"),
        _ => text,
    }
}

/// Where output goes, and in which form.
pub(crate) struct Printer<'a> {
    out: &'a mut (dyn Write + Send),
    json: bool,
    color: bool,
}

impl<'a> Printer<'a> {
    pub(crate) fn new(out: &'a mut (dyn Write + Send), json: bool, color: bool) -> Self {
        Self { out, json, color }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    pub(crate) fn json<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        let text = serde_json::to_string_pretty(value).context(ErrorKind::Internal, "as JSON")?;
        written(writeln!(self.out, "{text}"))
    }

    /// A document: its lines, without what could drive a terminal.
    pub(crate) fn document(&mut self, text: &str) -> Result<()> {
        text.lines().try_for_each(|line| written(writeln!(self.out, "{}", one_line(line))))
    }

    /// A table under the names of its columns; a word in its place if it is empty.
    pub(crate) fn list(&mut self, names: &[&str], rows: Vec<Vec<Cell>>, none: &str) -> Result<()> {
        if rows.is_empty() {
            return self.line(&[cell(none, Style::Quiet)]);
        }
        let head = names.iter().map(|name| cell(name, Style::Quiet)).collect();
        self.table(&[vec![head], rows].concat())
    }

    pub(crate) fn line(&mut self, cells: &[Cell]) -> Result<()> {
        self.table(&[cells.to_vec()])
    }

    /// Rows whose cells stand below each other, two spaces apart; the last of a row may be long.
    pub(crate) fn table(&mut self, rows: &[Vec<Cell>]) -> Result<()> {
        let mut widths: Vec<usize> = Vec::new();
        for row in rows {
            for (at, cell) in row.iter().enumerate().take(row.len().saturating_sub(1)) {
                let width = cell.text.chars().count();
                match widths.get_mut(at) {
                    Some(known) => *known = width.max(*known),
                    None => widths.push(width),
                }
            }
        }
        for row in rows {
            let mut line = String::new();
            for (at, cell) in row.iter().enumerate() {
                line.push_str(&self.styled(cell));
                if at + 1 < row.len() {
                    let width = widths.get(at).copied().unwrap_or(0);
                    let gap = width.saturating_sub(cell.text.chars().count()) + 2;
                    line.extend(std::iter::repeat_n(' ', gap));
                }
            }
            written(writeln!(self.out, "{}", line.trim_end()))?;
        }
        Ok(())
    }

    fn styled(&self, cell: &Cell) -> String {
        match (self.color && !cell.text.is_empty(), cell.style) {
            (false, _) | (_, Style::Plain) => cell.text.clone(),
            (true, style) => format!("\u{1b}[{}m{}\u{1b}[0m", style.code(), cell.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_stand_below_each_other_and_drive_no_terminal() {
        let mut out = String::new();
        let rows = [
            vec![cell("é", Style::Good), cell("b\u{1b}[2J\n", Style::Plain)],
            vec![cell("long", Style::Plain), cell("c", Style::Plain)],
        ];
        Printer::new(&mut out, false, false).table(&rows).unwrap();
        assert_eq!(out, "é     b [2J\nlong  c\n");
        let mut out = String::new();
        let rows = vec![vec![cell("by \u{202e}ada", Style::Plain)]];
        Printer::new(&mut out, false, false).list(&["who"], rows, "nobody").unwrap();
        Printer::new(&mut out, false, false).list(&["who"], vec![], "nobody").unwrap();
        Printer::new(&mut out, false, false).document("a\u{1b}[2J\nb\n").unwrap();
        assert_eq!(out, "who\nby ada\nnobody\na [2J\nb\n");
        let sizes = [0, 1_023, 1_024, 1_048_575, 1 << 30, u64::MAX].map(bytes);
        assert_eq!(sizes, ["0 bytes", "1023 bytes", "1.0 KiB", "1.0 MiB", "1.0 GiB", "16.0 EiB"]);
        let mut out = String::new();
        Printer::new(&mut out, false, true).line(&[cell("x", Style::Bad)]).unwrap();
        assert_eq!(out, "\u{1b}[1;31mx\u{1b}[0m\n");
        assert_eq!(instant("2013-03-01T04:05:06.789Z".parse().unwrap()), "2013-03-01 04:05:06");
    }
}
