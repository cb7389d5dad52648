//! Numbered fields. A field is a tag and a value; the tag is a varint of `number << 2 | wire type`, so the numbers up
//! to 31 take one byte. Wire types: 0 a varint (LEB128, at most 64 bits), 1 sixteen bytes (an id or a hash), 2 a varint
//! length and that many bytes (text, or nested fields). 3 is free; meeting it is an error, because its end is unknown.

use crate::RecordError;

const NUMBER: u64 = 0;
const SIXTEEN: u64 = 1;
const BYTES: u64 = 2;

/// The version byte that every value of today's encoding begins with.
const VERSION: u8 = 1;

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(low_seven_bits(value) | 0x80);
        value >>= 7;
    }
    out.push(low_seven_bits(value));
}

/// A varint from the front of `bytes`, and what follows it.
pub(crate) fn take_varint(bytes: &[u8]) -> Result<(u64, &[u8]), RecordError> {
    let mut value = 0_u64;
    for (index, &byte) in bytes.iter().enumerate() {
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has room for the 64th bit only.
        if index == 9 && byte > 1 {
            return Err(RecordError::NumberTooLong);
        }
        value |= bits << (7 * index);
        if byte < 0x80 {
            return Ok((value, &bytes[index + 1..]));
        }
    }
    Err(RecordError::Truncated)
}

/// A length-prefixed slice from the front of `bytes`, and what follows it.
pub(crate) fn take_slice(bytes: &[u8]) -> Result<(&[u8], &[u8]), RecordError> {
    let (len, rest) = take_varint(bytes)?;
    let len = usize::try_from(len).map_err(|_| RecordError::Truncated)?;
    rest.split_at_checked(len).ok_or(RecordError::Truncated)
}

/// Appends fields to a value.
pub(crate) struct FieldWriter<'a>(&'a mut Vec<u8>);

impl<'a> FieldWriter<'a> {
    /// A new value: writes its version byte.
    pub(crate) fn value(out: &'a mut Vec<u8>) -> Self {
        out.push(VERSION);
        Self(out)
    }

    /// Fields inside a field: no version byte of their own.
    pub(crate) fn nested(out: &'a mut Vec<u8>) -> Self {
        Self(out)
    }

    pub(crate) fn number(&mut self, field: u64, value: u64) {
        put_varint(self.0, field << 2 | NUMBER);
        put_varint(self.0, value);
    }

    /// A number whose default is 0.
    pub(crate) fn number_unless_zero(&mut self, field: u64, value: u64) {
        if value != 0 {
            self.number(field, value);
        }
    }

    pub(crate) fn sixteen(&mut self, field: u64, value: &[u8; 16]) {
        put_varint(self.0, field << 2 | SIXTEEN);
        self.0.extend_from_slice(value);
    }

    pub(crate) fn bytes(&mut self, field: u64, value: &[u8]) {
        put_varint(self.0, field << 2 | BYTES);
        put_varint(self.0, value.len() as u64);
        self.0.extend_from_slice(value);
    }
}

/// A field's value as it stands in the bytes.
#[derive(Clone, Copy)]
pub(crate) enum Value<'a> {
    Number(u64),
    Sixteen(&'a [u8; 16]),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    pub(crate) fn number(self, name: &'static str) -> Result<u64, RecordError> {
        match self {
            Self::Number(number) => Ok(number),
            _ => Err(RecordError::Invalid(name)),
        }
    }

    pub(crate) fn sixteen(self, name: &'static str) -> Result<[u8; 16], RecordError> {
        match self {
            Self::Sixteen(bytes) => Ok(*bytes),
            _ => Err(RecordError::Invalid(name)),
        }
    }

    pub(crate) fn bytes(self, name: &'static str) -> Result<&'a [u8], RecordError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(RecordError::Invalid(name)),
        }
    }

    pub(crate) fn text(self, name: &'static str) -> Result<&'a str, RecordError> {
        std::str::from_utf8(self.bytes(name)?).map_err(|_| RecordError::Invalid(name))
    }
}

/// The fields of a value, in the order they were written. Can be walked more than once.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The fields of a whole value. Fails when it has another version.
    pub(crate) fn of_value(bytes: &'a [u8]) -> Result<Self, RecordError> {
        match bytes.split_first() {
            Some((&VERSION, rest)) => Ok(Self(rest)),
            Some((&version, _)) => Err(RecordError::UnknownVersion(version)),
            None => Err(RecordError::Truncated),
        }
    }

    /// Fields inside a field.
    pub(crate) const fn nested(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn take(bytes: &'a [u8]) -> Result<(u64, Value<'a>, &'a [u8]), RecordError> {
        let (tag, rest) = take_varint(bytes)?;
        let (value, rest) = match tag & 3 {
            NUMBER => take_varint(rest).map(|(number, rest)| (Value::Number(number), rest))?,
            SIXTEEN => {
                let (value, rest) = rest.split_first_chunk().ok_or(RecordError::Truncated)?;
                (Value::Sixteen(value), rest)
            }
            BYTES => take_slice(rest).map(|(value, rest)| (Value::Bytes(value), rest))?,
            _ => return Err(RecordError::UnknownWireType(3)),
        };
        Ok((tag >> 2, value, rest))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        match Self::take(self.0) {
            Ok((number, value, rest)) => {
                self.0 = rest;
                Some(Ok((number, value)))
            }
            Err(error) => {
                self.0 = &[];
                Some(Err(error))
            }
        }
    }
}

/// Makes an absent required field an error.
pub(crate) fn required<T>(field: Option<T>, name: &'static str) -> Result<T, RecordError> {
    field.ok_or(RecordError::Missing(name))
}

fn low_seven_bits(value: u64) -> u8 {
    value.to_le_bytes()[0] & 0x7f
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_round_trip_at_every_length() {
        for shift in 0..64 {
            for value in [1_u64 << shift, (1_u64 << shift) - 1, u64::MAX >> shift] {
                let mut bytes = Vec::new();
                put_varint(&mut bytes, value);
                bytes.push(0xaa);
                assert_eq!(take_varint(&bytes), Ok((value, &[0xaa][..])));
            }
        }
    }

    #[test]
    fn a_varint_beyond_64_bits_is_refused() {
        let mut bytes = [0xff; 10];
        bytes[9] = 2;
        assert_eq!(take_varint(&bytes), Err(RecordError::NumberTooLong));
        assert_eq!(take_varint(&[0xff; 11]), Err(RecordError::NumberTooLong));
        assert_eq!(take_varint(&[0x80; 3]), Err(RecordError::Truncated));
    }

    #[test]
    fn a_length_beyond_the_end_is_refused() {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, u64::MAX);
        assert_eq!(take_slice(&bytes), Err(RecordError::Truncated));
    }
}
