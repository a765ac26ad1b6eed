//! A bucket's lifecycle rules: what S3 does by itself to objects that are old, replaced or never finished.
//!
//! Others' rules are kept byte by byte, whatever they say: a document is changed where a rule of ours is put, and
//! nowhere else.
//!
//! Deliberately absent: what is good for whom; `penstock doctor` judges.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketLifecycleConfiguration.html>.

use std::ops::Range;

use quick_xml::escape::escape;

use super::xml::{self, Element};

const EMPTY: &str =
    "<LifecycleConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"></LifecycleConfiguration>";
/// The longest name of a rule, by S3's limit.
pub const RULE_ID_CHARS_MAX: usize = 255;

/// The rules of a bucket, and the document that they were read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifecycle {
    rules: Vec<Rule>,
    document: String,
    root: Element,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name; empty if it has none.
    pub id: String,
    /// Whether it is in force.
    pub enabled: bool,
    /// Keys begin with it.
    pub prefix: String,
    /// Only objects with certain tags; agents' objects have none.
    pub of_tagged: bool,
    /// Only objects of certain sizes, or with conditions that aren't known here.
    pub of_some: bool,
    /// Current objects are deleted at an age or at a date.
    pub expires: bool,
    /// Delete markers go when no version is left behind them.
    pub removes_delete_markers: bool,
    /// The storage classes that current objects move to.
    pub transitions: Vec<String>,
    /// Versions that aren't current are deleted after so many days, all of them.
    pub old_versions_days: Option<u32>,
    /// Multipart uploads that weren't completed are given up after so many days.
    pub unfinished_uploads_days: Option<u32>,
    span: Range<usize>,
}

/// What a rule of ours says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRule {
    /// Its name, of [`RULE_ID_CHARS_MAX`] at most. A rule of this name is replaced.
    pub id: String,
    /// Keys begin with it.
    pub prefix: String,
    /// See [`Rule::old_versions_days`]; delete markers go, too.
    pub old_versions_days: u32,
    /// See [`Rule::unfinished_uploads_days`].
    pub unfinished_uploads_days: u32,
}

impl Default for Lifecycle {
    /// No rules.
    fn default() -> Self {
        Self::parse(EMPTY.to_owned()).expect("a document without rules")
    }
}

impl Lifecycle {
    /// Reads a document; the error says what is wrong with it.
    pub fn parse(document: String) -> Result<Self, String> {
        let root = xml::parse(&document)?;
        if root.name != "LifecycleConfiguration" {
            return Err(format!("it is of {}", root.name));
        }
        if root.end_tag.is_none() {
            return Ok(Self::default());
        }
        let rules = root.children.iter().filter(|child| child.name == "Rule");
        let rules = rules.map(Rule::read).collect::<Result<_, _>>()?;
        Ok(Self { rules, document, root })
    }

    /// In the document's order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// As S3 takes it.
    pub fn document(&self) -> &str {
        &self.document
    }

    /// With a rule more, instead of those of its name.
    #[must_use]
    pub fn with(&self, rule: &NewRule) -> Self {
        let end = self.root.end_tag.expect("checked when it was read");
        let mut document = String::with_capacity(self.document.len() + 512);
        let mut kept = 0;
        for replaced in self.rules.iter().filter(|known| known.id == rule.id) {
            document.push_str(&self.document[kept..replaced.span.start]);
            kept = replaced.span.end;
        }
        document.push_str(&self.document[kept..end]);
        document.push_str(&rule.write(&self.root.name_prefix));
        document.push_str(&self.document[end..]);
        Self::parse(document).expect("what was read, with a rule that is read")
    }
}

