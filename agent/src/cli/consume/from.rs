//! Where a consumer begins.

use std::str::FromStr;

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// The first record that is there.
    Beginning,
    /// Behind the last record.
    End,
    /// This offset.
    Offset(i64),
    /// So many records before the end of each partition.
    Last(i64),
    /// The first record with this timestamp, or a later one.
    Timestamp(i64),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || "write beginning, end, an offset, -N or @MILLISECONDS".to_owned();
        let number = |text: &str| match text.parse::<i64>() {
            Ok(number) if number >= 0 && text.starts_with(|c: char| c.is_ascii_digit()) => Ok(number),
            Ok(_) | Err(_) => Err(wrong()),
        };
        match text {
            "beginning" | "earliest" => Ok(Self::Beginning),
            "end" | "latest" => Ok(Self::End),
            _ => match text.split_at_checked(1) {
                Some(("-", count)) => number(count).map(Self::Last),
                Some(("@", timestamp)) => number(timestamp).map(Self::Timestamp),
                _ => number(text).map(Self::Offset),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read() {
        for (text, place) in [
            ("beginning", From::Beginning),
            ("latest", From::End),
            ("0", From::Offset(0)),
            ("-10", From::Last(10)),
            ("@1767225600000", From::Timestamp(1_767_225_600_000)),
        ] {
            assert_eq!(text.parse(), Ok(place));
        }
        for text in ["", "-", "@", "--1", "@-1", "+1", "x", "99999999999999999999"] {
            assert!(text.parse::<From>().is_err(), "{text}");
        }
    }
}
