//! How a set of options changes: replaced whole, or by operations (KIP-339). Pure.

use std::collections::BTreeSet;

use penstock_config::broker::Layer;
use penstock_config::definition::ConfigType;

/// One operation on one option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// It gets this value.
    Set(String),
    /// It loses its value.
    Delete,
    /// A list gets these items, if it hasn't got them.
    Append(String),
    /// A list loses these items.
    Subtract(String),
}

/// A change of a set of options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alteration {
    /// These are all there are afterwards.
    Replace(Layer),
    /// These operations, each on another option.
    Increment(Vec<(String, Operation)>),
}

/// Why a change makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AlterError {
    /// Only lists can be appended to and subtracted from.
    #[error("Can't {operation} to key {name} because its type is not LIST.")]
    NotAList {
        /// Which operation.
        operation: &'static str,
        /// The option.
        name: String,
    },
}

/// What an alteration needs to know of options.
pub(super) trait Options {
    /// The type of an option, if there is one of this name.
    fn kind(&self, name: &str) -> Option<ConfigType>;
    /// What is in force where a set has no value of its own.
    fn inherited(&self, name: &str) -> Option<String>;
}

impl Alteration {
    /// The options after the change of `current`. Not validated.
    pub(super) fn apply(&self, current: &Layer, options: &dyn Options) -> Result<Layer, AlterError> {
        match self {
            Self::Replace(configs) => Ok(configs.clone()),
            Self::Increment(operations) => {
                let mut configs = current.clone();
                for (name, operation) in operations {
                    operation.apply(name, &mut configs, options)?;
                }
                Ok(configs)
            }
        }
    }

    /// Names of the options that get a value by it.
    pub(super) fn set_names(&self) -> BTreeSet<&str> {
        match self {
            Self::Replace(configs) => configs.keys().map(String::as_str).collect(),
            Self::Increment(operations) => {
                let kept = operations.iter().filter(|(_, operation)| *operation != Operation::Delete);
                kept.map(|(name, _)| name.as_str()).collect()
            }
        }
    }
}

impl Operation {
    fn apply(&self, name: &str, configs: &mut Layer, options: &dyn Options) -> Result<(), AlterError> {
        let value = match self {
            Self::Delete => {
                configs.remove(name);
                return Ok(());
            }
            Self::Set(value) => value.clone(),
            Self::Append(items) => {
                let mut list = list_of(name, "APPEND", configs, options)?;
                for item in items_of(items) {
                    if !list.contains(&item) {
                        list.push(item);
                    }
                }
                list.join(",")
            }
            Self::Subtract(items) => {
                let mut list = list_of(name, "SUBTRACT", configs, options)?;
                let items = items_of(items);
                list.retain(|item| !items.contains(item));
                list.join(",")
            }
        };
        configs.insert(name.to_owned(), value);
        Ok(())
    }
}

fn list_of(
    name: &str,
    operation: &'static str,
    configs: &Layer,
    options: &dyn Options,
) -> Result<Vec<String>, AlterError> {
    if options.kind(name) != Some(ConfigType::List) {
        return Err(AlterError::NotAList { operation, name: name.to_owned() });
    }
    let own = configs.get(name).cloned();
    Ok(items_of(&own.or_else(|| options.inherited(name)).unwrap_or_default()))
}

fn items_of(text: &str) -> Vec<String> {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    items.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Lists;

    impl Options for Lists {
        fn kind(&self, name: &str) -> Option<ConfigType> {
            match name {
                "list" => Some(ConfigType::List),
                "number" => Some(ConfigType::Long),
                _ => None,
            }
        }
        fn inherited(&self, name: &str) -> Option<String> {
            (name == "list").then(|| "delete".to_owned())
        }
    }

    fn layer(pairs: &[(&str, &str)]) -> Layer {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn increment(current: &Layer, name: &str, operation: Operation) -> Result<Layer, AlterError> {
        Alteration::Increment(vec![(name.to_owned(), operation)]).apply(current, &Lists)
    }

    #[test]
    fn lists_begin_with_what_is_inherited() {
        let none = Layer::new();
        let appended = increment(&none, "list", Operation::Append("compact, delete".to_owned()));
        assert_eq!(appended.expect("a list"), layer(&[("list", "delete,compact")]));
        let emptied = increment(&none, "list", Operation::Subtract("delete".to_owned()));
        assert_eq!(emptied.expect("a list"), layer(&[("list", "")]));
        let own = layer(&[("list", "a, b")]);
        let subtracted = increment(&own, "list", Operation::Subtract("b,c".to_owned()));
        assert_eq!(subtracted.expect("a list"), layer(&[("list", "a")]));
    }

    #[test]
    fn only_lists_are_appended_to() {
        for name in ["number", "nope"] {
            let refused = increment(&Layer::new(), name, Operation::Append("1".to_owned()));
            assert_eq!(
                refused.expect_err("not a list").to_string(),
                format!("Can't APPEND to key {name} because its type is not LIST.")
            );
        }
        let deleted = increment(&layer(&[("nope", "1")]), "nope", Operation::Delete);
        assert_eq!(deleted.expect("anything can be deleted"), Layer::new());
    }

    proptest! {
        #[test]
        fn appending_and_subtracting_twice_is_once(
            own in "[a-d,]{0,8}", items in "[a-d,]{0,8}", subtract: bool
        ) {
            let operation = || if subtract { Operation::Subtract(items.clone()) } else { Operation::Append(items.clone()) };
            let once = increment(&layer(&[("list", &own)]), "list", operation()).expect("a list");
            prop_assert_eq!(increment(&once, "list", operation()).expect("a list"), once);
        }
    }
}
