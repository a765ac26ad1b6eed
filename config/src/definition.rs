//! How one of Kafka's options is defined: its type, default, range, what it does here, and how its text is read.
//!
//! Text is read as Kafka reads it (surrounding blanks dropped, booleans in any case, lists split at commas), and
//! what is wrong is said in Kafka's words, since clients show and sometimes match them. Deliberately absent: where
//! a value comes from (see [`crate::broker`]).

use std::fmt;

/// The type of an option's value, as DescribeConfigs reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigType {
    /// `true` or `false`.
    Boolean,
    /// Text.
    String,
    /// 32 bits.
    Int,
    /// 16 bits.
    Short,
    /// 64 bits.
    Long,
    /// A floating-point number.
    Double,
    /// Texts, separated by commas.
    List,
}

impl ConfigType {
    /// The number of the type on the wire (KIP-133's ConfigType).
    pub const fn wire(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::String => 2,
            Self::Int => 3,
            Self::Short => 4,
            Self::Long => 5,
            Self::Double => 6,
            Self::List => 7,
        }
    }

    /// Kafka's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Boolean => "BOOLEAN",
            Self::String => "STRING",
            Self::Int => "INT",
            Self::Short => "SHORT",
            Self::Long => "LONG",
            Self::Double => "DOUBLE",
            Self::List => "LIST",
        }
    }
}

/// What an option's value must satisfy beyond its type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Validator {
    /// Nothing.
    Any,
    /// A number not below.
    AtLeast(i64),
    /// A number not below the first and not above the second.
    Between(i64, i64),
    /// A floating-point number within both bounds.
    DoubleBetween(f64, f64),
    /// Within both bounds, or -1.
    BetweenOrMinusOne(i64, i64),
    /// One of the texts.
    OneOf(&'static [&'static str]),
    /// A list of nothing but these.
    EachOf(&'static [&'static str]),
    /// A list of `partition:broker`, or `*` alone.
    ThrottledReplicas,
}

impl fmt::Display for Validator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::AtLeast(least) => write!(f, "at least {least}"),
            Self::Between(least, most) => write!(f, "{least} to {most}"),
            Self::DoubleBetween(least, most) => write!(f, "{least} to {most}"),
            Self::BetweenOrMinusOne(least, most) => write!(f, "{least} to {most}, or -1"),
            Self::OneOf(texts) => write!(f, "one of {}", texts.join(", ")),
            Self::EachOf(texts) => write!(f, "each one of {}", texts.join(", ")),
            Self::ThrottledReplicas => f.write_str("partition:broker, …, or *"),
        }
    }
}

/// What an option does here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// What it says.
    Honoured,
    /// Nothing, since the storage gives no occasion for it: validated, kept and returned.
    Vacuous,
    /// Nothing so far: validated, kept and returned, for the job that will follow it.
    NotYet,
    /// Any value but the default is refused, with the reason.
    Refused(&'static str),
}

impl Support {
    /// The class's name in the reference pages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Honoured => "honoured",
            Self::Vacuous => "vacuous",
            Self::NotYet => "not yet",
            Self::Refused(_) => "refused",
        }
    }
}

/// One option.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Definition {
    /// Kafka's name.
    pub name: &'static str,
    /// The type.
    pub kind: ConfigType,
    /// The default, in its stored form; `None` where it has none ("null").
    pub default: Option<&'static str>,
    /// Further conditions.
    pub validator: Validator,
    /// What it does here.
    pub support: Support,
    /// Unit and consequence, for people.
    pub documentation: &'static str,
}

/// A value read from text.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of a [`ConfigType::Boolean`].
    Boolean(bool),
    /// Of the integer types.
    Integer(i64),
    /// Of a [`ConfigType::Double`].
    Double(f64),
    /// Of a [`ConfigType::String`].
    String(String),
    /// Of a [`ConfigType::List`].
    List(Vec<String>),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Integer(value) => write!(f, "{value}"),
            // As Java prints doubles: always with a fraction.
            Self::Double(value) => write!(f, "{value:?}"),
            Self::String(value) => f.write_str(value),
            Self::List(values) => f.write_str(&values.join(",")),
        }
    }
}

/// Why a value was refused; the texts are Kafka's (answered with INVALID_CONFIG).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No topic option has this name.
    #[error("Unknown topic config name: {name}")]
    UnknownTopicConfig {
        /// The name asked for.
        name: String,
    },
    /// No broker option has this name.
    #[error("Unknown broker config name: {name}")]
    UnknownBrokerConfig {
        /// The name asked for.
        name: String,
    },
    /// The value does not fit the option.
    #[error("Invalid value {value} for configuration {name}: {reason}")]
    InvalidValue {
        /// The option.
        name: String,
        /// Its would-be value.
        value: String,
        /// What is wrong.
        reason: String,
    },
    /// Options that exclude one another.
    #[error("{reason}")]
    Conflict {
        /// Which, and why.
        reason: String,
    },
}

