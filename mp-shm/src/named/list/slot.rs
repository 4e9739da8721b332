//! The content of one slot: the value's bytes, their format in the notation of Python's `struct`,
//! and the code of the kind.
//!
//! | value | bytes | format | code |
//! |---|---|---|---|
//! | `None` | zeros | `xxxxxx?x` | 3 |
//! | `bool` | the last of eight | `xxxxxxx?` | 0 |
//! | `int` | eight | `q` | 0 |
//! | `float` | eight | `d` | 0 |
//! | `str` | UTF-8, then NULs to the end of the slot | `<room>s` | 1 |
//! | `bytes` | themselves, then NULs to the end of the slot | `<room>s` | 2 |
//!
//! A reader removes the NULs at the end, as CPython does, because it cannot distinguish those of
//! the value from those after it. So a value that ends with a NUL gets another format, `<length>s`
//! and a space. CPython ignores the space when it reads, and removes the NULs as usual. When
//! CPython sets a slot, it keeps the old format only if that ends with an `s`. So it replaces this
//! one, and our length never remains with its value.

use super::item::Item;

/// The greatest length of a format, which is the room for it.
pub(super) const FORMAT: usize = 8;

/// The length of a slot is a multiple of this, and numbers have this length.
pub(super) const UNIT: usize = 8;

/// The greatest length of a slot that a format can express: seven digits.
pub(super) const LARGEST_ROOM: usize = 9_999_992;

/// The longest value whose exact length a format can express.
pub(super) const LONGEST_EXACT: usize = 999_999;

const NONE: &[u8] = b"xxxxxx?x";
const BOOL: &[u8] = b"xxxxxxx?";

/// What is written for a value, except for the NULs after it.
pub(super) struct Encoded<'a> {
    bytes: Bytes<'a>,
    pub(super) format: [u8; FORMAT],
    pub(super) code: u8,
}

enum Bytes<'a> {
    Number([u8; UNIT]),
    Text(&'a [u8]),
}

/// Why a value cannot be written.
pub(super) enum Refusal {
    TooLong,
    TrailingNul,
}

/// Returns how many bytes of a slot a value takes.
pub(super) fn length(item: &Item) -> usize {
    match item {
        Item::Str(text) => text.len(),
        Item::Bytes(bytes) => bytes.len(),
        _ => UNIT,
    }
}

/// Returns the length of the slot that CPython gives a value in a new list.
pub(super) fn room_for(item: &Item) -> usize {
    match item {
        Item::Str(_) | Item::Bytes(_) => (length(item) / UNIT + 1) * UNIT,
        _ => UNIT,
    }
}

impl<'a> Encoded<'a> {
    /// Encodes a value for a slot of length `room`.
    pub(super) fn new(item: &'a Item, room: usize) -> Result<Self, Refusal> {
        if length(item) > room || room > LARGEST_ROOM {
            return Err(Refusal::TooLong);
        }
        let number = |bytes, format, code| Ok(Self { bytes: Bytes::Number(bytes), format: padded(format), code });
        match item {
            Item::None => number([0; UNIT], NONE, 3),
            Item::Bool(value) => number(u64::to_be_bytes((*value).into()), BOOL, 0),
            Item::Int(value) => number(value.to_ne_bytes(), b"q", 0),
            Item::Float(value) => number(value.to_ne_bytes(), b"d", 0),
            Item::Str(text) => Self::text(text.as_bytes(), room, 1),
            Item::Bytes(bytes) => Self::text(bytes, room, 2),
        }
    }

    fn text(bytes: &'a [u8], room: usize, code: u8) -> Result<Self, Refusal> {
        let format = match bytes {
            [.., 0] if bytes.len() > LONGEST_EXACT => return Err(Refusal::TrailingNul),
            [.., 0] => format!("{}s ", bytes.len()),
            _ => format!("{room}s"),
        };
        Ok(Self { bytes: Bytes::Text(bytes), format: padded(format.as_bytes()), code })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Number(bytes) => bytes,
            Bytes::Text(bytes) => bytes,
        }
    }

    /// Tells whether NULs have to follow, to the end of the slot.
    pub(super) fn is_padded(&self) -> bool {
        matches!(self.bytes, Bytes::Text(_))
    }
}

/// Returns the bytes of a format, with NULs after it. It fits, because the length was checked.
fn padded(format: &[u8]) -> [u8; FORMAT] {
    let mut padded = [0; FORMAT];
    padded[..format.len()].copy_from_slice(format);
    padded
}

/// Returns the text of a format in the list.
pub(super) fn trimmed(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    &bytes[..end]
}

/// What a slot contains, by its format and its code: how to decode its bytes, and how many there
/// are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    None,
    Bool,
    Int,
    Float,
    Str { length: usize, exact: bool },
    Bytes { length: usize, exact: bool },
}

