//! Which names topics can have: Kafka's rules, in Kafka's words. Pure.

/// The longest name, in characters (which are bytes: only ASCII is allowed).
pub const LONGEST_NAME: usize = 249;

/// Why a name can't be a topic's (answered with INVALID_TOPIC_EXCEPTION).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It is empty.
    #[error("Topic name is invalid: the empty string is not allowed")]
    Empty,
    /// It is `.` or `..`.
    #[error("Topic name is invalid: '{0}' is not allowed")]
    Dots(String),
    /// It has more than [`LONGEST_NAME`] characters.
    #[error(
        "Topic name is invalid: the length of '{0}' is longer than the max allowed length {LONGEST_NAME}"
    )]
    TooLong(String),
    /// It has other characters.
    #[error(
        "Topic name is invalid: '{0}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
    )]
    Characters(String),
}

/// Checks a name.
///
/// # Errors
/// What is wrong with it.
pub fn validate_name(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name == "." || name == ".." {
        return Err(NameError::Dots(name.to_owned()));
    }
    // An error repeats the name: no more of it than a name could have.
    let shown = || name.chars().take(LONGEST_NAME + 1).collect::<String>();
    if name.chars().count() > LONGEST_NAME {
        return Err(NameError::TooLong(shown()));
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.bytes().all(allowed) { Ok(()) } else { Err(NameError::Characters(shown())) }
}

/// Whether Kafka keeps the name for topics of its own. Here what these hold is in the metadata store, so topics of
/// these names don't exist and can't be made.
pub fn is_internal(name: &str) -> bool {
    matches!(
        name,
        "__cluster_metadata" | "__consumer_offsets" | "__share_group_state" | "__transaction_state"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn kafkas_words() {
        let error = |name: &str| validate_name(name).expect_err(name).to_string();
        assert_eq!(error(""), "Topic name is invalid: the empty string is not allowed");
        assert_eq!(error(".."), "Topic name is invalid: '..' is not allowed");
        assert_eq!(
            error("a b"),
            "Topic name is invalid: 'a b' contains one or more characters other than ASCII alphanumerics, '.', '_' \
             and '-'"
        );
        let long = "a".repeat(250);
        assert_eq!(
            error(&long),
            format!(
                "Topic name is invalid: the length of '{long}' is longer than the max allowed length 249"
            )
        );
        assert_eq!(validate_name(&"a".repeat(249)), Ok(()));
        assert!(error(&"a".repeat(1_000_000)).len() < 1_000);
    }

    proptest! {
        #[test]
        fn a_name_is_legal_exactly_if_kafka_says_so(name in "[a-zA-Z0-9._\\- /ä]{0,12}") {
            let legal = !name.is_empty()
                && name != "."
                && name != ".."
                && name.chars().all(|char| char.is_ascii_alphanumeric() || ".-_".contains(char));
            prop_assert_eq!(validate_name(&name).is_ok(), legal);
        }

        #[test]
        fn any_text_is_answered(name: String) {
            let _ = validate_name(&name).map_err(|error| error.to_string());
        }
    }
}