impl Definition {
    /// Reads and checks `text`.
    pub fn parse(&self, text: &str) -> Result<Value, ConfigError> {
        let value = self.read(text.trim())?;
        self.validate(&value)?;
        if let Support::Refused(reason) = self.support
            && Some(value.to_string().as_str()) != self.default
        {
            return Err(ConfigError::Conflict { reason: reason.to_owned() });
        }
        Ok(value)
    }

    fn invalid(&self, value: &dyn fmt::Display, reason: impl Into<String>) -> ConfigError {
        ConfigError::InvalidValue {
            name: self.name.to_owned(),
            value: value.to_string(),
            reason: reason.into(),
        }
    }

    fn read(&self, text: &str) -> Result<Value, ConfigError> {
        let integer = |least: i64, most: i64| {
            let number = text.parse::<i64>().ok().filter(|number| (least..=most).contains(number));
            number
                .map(Value::Integer)
                .ok_or_else(|| self.invalid(&text, format!("Not a number of type {}", self.kind.name())))
        };
        match self.kind {
            ConfigType::Boolean if text.eq_ignore_ascii_case("true") => Ok(Value::Boolean(true)),
            ConfigType::Boolean if text.eq_ignore_ascii_case("false") => Ok(Value::Boolean(false)),
            ConfigType::Boolean => Err(self.invalid(&text, "Expected value to be either true or false")),
            ConfigType::String => Ok(Value::String(text.to_owned())),
            ConfigType::Short => integer(i64::from(i16::MIN), i64::from(i16::MAX)),
            ConfigType::Int => integer(i64::from(i32::MIN), i64::from(i32::MAX)),
            ConfigType::Long => integer(i64::MIN, i64::MAX),
            ConfigType::Double => match text.parse::<f64>() {
                Ok(number) => Ok(Value::Double(number)),
                Err(_) => Err(self.invalid(&text, "Not a number of type DOUBLE")),
            },
            ConfigType::List if text.is_empty() => Ok(Value::List(Vec::new())),
            ConfigType::List => Ok(Value::List(text.split(',').map(|item| item.trim().to_owned()).collect())),
        }
    }

    fn validate(&self, value: &Value) -> Result<(), ConfigError> {
        let range = |number: i64, least: i64, most: i64| {
            if number < least {
                Err(self.invalid(value, format!("Value must be at least {least}")))
            } else if number > most {
                Err(self.invalid(value, format!("Value must be no more than {most}")))
            } else {
                Ok(())
            }
        };
        match (self.validator, value) {
            (Validator::AtLeast(least), Value::Integer(number)) => range(*number, least, i64::MAX),
            (Validator::Between(least, most), Value::Integer(number)) => range(*number, least, most),
            (Validator::BetweenOrMinusOne(_, _), Value::Integer(-1)) => Ok(()),
            (Validator::BetweenOrMinusOne(least, most), Value::Integer(number)) => {
                if (least..=most).contains(number) {
                    return Ok(());
                }
                Err(self.invalid(value, format!("Value must be between {least} and {most} or equal to -1")))
            }
            (Validator::DoubleBetween(least, most), Value::Double(number)) => {
                if number.is_nan() || *number < least {
                    Err(self.invalid(value, format!("Value must be at least {least}")))
                } else if *number > most {
                    Err(self.invalid(value, format!("Value must be no more than {most}")))
                } else {
                    Ok(())
                }
            }
            (Validator::OneOf(texts), Value::String(text)) if !texts.contains(&text.as_str()) => {
                Err(self.invalid(value, format!("String must be one of: {}", texts.join(", "))))
            }
            (Validator::EachOf(texts), Value::List(items)) => {
                match items.iter().find(|item| !texts.contains(&item.as_str())) {
                    Some(item) => {
                        Err(self.invalid(item, format!("String must be one of: {}", texts.join(", "))))
                    }
                    None => Ok(()),
                }
            }
            (Validator::ThrottledReplicas, Value::List(items)) => {
                if is_throttled_replicas(items) {
                    Ok(())
                } else {
                    let reason = format!(
                        "{} must be the literal '*' or a list of replicas in the following format: \
                         [partitionId]:[brokerId],[partitionId]:[brokerId],...",
                        self.name
                    );
                    Err(self.invalid(&format!("[{}]", items.join(", ")), reason))
                }
            }
            _ => Ok(()),
        }
    }
}

fn is_throttled_replicas(items: &[String]) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let pair =
        |item: &String| item.split_once(':').is_some_and(|(left, right)| number(left) && number(right));
    match items {
        [only] if only == "*" => true,
        items => items.iter().all(pair),
    }
}