impl Rule {
    fn read(element: &Element) -> Result<Self, String> {
        let id = element.child_text("ID").unwrap_or_default().to_owned();
        let wrong = |what: &str| format!("rule \"{id}\": {what}");
        let enabled = match element.child_text("Status") {
            Some("Enabled") => true,
            Some("Disabled") => false,
            _ => return Err(wrong("its status is neither Enabled nor Disabled")),
        };
        let filter = Filter::read(element);
        let expiration = element.child("Expiration");
        let in_expiration = |name: &str| expiration.and_then(|expiration| expiration.child_text(name));
        let transitions = element.children.iter().filter(|child| child.name == "Transition");
        let storage_class = |of: &Element| of.child_text("StorageClass").unwrap_or_default().to_owned();
        let old_versions = element.child("NoncurrentVersionExpiration");
        // Who keeps some of the newest keeps them for ever.
        let keeps = old_versions.and_then(|of| of.child_text("NewerNoncurrentVersions"));
        let keeps_some = keeps.is_some_and(|number| number.parse() != Ok(0_u32));
        let unfinished = element.child("AbortIncompleteMultipartUpload");
        Ok(Self {
            enabled,
            prefix: filter.prefix,
            of_tagged: filter.of_tagged,
            of_some: filter.of_some,
            expires: ["Days", "Date"].iter().any(|name| in_expiration(name).is_some()),
            removes_delete_markers: in_expiration("ExpiredObjectDeleteMarker") == Some("true"),
            transitions: transitions.map(storage_class).collect(),
            old_versions_days: days(old_versions, "NoncurrentDays").map_err(&wrong)?.filter(|_| !keeps_some),
            unfinished_uploads_days: days(unfinished, "DaysAfterInitiation").map_err(&wrong)?,
            span: element.span.clone(),
            id,
        })
    }

    /// Whether it is in force for objects (of agents: without tags) of which the keys begin with `keys`, or some of them.
    pub fn reaches(&self, keys: &str) -> bool {
        self.enabled && !self.of_tagged && (keys.starts_with(&self.prefix) || self.prefix.starts_with(keys))
    }

    /// Whether it is in force for all of them.
    pub fn covers(&self, keys: &str) -> bool {
        self.enabled && !self.of_tagged && !self.of_some && keys.starts_with(&self.prefix)
    }
}

impl NewRule {
    /// With the namespace's prefix that the document's elements have.
    fn write(&self, name_prefix: &str) -> String {
        let tag = |name: &str, inside: &str| format!("<{name_prefix}{name}>{inside}</{name_prefix}{name}>");
        let number = |name: &str, number: u32| tag(name, &number.to_string());
        let parts = [
            tag("ID", &escape(self.id.as_str())),
            tag("Filter", &tag("Prefix", &escape(self.prefix.as_str()))),
            tag("Status", "Enabled"),
            tag("Expiration", &tag("ExpiredObjectDeleteMarker", "true")),
            tag("NoncurrentVersionExpiration", &number("NoncurrentDays", self.old_versions_days)),
            tag(
                "AbortIncompleteMultipartUpload",
                &number("DaysAfterInitiation", self.unfinished_uploads_days),
            ),
        ];
        tag("Rule", &parts.concat())
    }
}

/// Which objects a rule is for.
#[derive(Debug, Default)]
struct Filter {
    prefix: String,
    of_tagged: bool,
    of_some: bool,
}

impl Filter {
    /// `Filter` with one condition, or with several in an `And`; the form before that is a `Prefix` of the rule.
    fn read(rule: &Element) -> Self {
        let mut read =
            Self { prefix: rule.child_text("Prefix").unwrap_or_default().to_owned(), ..Self::default() };
        let filter = rule.child("Filter");
        for condition in
            filter.map(|filter| filter.child("And").unwrap_or(filter)).into_iter().flat_map(|of| &of.children)
        {
            match condition.name.as_str() {
                "Prefix" => read.prefix.clone_from(&condition.text),
                "Tag" => read.of_tagged = true,
                _ => read.of_some = true,
            }
        }
        read
    }
}

