//! How stored values are written: a format byte, then fixed-width big-endian numbers, varints (LEB128, zigzag where
//! signed) and length-prefixed bytes. Reading never trusts the bytes: every failure is a [`Corrupt`].

/// A stored value that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a stored {family} can't be read: {reason}")]
pub struct Corrupt {
    /// Which key family.
    pub family: &'static str,
    /// What is wrong.
    pub reason: &'static str,
}

impl From<Corrupt> for crate::kv::StoreError {
    fn from(corrupt: Corrupt) -> Self {
        Self::Failed { reason: corrupt.to_string() }
    }
}

/// Builds a value.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// A value of format `format`.
    pub fn format(format: u8) -> Self {
        Self(vec![format])
    }
    /// A value (or key) without a format byte.
    pub fn raw(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.0.len()
    }
    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// The value.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
    /// One byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }
    /// Two bytes.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.fixed(&value.to_be_bytes())
    }
    /// Four bytes.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.fixed(&value.to_be_bytes())
    }
    /// Eight bytes.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.fixed(&value.to_be_bytes())
    }
    /// Unsigned varint.
    pub fn varint(&mut self, mut value: u64) -> &mut Self {
        while value >= 0x80 {
            self.0.push((value as u8) | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }
    /// Zigzag varint.
    pub fn zigzag(&mut self, value: i64) -> &mut Self {
        self.varint(((value << 1) ^ (value >> 63)) as u64)
    }
    /// Bytes as they are.
    pub fn fixed(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }
    /// A varint length, then the bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.varint(bytes.len() as u64);
        self.fixed(bytes)
    }
    /// As [`Writer::bytes`].
    pub fn string(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }
    /// A byte 0, or a byte 1 and the text.
    pub fn optional_string(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            None => self.u8(0),
            Some(text) => self.u8(1).string(text),
        }
    }
}

/// Reads a value.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    family: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A value of key family `family` (for errors).
    pub fn new(family: &'static str, bytes: &'a [u8]) -> Self {
        Self { family, rest: bytes }
    }
    /// A value whose first byte must be `format`.
    pub fn with_format(family: &'static str, bytes: &'a [u8], format: u8) -> Result<Self, Corrupt> {
        let mut reader = Self::new(family, bytes);
        if reader.u8()? == format { Ok(reader) } else { Err(reader.corrupt("unknown format")) }
    }
    /// An error of this value.
    pub fn corrupt(&self, reason: &'static str) -> Corrupt {
        Corrupt { family: self.family, reason }
    }
    /// Bytes left.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }
    /// Nothing may be left.
    pub fn finish(&self) -> Result<(), Corrupt> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.corrupt("bytes behind the end")) }
    }
    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Corrupt> {
        let Some((head, tail)) = self.rest.split_at_checked(count) else {
            return Err(self.corrupt("ends early"));
        };
        self.rest = tail;
        Ok(head)
    }
    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Corrupt> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }
    /// One byte.
    pub fn u8(&mut self) -> Result<u8, Corrupt> {
        Ok(self.array::<1>()?[0])
    }
    /// Two bytes.
    pub fn u16(&mut self) -> Result<u16, Corrupt> {
        Ok(u16::from_be_bytes(self.array()?))
    }
    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, Corrupt> {
        Ok(u32::from_be_bytes(self.array()?))
    }
    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, Corrupt> {
        Ok(u64::from_be_bytes(self.array()?))
    }
    /// Unsigned varint.
    pub fn varint(&mut self) -> Result<u64, Corrupt> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7F);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.corrupt("a varint is too long"))
    }
    /// Unsigned varint of at most 32 bits.
    pub fn varint_u32(&mut self) -> Result<u32, Corrupt> {
        u32::try_from(self.varint()?).map_err(|_| self.corrupt("a number is out of range"))
    }
    /// Zigzag varint.
    pub fn zigzag(&mut self) -> Result<i64, Corrupt> {
        let raw = self.varint()?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }
    /// A count of things that take at least `least` bytes each: never more than could be there.
    pub fn count(&mut self, least: usize) -> Result<usize, Corrupt> {
        let count = self.varint()?;
        let most = (self.rest.len() / least.max(1)) as u64;
        if count > most { Err(self.corrupt("a count is out of range")) } else { Ok(count as usize) }
    }
    /// Length-prefixed bytes.
    pub fn bytes(&mut self) -> Result<&'a [u8], Corrupt> {
        let length = self.count(1)?;
        self.take(length)
    }
    /// Length-prefixed text.
    pub fn string(&mut self) -> Result<&'a str, Corrupt> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|_| self.corrupt("a text is not UTF-8"))
    }
    /// See [`Writer::optional_string`].
    pub fn optional_string(&mut self) -> Result<Option<&'a str>, Corrupt> {
        match self.u8()? {
            0 => Ok(None),
            1 => Ok(Some(self.string()?)),
            _ => Err(self.corrupt("an option is neither there nor not")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_round_trip(signed: i64, unsigned: u64, text: String) {
            let mut writer = Writer::format(3);
            writer.zigzag(signed).varint(unsigned).string(&text).optional_string(None).u32(7);
            let value = writer.finish();
            let mut reader = Reader::with_format("test", &value, 3).expect("format");
            prop_assert_eq!(reader.zigzag().expect("signed"), signed);
            prop_assert_eq!(reader.varint().expect("unsigned"), unsigned);
            prop_assert_eq!(reader.string().expect("text"), text);
            prop_assert_eq!(reader.optional_string().expect("option"), None);
            prop_assert_eq!(reader.u32().expect("number"), 7);
            prop_assert!(reader.finish().is_ok());
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            let mut reader = Reader::new("test", &bytes);
            while reader.remaining() > 0 {
                if reader.varint().is_err() || reader.bytes().is_err() || reader.optional_string().is_err() {
                    break;
                }
            }
        }
    }
}
