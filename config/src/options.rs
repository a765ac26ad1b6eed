//! The macro that makes, from one declaration, a component's struct, its defaults, its reading from text with range
//! checks, and its rows of the reference page.

use crate::value::OptionValue;

/// What the reference page says of an option.
#[derive(Debug, Clone, Copy)]
pub struct Definition {
    /// The option's key: lower-case words with dots between them.
    pub key: &'static str,
    /// The type's name.
    pub value_type: &'static str,
    /// The default as one would write it; empty for none.
    pub default: &'static str,
    /// The least and the greatest value allowed, as one would write them.
    pub range: Option<(&'static str, &'static str)>,
    /// What a bare number counts; empty where the type says it.
    pub unit: &'static str,
    /// What the option does, and what follows from a small or a large value: lines of Markdown.
    pub description: &'static [&'static str],
    /// Whether the value is never shown.
    pub secret: bool,
}

impl Definition {
    /// The environment variable of this option: `flush.interval.ms` is `PENSTOCK_FLUSH_INTERVAL_MS`.
    pub fn variable(&self) -> String {
        variable_of(self.key)
    }
}

/// The environment variable of the option `key`.
pub(crate) fn variable_of(key: &str) -> String {
    format!("{ENVIRONMENT_PREFIX}{}", key.replace('.', "_").to_ascii_uppercase())
}

/// What every environment variable of Penstock begins with.
pub const ENVIRONMENT_PREFIX: &str = "PENSTOCK_";

/// A group of options that one component reads.
pub trait Component: Default {
    /// What the component is, as the reference page heads it.
    const TITLE: &'static str;
    /// A paragraph about the component.
    const ABOUT: &'static [&'static str];
    /// Its options in the order of their declaration.
    const DEFINITIONS: &'static [Definition];

    /// Sets an option from text; `None` if this component has no such option. The error is a half-sentence that
    /// stands behind the value.
    fn set(&mut self, key: &str, text: &str) -> Option<Result<(), String>>;

    /// An option's value as text (a secret's is redacted); `None` if this component has no such option.
    fn show(&self, key: &str) -> Option<String>;

    /// An option's value without units: bytes, milliseconds; `None` if this component has no such option, or if the
    /// option is secret.
    fn plain(&self, key: &str) -> Option<String>;
}

/// Reads a value and checks its range.
pub(crate) fn parse_in_range<T: OptionValue>(
    text: &str,
    range: Option<(&'static str, &'static str)>,
) -> Result<T, String> {
    let value = T::parse(text)?;
    if let (Some((least, most)), Some(rank)) = (range, value.rank()) {
        let bound = |text| T::parse(text).ok().and_then(|bound| bound.rank());
        if bound(least).is_some_and(|least| rank < least) || bound(most).is_some_and(|most| rank > most) {
            return Err(format!("is out of range: {least} to {most} is allowed"));
        }
    }
    Ok(value)
}

/// Declares a component's options. Each reads
/// `/// description` `"key" => field: Type = "default", in "least" to "most", unit "unit";` (range and unit may be
/// left out). A default that doesn't parse or is out of range fails the crate's tests.
macro_rules! options {
    (
        $title:literal
        $(#[doc = $about:literal])+
        $vis:vis struct $name:ident {
            $(
                $(#[doc = $doc:literal])+
                $key:literal => $field:ident: $type:ty = $default:literal
                    $(, in $least:literal to $most:literal)? $(, unit $unit:literal)?;
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq)]
        $vis struct $name {
            $($(#[doc = $doc])+ pub $field: $type,)+
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $($field: <$type as $crate::value::OptionValue>::parse($default)
                        .expect("a declared default is a value of its type"),)+
                }
            }
        }

        impl $crate::options::Component for $name {
            const TITLE: &'static str = $title;
            const ABOUT: &'static [&'static str] = &[$($about),+];
            const DEFINITIONS: &'static [$crate::options::Definition] = &[
                $($crate::options::Definition {
                    key: $key,
                    value_type: <$type as $crate::value::OptionValue>::TYPE,
                    default: $default,
                    range: $crate::options::optional_pair!($($least, $most)?),
                    unit: concat!($($unit)?),
                    description: &[$($doc),+],
                    secret: <$type as $crate::value::OptionValue>::SECRET,
                },)+
            ];

            fn set(&mut self, key: &str, text: &str) -> Option<Result<(), String>> {
                let outcome = match key {
                    $($key => $crate::options::parse_in_range::<$type>(
                        text,
                        $crate::options::optional_pair!($($least, $most)?),
                    )
                    .map(|value| self.$field = value),)+
                    _ => return None,
                };
                Some(outcome)
            }

            fn show(&self, key: &str) -> Option<String> {
                match key {
                    $($key => Some(<$type as $crate::value::OptionValue>::show(&self.$field)),)+
                    _ => None,
                }
            }

            fn plain(&self, key: &str) -> Option<String> {
                match key {
                    $($key if !<$type as $crate::value::OptionValue>::SECRET => {
                        Some(<$type as $crate::value::OptionValue>::plain(&self.$field))
                    })+
                    _ => None,
                }
            }
        }
    };
}
pub(crate) use options;

macro_rules! optional_pair {
    () => {
        None
    };
    ($least:literal, $most:literal) => {
        Some(($least, $most))
    };
}
pub(crate) use optional_pair;