impl Shape {
    /// Parses the formats that CPython and this library write, and no others.
    pub(super) fn new(format: &[u8; FORMAT], code: u8) -> Result<Self, &'static str> {
        let format = trimmed(format);
        match (code, format) {
            (3, NONE) => Ok(Self::None),
            (0, BOOL) => Ok(Self::Bool),
            (0, b"q") => Ok(Self::Int),
            (0, b"d") => Ok(Self::Float),
            (1 | 2, [digits @ .., b's', b' ']) => Self::text(digits, true, code),
            (1 | 2, [digits @ .., b's']) => Self::text(digits, false, code),
            (0..=3, _) => Err("its format is unknown"),
            _ => Err("its kind is unknown"),
        }
    }

    fn text(digits: &[u8], exact: bool, code: u8) -> Result<Self, &'static str> {
        let digit = |digit: &u8| digit.is_ascii_digit().then(|| usize::from(digit - b'0'));
        // Seven digits at most, because there is no room for more.
        let length = digits.iter().try_fold(0, |number, next| Some(number * 10 + digit(next)?));
        match length.filter(|_| !digits.is_empty()) {
            Some(length) if code == 1 => Ok(Self::Str { length, exact }),
            Some(length) => Ok(Self::Bytes { length, exact }),
            None => Err("its format is unknown"),
        }
    }

    /// Returns how many bytes of the slot the value takes.
    pub(super) fn length(self) -> usize {
        match self {
            Self::Str { length, .. } | Self::Bytes { length, .. } => length,
            _ => UNIT,
        }
    }

    /// Decodes the value from its bytes, of which there are [`length`](Self::length).
    pub(super) fn decode(self, bytes: &[u8]) -> Result<Item, &'static str> {
        let number = || bytes.first_chunk().copied().ok_or("its bytes are missing");
        let own = |exact| if exact { bytes } else { trimmed(bytes) };
        Ok(match self {
            Self::None => Item::None,
            Self::Bool => Item::Bool(bytes.last().is_some_and(|byte| *byte != 0)),
            Self::Int => Item::Int(i64::from_ne_bytes(number()?)),
            Self::Float => Item::Float(f64::from_ne_bytes(number()?)),
            Self::Str { exact, .. } => match std::str::from_utf8(own(exact)) {
                Ok(text) => Item::Str(text.to_owned()),
                Err(_) => return Err("its text is not UTF-8"),
            },
            Self::Bytes { exact, .. } => Item::Bytes(own(exact).to_vec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(item: &Item, room: usize) -> Item {
        let encoded = Encoded::new(item, room).unwrap_or_else(|_| panic!("{item:?} fits"));
        let mut slot = vec![0; room];
        slot[..encoded.bytes().len()].copy_from_slice(encoded.bytes());
        let shape = Shape::new(&encoded.format, encoded.code).unwrap();
        assert!(shape.length() <= room);
        shape.decode(&slot[..shape.length()]).unwrap()
    }

    #[test]
    fn values_come_back_also_those_that_end_with_nuls() {
        for item in [
            Item::None,
            Item::from(true),
            Item::from(false),
            Item::from(i64::MIN),
            Item::from(-0.0),
            Item::from(""),
            Item::from("\0"),
            Item::from("seven77"),
            Item::from("grün\0\0"),
            Item::from(b"exactly8"),
            Item::from(b"\0\0\0\0\0\0\0\0"),
            Item::from(vec![0; LONGEST_EXACT]),
            Item::from(vec![1; LARGEST_ROOM - 1]),
        ] {
            let room = room_for(&item);
            assert!(room % UNIT == 0);
            assert_eq!(round_trip(&item, room), item);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let refused = |item: Item, room| Encoded::new(&item, room).err();
        assert!(matches!(refused("123456789".into(), 8), Some(Refusal::TooLong)));
        assert!(matches!(refused(1.into(), 7), Some(Refusal::TooLong)));
        let long = vec![1; LARGEST_ROOM];
        assert!(matches!(refused(long.into(), LARGEST_ROOM + 8), Some(Refusal::TooLong)));
        assert!(matches!(refused(vec![0; LONGEST_EXACT + 1].into(), 1_000_008), Some(Refusal::TrailingNul)));
    }

    #[test]
    fn unknown_formats_and_codes_are_errors() {
        for (format, code) in [
            (b"q\0\0\0\0\0\0\0", 1),
            (b"q\0\0\0\0\0\0\0", 4),
            (b"Q\0\0\0\0\0\0\0", 0),
            (b"8s\0\0\0\0\0\0", 0),
            (b"8s\0\0\0\0\0\0", 255),
            (b"s\0\0\0\0\0\0\0", 1),
            (b"-1s\0\0\0\0\0", 1),
            (b"8s  \0\0\0\0", 1),
            (b"\08s\0\0\0\0\0", 1),
            (b"\0\0\0\0\0\0\0\0", 2),
            (b"xxxxxx?x", 0),
        ] {
            assert!(Shape::new(format, code).is_err(), "{format:?} {code}");
        }
        assert_eq!(Shape::new(b"9999999s", 2), Ok(Shape::Bytes { length: 9_999_999, exact: false }));
    }
}
