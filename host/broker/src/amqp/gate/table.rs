//! Field tables, as RabbitMQ writes them and lapin reads them.
//!
//! lapin's parser recurses for each level of nesting until its stack is used up, and takes no table with a name that is not
//! UTF-8. Both bounds here are far above the needs of real messages.

use super::fields::{FieldReader, is_text};

/// The deepest nesting of tables and arrays.
pub(super) const DEPTH_MAX: usize = 32;
/// The largest number of values in a table, including nested tables and arrays. A value may take one byte on the wire and some
/// hundred bytes in memory.
pub(super) const VALUES_MAX: usize = 4096;

/// A flaw of a table's entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    /// The name, or a name inside the value, is not UTF-8.
    Name,
    /// The value is nested too deeply.
    Depth,
    /// The table has too many values with this entry.
    Values,
    /// A value has a type that does not exist.
    Type(u8),
    /// A length points beyond the end.
    Length,
}

/// An entry of a table whose end is known.
#[derive(Debug)]
pub(super) struct TableEntry<'a> {
    pub(super) name: &'a [u8],
    /// Name, type and value.
    pub(super) raw: &'a [u8],
    pub(super) flaw: Option<Flaw>,
}

impl<'a> TableEntry<'a> {
    /// The value, if it is a `longstr`.
    pub(super) fn text(&self) -> Option<&'a [u8]> {
        let mut fields = FieldReader::new(self.raw);
        fields.short_string()?;
        let kind = fields.octet()?;
        fields.long_string().filter(|_| kind == b'S')
    }
}

/// The entries of a table, one after the other.
#[derive(Debug)]
pub(super) struct Entries<'a> {
    fields: FieldReader<'a>,
    /// The number of further values that are allowed.
    left: usize,
}

impl<'a> Entries<'a> {
    /// Entries of the inside of a table, without its length.
    pub(super) const fn new(table: &'a [u8]) -> Self {
        Self { fields: FieldReader::new(table), left: VALUES_MAX }
    }

    /// The bytes that are not read yet.
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.fields.rest()
    }

    /// The next entry.
    ///
    /// # Errors
    /// Why the end of the entry is unknown. The entry and everything after it is in [`Entries::rest`].
    pub(super) fn next(&mut self) -> Option<Result<TableEntry<'a>, Flaw>> {
        if self.fields.is_empty() {
            return None;
        }
        Some(self.entry())
    }

    fn entry(&mut self) -> Result<TableEntry<'a>, Flaw> {
        let mut fields = self.fields;
        let name = fields.short_string().ok_or(Flaw::Length)?;
        let kind = fields.octet().ok_or(Flaw::Length)?;
        let value = value(&mut fields, kind)?;
        let before = self.fields.rest();
        let raw = &before[..before.len() - fields.rest().len()];
        self.fields = fields;
        let is_named = if is_text(name) { Ok(()) } else { Err(Flaw::Name) };
        let checked = is_named.and_then(|()| check(kind, value, 1, &mut self.left));
        Ok(TableEntry { name, raw, flaw: checked.err() })
    }
}

/// Whether lapin takes the table.
pub(super) fn is_sound(table: &[u8]) -> bool {
    check_inside(true, table, 0, &mut { VALUES_MAX }).is_ok()
}

/// Takes a value of a type. Returns the bytes of the value, without the length of a text, table or array.
#[inline]
fn value<'a>(fields: &mut FieldReader<'a>, kind: u8) -> Result<&'a [u8], Flaw> {
    let bytes = match kind {
        b'V' => 0,
        b't' | b'b' | b'B' => 1,
        b's' | b'U' | b'u' => 2,
        b'I' | b'i' | b'f' => 4,
        b'D' => 5,
        b'l' | b'L' | b'd' | b'T' => 8,
        b'S' | b'x' | b'A' | b'F' => return fields.long_string().ok_or(Flaw::Length),
        _ => return Err(Flaw::Type(kind)),
    };
    fields.take(bytes).ok_or(Flaw::Length)
}

/// Checks a value and the values in it.
#[inline]
fn check(kind: u8, inside: &[u8], depth: usize, left: &mut usize) -> Result<(), Flaw> {
    *left = left.checked_sub(1).ok_or(Flaw::Values)?;
    match kind {
        b'F' | b'A' if depth > DEPTH_MAX => Err(Flaw::Depth),
        b'F' | b'A' => check_inside(kind == b'F', inside, depth, left),
        _ => Ok(()),
    }
}