/// The days that an action of a rule waits; without a number it is no action at all.
fn days(action: Option<&Element>, name: &str) -> Result<Option<u32>, &'static str> {
    let Some(text) = action.and_then(|action| action.child_text(name)) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| "its days are no number")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHERS: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<LifecycleConfiguration xmlns=\"x\">\n  <Rule><ID>logs</ID>\
        <Prefix>logs/</Prefix><Status>Enabled</Status><Expiration><Days>7</Days></Expiration></Rule><!-- kept -->\
        <Rule><ID>cold &amp; big</ID><Filter><And><Prefix>k</Prefix><ObjectSizeGreaterThan>5</ObjectSizeGreaterThan></And>\
        </Filter><Status>Enabled</Status><Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition>\
        <FutureAction>x</FutureAction></Rule><Rule><Filter><Tag><Key>a</Key><Value>b</Value></Tag></Filter>\
        <Status>Disabled</Status><NoncurrentVersionExpiration><NewerNoncurrentVersions>2</NewerNoncurrentVersions>\
        <NoncurrentDays>3</NoncurrentDays></NoncurrentVersionExpiration></Rule></LifecycleConfiguration>";

    fn read(document: &str) -> Lifecycle {
        Lifecycle::parse(document.to_owned()).expect("parses")
    }

    fn ours(days: u32) -> NewRule {
        let (id, prefix) = ("ours".to_owned(), "kafka/".to_owned());
        NewRule { id, prefix, old_versions_days: days, unfinished_uploads_days: 2 }
    }

    #[test]
    fn rules_are_read() {
        let lifecycle = read(OTHERS);
        let [logs, cold, tagged] = lifecycle.rules() else { panic!("{lifecycle:?}") };
        assert_eq!(
            (logs.id.as_str(), logs.prefix.as_str(), logs.enabled, logs.expires),
            ("logs", "logs/", true, true)
        );
        assert_eq!((cold.id.as_str(), cold.of_some, cold.expires), ("cold & big", true, false));
        assert_eq!(cold.transitions, ["GLACIER"]);
        assert_eq!((tagged.enabled, tagged.of_tagged, tagged.old_versions_days), (false, true, None));
    }

    #[test]
    fn a_rule_reaches_keys_under_its_prefix_and_around_it() {
        let lifecycle = read(OTHERS);
        let [logs, cold, tagged] = lifecycle.rules() else { panic!("{lifecycle:?}") };
        assert!(logs.reaches("logs/a/") && logs.reaches("log") && !logs.reaches("kafka/"));
        assert!(logs.covers("logs/a/") && !logs.covers("log"));
        assert!(cold.reaches("kafka/") && !cold.covers("kafka/"));
        assert!(!tagged.reaches("kafka/") && !tagged.covers("kafka/"));
    }

    #[test]
    fn a_rule_of_ours_leaves_all_others_as_they_are() {
        let with = read(OTHERS).with(&ours(1));
        let added = with.rules().last().expect("a rule");
        assert_eq!((added.old_versions_days, added.unfinished_uploads_days), (Some(1), Some(2)));
        assert!(added.removes_delete_markers && !added.expires && added.covers("kafka/objects/"));
        let rule = &with.document()[added.span.clone()];
        assert_eq!(with.document().replace(rule, ""), OTHERS);
    }

    #[test]
    fn a_rule_of_the_same_name_is_replaced() {
        let once = read(OTHERS).with(&ours(1));
        let twice = once.with(&ours(9));
        assert_eq!(twice.rules().len(), 4);
        assert_eq!(twice.rules()[3].old_versions_days, Some(9));
        assert_eq!(once, twice.with(&ours(1)));
    }

    #[test]
    fn a_document_without_rules_gets_one_and_namespaces_stay() {
        assert_eq!(Lifecycle::default().with(&ours(1)).rules().len(), 1);
        assert_eq!(read("<LifecycleConfiguration/>").with(&ours(1)).rules().len(), 1);
        let prefixed =
            read("<s3:LifecycleConfiguration xmlns:s3=\"x\"></s3:LifecycleConfiguration>").with(&ours(1));
        assert!(prefixed.document().contains("<s3:Rule><s3:ID>ours</s3:ID>"), "{}", prefixed.document());
        assert_eq!(prefixed.rules()[0].old_versions_days, Some(1));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let rule =
            |inside: &str| format!("<LifecycleConfiguration><Rule>{inside}</Rule></LifecycleConfiguration>");
        let days = "<Status>Enabled</Status><AbortIncompleteMultipartUpload><DaysAfterInitiation>x</DaysAfterInitiation>\
                    </AbortIncompleteMultipartUpload>";
        for document in ["<Error/>".to_owned(), rule(""), rule("<Status>On</Status>"), rule(days)] {
            Lifecycle::parse(document.clone()).expect_err(&document);
        }
    }
}
