//! What an option's value can be: how each type is written, read and shown.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A type of option values.
pub trait OptionValue: Sized {
    /// The type's name in the reference page.
    const TYPE: &'static str;
    /// Whether values are shown to nobody.
    const SECRET: bool = false;

    /// Reads a value as it stands in a file, a variable or a flag. The error is a half-sentence behind the value.
    fn parse(text: &str) -> Result<Self, String>;

    /// Writes the value so that [`OptionValue::parse`] reads the same.
    fn show(&self) -> String;

    /// Writes the value without a unit, as Kafka writes it: bytes, milliseconds.
    fn plain(&self) -> String {
        self.show()
    }

    /// Where the value stands among others, for range checks; `None` for types without an order.
    fn rank(&self) -> Option<f64> {
        None
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ByteSize(u64);

impl ByteSize {
    /// `bytes` bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }
    /// The bytes.
    pub const fn get(self) -> u64 {
        self.0
    }
    /// The bytes, as a length in memory.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

const BYTE_UNITS: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
    ("", 1),
];

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = &BYTE_UNITS[..4];
        match binary.iter().find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit)) {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

impl OptionValue for ByteSize {
    const TYPE: &'static str = "size";

    fn parse(text: &str) -> Result<Self, String> {
        let (number, unit) = split_unit(text);
        let scale = BYTE_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, scale)| *scale)
            .ok_or("is not a size: write bytes as a number, or with KiB, MiB, GiB, kB, MB or GB")?;
        scaled(number, scale).map(Self).ok_or_else(|| "is not a size such as 8388608 or 8MiB".into())
    }

    fn show(&self) -> String {
        self.to_string()
    }

    fn plain(&self) -> String {
        self.0.to_string()
    }

    fn rank(&self) -> Option<f64> {
        Some(self.0 as f64)
    }
}

/// Nanoseconds of each unit; a bare number is milliseconds, as in Kafka's `*.ms` options.
const TIME_UNITS: &[(&str, u64)] = &[
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("min", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("", 1_000_000),
];

impl OptionValue for Duration {
    const TYPE: &'static str = "duration";

    fn parse(text: &str) -> Result<Self, String> {
        let (number, unit) = split_unit(text);
        let scale = TIME_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, scale)| *scale)
            .ok_or("is not a duration: write milliseconds as a number, or with us, ms, s, min, h or d")?;
        scaled(number, scale)
            .map(Self::from_nanos)
            .ok_or_else(|| "is not a duration such as 250 (milliseconds), 250ms or 30s".into())
    }

    fn show(&self) -> String {
        let nanos = u64::try_from(self.as_nanos()).unwrap_or(u64::MAX);
        if nanos == 0 {
            return "0ms".into();
        }
        TIME_UNITS
            .iter()
            .find(|(_, unit)| nanos.is_multiple_of(*unit))
            .map_or_else(|| format!("{}us", nanos / 1_000), |(name, unit)| format!("{}{name}", nanos / unit))
    }

    fn plain(&self) -> String {
        self.as_millis().to_string()
    }

    fn rank(&self) -> Option<f64> {
        Some(self.as_secs_f64())
    }
}

/// `12.5MiB` is `12.5` and `MiB`; blanks between them are fine.
fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(text.len());
    (&text[..at], text[at..].trim())
}

/// `number` (digits with `_` between them, or with a fraction) times `scale`, if that is a whole number in range.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let number = number.replace('_', "");
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(scale);
    }
    let fraction: f64 = number.parse().ok()?;
    let product = fraction * scale as f64;
    (product.fract() == 0.0 && (0.0..9.0e15).contains(&product)).then_some(product as u64)
}

macro_rules! number {
    ($($type:ty => $name:literal),+) => {$(
        impl OptionValue for $type {
            const TYPE: &'static str = $name;

            fn parse(text: &str) -> Result<Self, String> {
                text.trim().replace('_', "").parse().map_err(|_| concat!("is not a ", $name, " in range").into())
            }
            fn show(&self) -> String {
                self.to_string()
            }
            fn rank(&self) -> Option<f64> {
                Some(*self as f64)
            }
        }
    )+};
}

number!(i16 => "whole number", i32 => "whole number", i64 => "whole number", u32 => "whole number",
    u64 => "whole number", usize => "whole number");

impl OptionValue for f64 {
    const TYPE: &'static str = "number";

    fn parse(text: &str) -> Result<Self, String> {
        match text.trim().parse::<Self>() {
            Ok(number) if number.is_finite() => Ok(number),
            Ok(_) | Err(_) => Err("is not a number".into()),
        }
    }
    fn show(&self) -> String {
        self.to_string()
    }
    fn rank(&self) -> Option<f64> {
        Some(*self)
    }
}

