//! The journal of a local log: commits that are not in tiles yet. `docs/formats.md` has its layout.

use std::io;
use std::ops::Range;

use kaizen_core::{Bytes, Context, Digest, ErrorKind, Result};

use crate::head::Head;
use crate::note;

/// Frames begin at multiples of this, so that writing one never touches a page of another: a page
/// that is torn holds nothing that was acknowledged.
pub(crate) const PAGE: u64 = 4096;
const MAGIC: [u8; 8] = *b"KZLOGFRM";
const VERSION: u32 = 1;
const HEAD: usize = 72;
const DIGEST: usize = 32;
/// At most this many bytes in a journal.
pub(crate) const MAX_BYTES: u64 = 256 << 20;

/// One commit.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) entries: Vec<Bytes>,
    /// The signed checkpoint after them.
    pub(crate) note: String,
    /// How many bytes of the journal it takes.
    pub(crate) length: u64,
}

/// What lies at a place of the journal.
#[derive(Debug)]
pub(crate) enum Found {
    /// Nothing that continues the log.
    Nothing,
    /// A frame that claims to continue the log, and is not whole.
    Torn,
    /// A frame that continues the log, but for damage in what says so.
    Damaged,
    /// The next commit.
    Frame(Frame),
}

/// The bytes of a frame, or `None` if it is longer than any journal.
pub(crate) fn encode(before: Head, entries: &[Bytes], note: &str) -> Option<Vec<u8>> {
    let length = entries.iter().map(|entry| 2 + entry.len()).sum::<usize>();
    let whole = (HEAD + length + note.len() + DIGEST).next_multiple_of(PAGE as usize);
    if whole as u64 > MAX_BYTES {
        return None;
    }
    let mut frame = Vec::with_capacity(whole);
    frame.extend(MAGIC);
    frame.extend(VERSION.to_le_bytes());
    frame.extend(u32::try_from(entries.len()).ok()?.to_le_bytes());
    frame.extend(before.size.to_le_bytes());
    frame.extend(before.root.as_bytes());
    frame.extend((length as u64).to_le_bytes());
    frame.extend((note.len() as u64).to_le_bytes());
    for entry in entries {
        frame.extend(u16::try_from(entry.len()).ok()?.to_be_bytes());
        frame.extend_from_slice(entry);
    }
    frame.extend_from_slice(note.as_bytes());
    frame.resize(whole - DIGEST, 0);
    let digest = Digest::of(&frame);
    frame.extend(digest.as_bytes());
    Some(frame)
}

/// Where a journal's bytes are.
pub(crate) trait Pages {
    /// How many there are.
    fn length(&self) -> u64;

    /// Some of them.
    fn read(&self, offset: u64, length: usize) -> io::Result<Bytes>;
}

impl Pages for Vec<u8> {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let from = offset as usize;
        self.get(from..from + length).map(Bytes::copy_from_slice).ok_or_else(ends)
    }
}

/// Nothing is copied.
impl Pages for Bytes {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let from = offset as usize;
        if from + length > self.len() {
            return Err(ends());
        }
        Ok(self.slice(from..from + length))
    }
}

fn ends() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the journal ends before")
}