/// Checks the inside of a table or an array. Recurses at most [`DEPTH_MAX`] times.
fn check_inside(has_names: bool, inside: &[u8], depth: usize, left: &mut usize) -> Result<(), Flaw> {
    let mut fields = FieldReader::new(inside);
    while !fields.is_empty() {
        if has_names && !is_text(fields.short_string().ok_or(Flaw::Length)?) {
            return Err(Flaw::Name);
        }
        let kind = fields.octet().ok_or(Flaw::Length)?;
        let value = value(&mut fields, kind)?;
        check(kind, value, depth + 1, left)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry with a value that is given as it stands on the wire.
    fn entry(name: &[u8], kind: u8, value: &[u8]) -> Vec<u8> {
        [&[u8::try_from(name.len()).expect("short")], name, &[kind], value].concat()
    }

    fn long(inside: &[u8]) -> Vec<u8> {
        [&u32::try_from(inside.len()).expect("short").to_be_bytes(), inside].concat()
    }

    fn nested(levels: usize) -> Vec<u8> {
        let mut inside = Vec::new();
        for _ in 1..levels {
            inside = [b"A".as_slice(), &long(&inside)].concat();
        }
        entry(b"deep", b'A', &long(&inside))
    }

    fn flaws(table: &[u8]) -> Vec<Result<Option<Flaw>, Flaw>> {
        let mut entries = Entries::new(table);
        let mut found = Vec::new();
        while let Some(entry) = entries.next() {
            let is_end = entry.is_err();
            found.push(entry.map(|entry| entry.flaw));
            if is_end {
                break;
            }
        }
        found
    }

    #[test]
    fn every_type_that_lapin_knows_passes() {
        let fixed = [(b'V', 0), (b't', 1), (b'b', 1), (b'B', 1), (b's', 2), (b'U', 2), (b'u', 2), (b'I', 4), (b'i', 4)];
        let wide = [(b'f', 4), (b'D', 5), (b'l', 8), (b'L', 8), (b'd', 8), (b'T', 8)];
        let mut table: Vec<u8> =
            fixed.iter().chain(&wide).flat_map(|(kind, bytes)| entry(&[*kind], *kind, &vec![0xff; *bytes])).collect();
        table.extend(entry(b"text", b'S', &long(b"\xff not UTF-8, and a longstr may be so")));
        table.extend(entry(b"bytes", b'x', &long(&[0xff])));
        table.extend(entry(b"table", b'F', &long(&entry(b"a", b'A', &long(b"VVt\x01")))));
        assert!(is_sound(&table));
        assert!(is_sound(&[]));
    }

    #[test]
    fn depth_and_values_have_a_bound() {
        assert_eq!(flaws(&nested(DEPTH_MAX)), [Ok(None)]);
        assert_eq!(flaws(&nested(DEPTH_MAX + 1)), [Ok(Some(Flaw::Depth))]);
        assert_eq!(flaws(&nested(20_000)), [Ok(Some(Flaw::Depth))], "and no stack is used up");
        let list = |values: usize| entry(b"list", b'A', &long(&vec![b'V'; values]));
        assert_eq!(flaws(&list(VALUES_MAX - 1)), [Ok(None)]);
        let table = [list(VALUES_MAX), entry(b"a", b'V', &[])].concat();
        assert_eq!(flaws(&table), [Ok(Some(Flaw::Values)), Ok(Some(Flaw::Values))]);
    }

    #[test]
    fn a_flaw_costs_its_entry_and_what_has_no_end_costs_the_rest() {
        let good = entry(b"good", b't', &[1]);
        let bad_name = entry(b"\xff", b't', &[1]);
        let bad_inside = entry(b"in", b'F', &long(&entry(b"\xff", b't', &[1])));
        let lying_inside = entry(b"in", b'F', &long(&[9, b'a']));
        let unknown_inside = entry(b"in", b'A', &long(b"z"));
        for (bad, flaw) in [
            (&bad_name, Flaw::Name),
            (&bad_inside, Flaw::Name),
            (&lying_inside, Flaw::Length),
            (&unknown_inside, Flaw::Type(b'z')),
        ] {
            let table = [&good[..], bad, &good].concat();
            assert_eq!(flaws(&table), [Ok(None), Ok(Some(flaw)), Ok(None)]);
            assert!(!is_sound(&table));
        }
        for (bad, flaw) in [
            (entry(b"a", b'z', &[1]), Flaw::Type(b'z')),
            (entry(b"a", b'S', &[0, 0, 9, 9, 1]), Flaw::Length),
            (entry(b"a", b'l', &[0; 7]), Flaw::Length),
            (vec![200, b'a'], Flaw::Length),
            (vec![1, b'a'], Flaw::Length),
        ] {
            let table = [&good[..], &bad].concat();
            let mut entries = Entries::new(&table);
            assert!(entries.next().is_some_and(|entry| entry.is_ok()));
            assert_eq!(entries.next().and_then(Result::err), Some(flaw));
            assert_eq!(entries.rest(), bad, "all of it is kept");
        }
    }
}