impl OptionValue for bool {
    const TYPE: &'static str = "true or false";

    fn parse(text: &str) -> Result<Self, String> {
        match text.trim() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("is neither true nor false".into()),
        }
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl OptionValue for String {
    const TYPE: &'static str = "text";

    fn parse(text: &str) -> Result<Self, String> {
        if text.chars().any(char::is_control) {
            return Err("has a control character".into());
        }
        Ok(text.to_owned())
    }
    fn show(&self) -> String {
        self.clone()
    }
}

impl OptionValue for PathBuf {
    const TYPE: &'static str = "path";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is empty, a path is needed".into());
        }
        Ok(Self::from(text))
    }
    fn show(&self) -> String {
        self.display().to_string()
    }
}

/// An option that may be left out: the empty text.
impl<T: OptionValue> OptionValue for Option<T> {
    const TYPE: &'static str = T::TYPE;
    const SECRET: bool = T::SECRET;

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(None) } else { T::parse(text).map(Some) }
    }
    fn show(&self) -> String {
        self.as_ref().map(T::show).unwrap_or_default()
    }
    fn plain(&self) -> String {
        self.as_ref().map(T::plain).unwrap_or_default()
    }
    fn rank(&self) -> Option<f64> {
        self.as_ref().and_then(T::rank)
    }
}

/// A text that is never shown: not in logs, not in the effective configuration, not in errors.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// The text.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl OptionValue for Secret {
    const TYPE: &'static str = "secret";
    const SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self(text.to_owned()))
    }
    fn show(&self) -> String {
        "[redacted]".into()
    }
}

/// Makes an enum whose variants are written as fixed words.
macro_rules! choice {
    ($(#[$attribute:meta])* $vis:vis enum $name:ident { $($(#[$doc:meta])+ $variant:ident = $word:literal,)+ }) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $vis enum $name { $($(#[$doc])+ $variant,)+ }

        impl $crate::value::OptionValue for $name {
            const TYPE: &'static str = $crate::value::alternatives!($($word)+);

            fn parse(text: &str) -> Result<Self, String> {
                match text.trim() {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(concat!("is none of:" $(, " ", $word)+).into()),
                }
            }
            fn show(&self) -> String {
                match self { $(Self::$variant => $word.into(),)+ }
            }
        }
    };
}
pub(crate) use choice;

macro_rules! alternatives {
    ($first:literal $($more:literal)*) => { concat!("`", $first, "`" $(, " or `", $more, "`")*) };
}
pub(crate) use alternatives;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("0", 0),
            ("8388608", 8 << 20),
            ("8MiB", 8 << 20),
            ("1.5 KiB", 1536),
            ("2kB", 2000),
            ("1_000", 1000),
        ] {
            assert_eq!(ByteSize::parse(text), Ok(ByteSize::new(bytes)), "{text}");
        }
        for text in ["", "MiB", "-1", "8 mib", "1.0001KiB", "99999999999TiB", "1e3", "8MiB x"] {
            assert!(ByteSize::parse(text).is_err(), "{text}");
        }
        for bytes in [0, 1, 1023, 1024, 1536, 8 << 20, 3 << 40] {
            let size = ByteSize::new(bytes);
            assert_eq!(ByteSize::parse(&size.show()), Ok(size));
        }
        assert_eq!(ByteSize::new(8 << 20).show(), "8MiB");
    }

    #[test]
    fn durations_have_units_and_default_to_milliseconds() {
        for (text, micros) in [
            ("250", 250_000),
            ("250ms", 250_000),
            ("30s", 30_000_000),
            ("0", 0),
            ("0.5ms", 500),
            ("2h", 7_200_000_000),
        ] {
            assert_eq!(<Duration as OptionValue>::parse(text), Ok(Duration::from_micros(micros)), "{text}");
        }
        for text in ["", "-1", "ms", "5 minutes", "1e3", "NaN"] {
            assert!(<Duration as OptionValue>::parse(text).is_err(), "{text}");
        }
        for micros in [0, 1, 500, 250_000, 30_000_000, 86_400_000_000] {
            let duration = Duration::from_micros(micros);
            assert_eq!(<Duration as OptionValue>::parse(&duration.show()), Ok(duration));
        }
        assert_eq!(Duration::from_secs(30).show(), "30s");
    }

    #[test]
    fn a_secret_is_never_shown() {
        let secret = Secret::parse("hunter2").expect("any text is a secret");
        assert!(!format!("{secret:?} {}", secret.show()).contains("hunter2"));
        assert_eq!(secret.reveal(), "hunter2");
    }
}