fn integer(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// The lengths that the head of a frame states: the whole, the entries and the note.
fn lengths(head: &[u8], room: u64) -> Option<(usize, usize, usize)> {
    let (entries, note) = (integer(head, 56), integer(head, 64));
    if entries > room || note > note::MAX_BYTES as u64 {
        return None;
    }
    let whole = (HEAD as u64 + entries + note + DIGEST as u64).next_multiple_of(PAGE);
    (whole <= room).then_some((whole as usize, entries as usize, note as usize))
}

/// The bytes of the frame at this place, as long as its head says that it is; its first page, if
/// that cannot be.
pub(crate) fn as_it_is(pages: &dyn Pages, offset: u64) -> io::Result<Bytes> {
    let room = pages.length().saturating_sub(offset);
    let head = pages.read(offset, room.min(HEAD as u64) as usize)?;
    let whole = if head.len() == HEAD { lengths(&head, room) } else { None };
    let length = whole.map_or(room.min(PAGE) as usize, |(whole, ..)| whole);
    pages.read(offset, length)
}

/// Whether the head of a frame says that it continues this log.
fn claims(head: &[u8], before: Head) -> bool {
    let size = integer(head, 16) == before.size;
    head[..12] == [&MAGIC[..], &VERSION.to_le_bytes()].concat()[..]
        && size
        && head[24..56] == *before.root.as_bytes()
}

/// What the frame at the beginning says that it continues, if there is one.
pub(crate) fn continues(frame: &[u8]) -> Option<Head> {
    let (head, _) = frame.split_at_checked(HEAD)?;
    let root = Digest::from_bytes(*head[24..].first_chunk()?);
    Some(Head { size: integer(head, 16), root })
}

fn is_whole(frame: &[u8]) -> bool {
    let (body, digest) = frame.split_at(frame.len() - DIGEST);
    Digest::of(body).as_bytes() == digest
}

/// Whether something at this place says that it continues the log.
pub(crate) fn is_claimed(pages: &dyn Pages, offset: u64, before: Head) -> io::Result<bool> {
    if pages.length().saturating_sub(offset) < HEAD as u64 {
        return Ok(false);
    }
    Ok(claims(&pages.read(offset, HEAD)?, before))
}

/// Looks for the commit that continues the log, at this place.
///
/// # Errors
///
/// If the journal cannot be read.
pub(crate) fn next(pages: &dyn Pages, offset: u64, before: Head) -> io::Result<Found> {
    let room = pages.length().saturating_sub(offset);
    if room < HEAD as u64 {
        return Ok(Found::Nothing);
    }
    let head = pages.read(offset, HEAD)?;
    if !claims(&head, before) {
        return Ok(Found::Nothing);
    }
    let Some((whole, entries, note)) = lengths(&head, room) else { return Ok(Found::Torn) };
    let frame = pages.read(offset, whole)?;
    // The head is read again: it may have been written meanwhile.
    if frame[..HEAD] != head[..] || !is_whole(&frame) {
        return Ok(Found::Torn);
    }
    let count = frame[12..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    let parsed = split(&frame.slice(HEAD..HEAD + entries), count);
    let note = String::from_utf8(frame[HEAD + entries..HEAD + entries + note].to_vec()).ok();
    Ok(match parsed.zip(note) {
        Some((entries, note)) => Found::Frame(Frame { entries, note, length: whole as u64 }),
        None => Found::Torn,
    })
}

fn split(bytes: &Bytes, count: u32) -> Option<Vec<Bytes>> {
    let mut entries = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let (length, _) = bytes[at..].split_first_chunk::<2>()?;
        let end = at + 2 + usize::from(u16::from_be_bytes(*length));
        if end > bytes.len() {
            return None;
        }
        entries.push(bytes.slice(at + 2..end));
        at = end;
    }
    (entries.len() == count as usize).then_some(entries)
}

/// Looks at the place after the last commit more closely than [`next`]: for a frame whose head was
/// damaged so that it does not claim to continue the log, and for frames that lie beyond.
///
/// # Errors
///
/// If the journal cannot be read.
pub(crate) fn after_the_last(pages: &dyn Pages, offset: u64, before: Head) -> io::Result<Found> {
    let found = next(pages, offset, before)?;
    let room = pages.length().saturating_sub(offset);
    if matches!(found, Found::Frame(_)) || room < HEAD as u64 {
        return Ok(found);
    }
    let head = pages.read(offset, HEAD)?;
    if !claims(&head, before)
        && let Some((whole, ..)) = lengths(&head, room)
    {
        let mut frame = pages.read(offset, whole)?.to_vec();
        frame[..8].copy_from_slice(&MAGIC);
        frame[8..12].copy_from_slice(&VERSION.to_le_bytes());
        frame[16..24].copy_from_slice(&before.size.to_le_bytes());
        frame[24..56].copy_from_slice(before.root.as_bytes());
        if is_whole(&frame) {
            return Ok(Found::Damaged);
        }
    }
    // Whoever commits writes over what is not whole before going on. So what lies beyond was
    // committed after something that was whole. No log has more of it than it has journal.
    let mut budget = pages.length();
    for at in (offset + PAGE..pages.length()).step_by(PAGE as usize) {
        let room = pages.length() - at;
        let head = pages.read(at, HEAD.min(room as usize))?;
        let later = head.len() == HEAD && head[..8] == MAGIC && integer(&head, 16) > before.size;
        if later && let Some((whole, ..)) = lengths(&head, room) {
            if whole as u64 > budget || is_whole(&pages.read(at, whole)?) {
                return Ok(Found::Damaged);
            }
            budget -= whole as u64;
        }
    }
    Ok(found)
}

/// The frames that continue the log, one after the other, from a place on.
///
/// # Errors
///
/// If the journal cannot be read.
pub(crate) fn read_on<F>(pages: &dyn Pages, offset: u64, before: Head, each: F) -> Result<u64>
where
    F: FnMut(Frame) -> Result<Head>,
{
    read_until(pages, offset..u64::MAX, before, each)
}

/// Those of them that begin in this part of the journal. Gives where the last one ends.
///
/// # Errors
///
/// If the journal cannot be read.
pub(crate) fn read_until<F>(
    pages: &dyn Pages,
    part: Range<u64>,
    before: Head,
    mut each: F,
) -> Result<u64>
where
    F: FnMut(Frame) -> Result<Head>,
{
    let (mut offset, mut before) = (part.start, before);
    while offset < part.end
        && let Found::Frame(frame) =
            next(pages, offset, before).context(ErrorKind::Unavailable, "reading")?
    {
        offset += frame.length;
        before = each(frame)?;
    }
    Ok(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn before(size: u64) -> Head {
        Head { size, root: Digest::of(size.to_be_bytes()) }
    }

    #[test]
    fn a_frame_comes_back_and_any_changed_byte_is_noticed() {
        let entries =
            [Bytes::from_static(b"one"), Bytes::from_static(b""), Bytes::from(vec![7; 5000])];
        let bytes = encode(before(3), &entries, "a note\n").unwrap();
        assert_eq!(bytes.len() as u64, 2 * PAGE);
        let Found::Frame(frame) = next(&bytes, 0, before(3)).unwrap() else { panic!() };
        assert_eq!((frame.entries, frame.note.as_str()), (entries.to_vec(), "a note\n"));
        assert_eq!(frame.length, 2 * PAGE);
        for other in [before(2), before(4)] {
            assert!(matches!(next(&bytes, 0, other).unwrap(), Found::Nothing));
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            assert!(!matches!(next(&changed, 0, before(3)).unwrap(), Found::Frame(_)), "{at}");
            let found = after_the_last(&changed, 0, before(3)).unwrap();
            assert!(matches!(found, Found::Torn | Found::Damaged), "{at}: {found:?}");
        }
    }

    #[test]
    fn what_is_damaged_before_a_later_commit_is_told_from_what_was_never_finished() {
        let entry = [Bytes::from_static(b"entry")];
        let mut journal = encode(before(3), &entry, "first\n").unwrap();
        let second = encode(before(4), &entry, "second\n").unwrap();
        journal.extend(&second);
        journal.resize(4 * PAGE as usize, 0);
        let mut damaged = journal.clone();
        damaged[..100].fill(0);
        assert!(matches!(after_the_last(&damaged, 0, before(3)).unwrap(), Found::Damaged));
        // An older generation does not count.
        assert!(matches!(after_the_last(&damaged, 0, before(9)).unwrap(), Found::Nothing));
        let mut torn = journal.clone();
        torn[PAGE as usize + 80] ^= 1;
        assert!(matches!(after_the_last(&torn, PAGE, before(4)).unwrap(), Found::Torn));
    }

    /// Counts what is read of it.
    struct Counted(Vec<u8>, std::cell::Cell<u64>);

    impl Pages for Counted {
        fn length(&self) -> u64 {
            self.0.length()
        }

        fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
            self.1.set(self.1.get() + length as u64);
            self.0.read(offset, length)
        }
    }

    #[test]
    fn a_journal_in_which_every_page_claims_all_the_rest_is_not_read_without_end() {
        let pages = 400;
        let mut journal = encode(before(3), &[], "note\n").unwrap();
        journal.resize(pages * PAGE as usize, 0);
        let head = journal[..HEAD].to_vec();
        for page in 1..pages {
            let (from, rest) = (page * PAGE as usize, (pages - page) * PAGE as usize);
            journal[from..from + HEAD].copy_from_slice(&head);
            journal[from + 16] = 9;
            let entries = (rest - HEAD - DIGEST - 5) as u64;
            journal[from + 56..from + 64].copy_from_slice(&entries.to_le_bytes());
        }
        let (journal, length) = (Counted(journal, 0.into()), pages as u64 * PAGE);
        let found = after_the_last(&journal, PAGE, before(4)).unwrap();
        assert!(matches!(found, Found::Damaged), "{found:?}");
        assert!(journal.1.get() < 3 * length, "{}", journal.1.get());
    }

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        let bytes = encode(before(3), &[Bytes::from_static(b"entry")], "note\n").unwrap();
        for (at, value) in [(56, u64::MAX), (64, u64::MAX), (56, 1 << 40), (64, 5000)] {
            let mut changed = bytes.clone();
            changed[at..at + 8].copy_from_slice(&value.to_le_bytes());
            assert!(matches!(next(&changed, 0, before(3)).unwrap(), Found::Torn), "{at} {value}");
        }
        assert!(matches!(next(&Vec::new(), 0, before(3)).unwrap(), Found::Nothing));
        assert!(matches!(next(&bytes, PAGE, before(3)).unwrap(), Found::Nothing));
    }
}
