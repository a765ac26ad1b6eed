//! What a bucket does to the agents' objects behind their backs: versions that it keeps, rules by which it deletes.
//!
//! Deliberately absent: the switching off of versioning, and the removal of anybody's rule: an owner has reasons for them.

use penstock_compaction::checkpoint::CHECKPOINTS_PREFIX;
use penstock_config::AgentConfig;
use penstock_storage::bucket::{
    BucketRules, BucketSettings, CLAIM_KEY, NewRule, RULE_ID_CHARS_MAX, Rule, SettingsError, Versioning,
};
use penstock_storage::object::OBJECTS_PREFIX;

use super::{Check, STEP, State};
use crate::start::bucket_options;

const VERSIONING: &str = "bucket: versioning";
const OLD_VERSIONS: &str = "bucket: old versions";
const UNFINISHED: &str = "bucket: unfinished uploads";
const RULES: &str = "bucket: rules that delete";
const SET: &str = "bucket: set lifecycle";
const ADVICE: &str = "`penstock doctor --set-lifecycle` puts a rule";
/// S3's shortest.
const RULE_DAYS: u32 = 1;
/// From these storage classes nothing can be read until somebody has it brought back.
const UNREADABLE: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];

/// The checks; with `set` the missing rules are put first.
pub(super) async fn check(config: &AgentConfig, set: bool) -> Vec<Check> {
    let url = config.object_store().to_string();
    let settings = match BucketSettings::open(&url, &bucket_options(&config.upload)) {
        Ok(Some(settings)) => settings,
        Ok(None) => {
            let names = [VERSIONING, SET].into_iter().take(if set { 2 } else { 1 });
            return names
                .map(|name| Check::skipped(name, "this store has neither versions nor rules"))
                .collect();
        }
        Err(error) => return vec![Check::new(VERSIONING, Err::<(), _>(error))],
    };
    let (versioning, mut rules) =
        (within_step(settings.versioning()).await, within_step(settings.rules()).await);
    let mut checks = Vec::new();
    if set {
        let (check, put) = put_missing(&settings, versioning.as_ref().ok(), &rules).await;
        checks.push(check);
        if put {
            rules = within_step(settings.rules()).await;
        }
    }
    checks.insert(0, of_versioning(&versioning));
    match &rules {
        Err(error) => checks.push(not_told(RULES, error)),
        Ok(rules) => checks.extend(judge(versioning.ok(), rules.lifecycle.rules(), settings.prefix())),
    }
    checks
}

async fn within_step<T>(asked: impl Future<Output = Result<T, SettingsError>>) -> Result<T, SettingsError> {
    let answered = tokio::time::timeout(STEP, asked).await;
    answered.unwrap_or_else(|_| Err(SettingsError::NoAnswer(format!("none within {} s", STEP.as_secs()))))
}

/// That a store can't tell, or doesn't tell us, is no fault of the bucket's; what was not asked at all, is.
fn not_told(name: &'static str, error: &SettingsError) -> Check {
    match error {
        SettingsError::NotKnown(_) | SettingsError::Denied { .. } => Check::skipped(name, error.to_string()),
        SettingsError::Refused(_) | SettingsError::NoAnswer(_) | SettingsError::Answer(_) => {
            Check::new(name, Err::<(), _>(error))
        }
    }
}

fn of_versioning(versioning: &Result<Versioning, SettingsError>) -> Check {
    let detail = match versioning {
        Err(error) => return not_told(VERSIONING, error),
        Ok(Versioning::Off) => "off",
        Ok(Versioning::On) => "on: what is deleted stays as an old version",
        Ok(Versioning::Suspended) => "suspended: old versions stay, deletions leave markers",
    };
    Check { name: VERSIONING, state: State::Ok, detail: detail.to_owned() }
}

/// Puts a rule for each part of the bucket in which one is missing. Whether anything was put.
async fn put_missing(
    settings: &BucketSettings,
    versioning: Option<&Versioning>,
    rules: &Result<BucketRules, SettingsError>,
) -> (Check, bool) {
    let failed = |error: &dyn std::fmt::Display| (Check::new(SET, Err::<(), _>(error.to_string())), false);
    let rules = match rules {
        Ok(rules) => rules,
        Err(error) => return failed(error),
    };
    let keys = keys_of_agents(settings.prefix());
    let known = rules.lifecycle.rules();
    // Where it isn't known whether there are versions, a rule for them does no harm.
    let is_versioned = versioning != Some(&Versioning::Off);
    let new = rules_of_ours(settings.prefix());
    // A store that doesn't keep all that a rule says would be asked again and again.
    let is_put = new.iter().all(|rule| known.iter().any(|known| known.id == rule.id && known.enabled));
    let is_missing = (is_versioned && old_versions_days(known, &keys).is_none())
        || (!is_put && unfinished_days(known, &keys).is_none());
    if !is_missing {
        return (Check { name: SET, state: State::Ok, detail: "no rule is missing".to_owned() }, false);
    }
    let mut put = rules.clone();
    for rule in &new {
        put.lifecycle = put.lifecycle.with(rule);
    }
    if let Err(error) = within_step(settings.put_rules(&put)).await {
        return failed(&error);
    }
    let names: Vec<_> = new.iter().map(|rule| format!("\"{}\"", rule.id)).collect();
    (Check { name: SET, state: State::Ok, detail: format!("put {}", names.join(", ")) }, true)
}

/// One for the prefix. Without a prefix others may have objects beside ours, so there is one for each kind of key.
fn rules_of_ours(prefix: &str) -> Vec<NewRule> {
    let prefixes = if prefix.is_empty() { keys_of_agents(prefix) } else { vec![format!("{prefix}/")] };
    let rule = |prefix: String| NewRule {
        id: format!("penstock {prefix}").chars().take(RULE_ID_CHARS_MAX).collect(),
        prefix,
        old_versions_days: RULE_DAYS,
        unfinished_uploads_days: RULE_DAYS,
    };
    prefixes.into_iter().map(rule).collect()
}

/// What the keys of agents' objects begin with.
fn keys_of_agents(prefix: &str) -> Vec<String> {
    let slash = if prefix.is_empty() { "" } else { "/" };
    [OBJECTS_PREFIX, CHECKPOINTS_PREFIX, CLAIM_KEY].map(|key| format!("{prefix}{slash}{key}")).to_vec()
}

/// After how many days no old version is left, nor a marker behind it; `None`: never.
fn old_versions_days(rules: &[Rule], keys: &[String]) -> Option<u32> {
    let days = |keys: &String| {
        let covering = || rules.iter().filter(|rule| rule.covers(keys));
        covering()
            .filter_map(|rule| rule.old_versions_days)
            .min()
            .filter(|_| covering().any(|rule| rule.removes_delete_markers))
    };
    keys.iter().map(days).try_fold(0, |most, days| Some(most.max(days?)))
}

fn unfinished_days(rules: &[Rule], keys: &[String]) -> Option<u32> {
    let days = |keys: &String| {
        rules.iter().filter(|rule| rule.covers(keys)).filter_map(|rule| rule.unfinished_uploads_days).min()
    };
    keys.iter().map(days).try_fold(0, |most, days| Some(most.max(days?)))
}

/// What the rules do to objects of agents.
fn judge(versioning: Option<Versioning>, rules: &[Rule], prefix: &str) -> Vec<Check> {
    let keys = keys_of_agents(prefix);
    let mut checks = Vec::new();
    if matches!(versioning, Some(Versioning::On | Versioning::Suspended)) {
        checks.push(match old_versions_days(rules, &keys) {
            Some(days) => Check { name: OLD_VERSIONS, state: State::Ok, detail: format!("deleted after {days} d") },
            None => {
                let what = format!(
                    "every object that agents delete is kept for ever as an old version, and paid for: switch \
                     versioning off or have old versions and expired delete markers deleted ({ADVICE})"
                );
                Check::warning(OLD_VERSIONS, what)
            }
        });
    }
    checks.push(unfinished_uploads(rules, prefix));
    checks.push(rules_that_delete(rules, &keys));
    checks
}

fn unfinished_uploads(rules: &[Rule], prefix: &str) -> Check {
    if let Some(days) = unfinished_days(rules, &keys_of_agents(prefix)) {
        return Check { name: UNFINISHED, state: State::Ok, detail: format!("given up after {days} d") };
    }
    let ours = rules_of_ours(prefix);
    if let Some(put) = rules.iter().find(|rule| rule.enabled && ours.iter().any(|ours| ours.id == rule.id)) {
        let why = format!(
            "{} is there without that: the store doesn't keep such rules (MinIO gives such uploads up by itself), or \
             somebody changed it",
            name(put)
        );
        return Check::skipped(UNFINISHED, why);
    }
    let what = format!(
        "agents upload each object in one request, but what other programs (copies, replication) begin to upload here \
         and don't finish is kept unseen, and paid for ({ADVICE})"
    );
    Check::warning(UNFINISHED, what)
}

/// Objects are deleted by agents alone, when nothing refers to them any more.
fn rules_that_delete(rules: &[Rule], keys: &[String]) -> Check {
    let reaching: Vec<&Rule> =
        rules.iter().filter(|rule| keys.iter().any(|keys| rule.reaches(keys))).collect();
    let expiring: Vec<_> = reaching.iter().filter(|rule| rule.expires).map(|rule| name(rule)).collect();
    let moves = |unreadable: bool| -> Vec<String> {
        let is_such = |class: &&String| UNREADABLE.contains(&class.as_str()) == unreadable;
        let named = |rule: &&Rule| {
            let classes: Vec<_> = rule.transitions.iter().filter(is_such).cloned().collect();
            (!classes.is_empty()).then(|| format!("{} to {}", name(rule), classes.join(", ")))
        };
        reaching.iter().filter_map(named).collect()
    };
    let (unreadable, slow) = (moves(true), moves(false));
    if !expiring.is_empty() {
        let what = format!("{} deletes objects that hold records: they would be lost", expiring.join(", "));
        return Check::new(RULES, Err::<(), _>(what));
    }
    if !unreadable.is_empty() {
        let what = format!("{} moves objects: records in them could not be read", unreadable.join("; "));
        return Check::new(RULES, Err::<(), _>(what));
    }
    if !slow.is_empty() {
        let what = format!(
            "{} moves objects: reading and early deletion cost extra there, and objects that are deleted within weeks \
             cost more than they save",
            slow.join("; ")
        );
        return Check::warning(RULES, what);
    }
    Check { name: RULES, state: State::Ok, detail: "none".to_owned() }
}

fn name(rule: &Rule) -> String {
    if rule.id.is_empty() { format!("the rule for \"{}\"", rule.prefix) } else { format!("\"{}\"", rule.id) }
}

#[cfg(test)]
mod tests {
    use penstock_storage::bucket::Lifecycle;

    use super::*;

    fn rules(inside: &[&str]) -> Lifecycle {
        let rule = |inside: &&str| format!("<Rule><ID>x</ID><Status>Enabled</Status>{inside}</Rule>");
        let rules: String = inside.iter().map(rule).collect();
        Lifecycle::parse(format!("<LifecycleConfiguration>{rules}</LifecycleConfiguration>")).expect("parses")
    }

    fn filter(prefix: &str) -> String {
        format!("<Filter><Prefix>{prefix}</Prefix></Filter>")
    }

    fn states(versioning: Versioning, inside: &[&str], prefix: &str) -> Vec<(&'static str, State)> {
        let judged = judge(Some(versioning), rules(inside).rules(), prefix);
        judged.into_iter().map(|check| (check.name, check.state)).collect()
    }

    #[test]
    fn a_versioned_bucket_needs_both_rules() {
        let none = [(OLD_VERSIONS, State::Warning), (UNFINISHED, State::Warning), (RULES, State::Ok)];
        assert_eq!(states(Versioning::On, &[], "kafka"), none);
        assert_eq!(states(Versioning::Suspended, &[], "kafka"), none);
        assert_eq!(states(Versioning::Off, &[], "kafka"), none[1..]);
        let old =
            "<NoncurrentVersionExpiration><NoncurrentDays>3</NoncurrentDays></NoncurrentVersionExpiration>";
        assert_eq!(states(Versioning::On, &[old], "kafka"), none, "markers stay");
        let markers = "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>";
        let both = states(Versioning::On, &[old, markers], "kafka");
        assert_eq!(both, [(OLD_VERSIONS, State::Ok), (UNFINISHED, State::Warning), (RULES, State::Ok)]);
        let elsewhere = format!("{}{old}{markers}", filter("kafka/objects/"));
        assert_eq!(states(Versioning::On, &[&elsewhere], "kafka"), none, "the claim isn't covered");
    }

    #[test]
    fn rules_that_take_objects_away_are_errors() {
        let expiry = |prefix| format!("{}<Expiration><Days>30</Days></Expiration>", filter(prefix));
        let state_of = |prefix, ours| {
            let expiry: String = expiry(prefix);
            states(Versioning::Off, &[&expiry], ours).last().expect("a check").1
        };
        for (prefix, ours) in
            [("", "kafka"), ("kaf", "kafka"), ("kafka/objects/00", "kafka"), ("objects/", ""), ("", "")]
        {
            assert_eq!(state_of(prefix, ours), State::Failed, "{prefix} {ours}");
        }
        for (prefix, ours) in [("kafka2/", "kafka"), ("kafka/doctor/", "kafka"), ("logs/", "")] {
            assert_eq!(state_of(prefix, ours), State::Ok, "{prefix} {ours}");
        }
        let to = |class: &str| {
            let moved =
                format!("<Transition><Days>1</Days><StorageClass>{class}</StorageClass></Transition>");
            states(Versioning::Off, &[&moved], "kafka").last().expect("a check").1
        };
        assert_eq!(to("DEEP_ARCHIVE"), State::Failed);
        assert_eq!(to("GLACIER"), State::Failed);
        assert_eq!(to("STANDARD_IA"), State::Warning);
    }

    #[test]
    fn rules_of_ours_are_what_is_missing() {
        for prefix in ["kafka", "a/b", ""] {
            let lifecycle =
                rules_of_ours(prefix).iter().fold(Lifecycle::default(), |known, rule| known.with(rule));
            let judged = judge(Some(Versioning::On), lifecycle.rules(), prefix);
            assert!(judged.iter().all(|check| check.state == State::Ok), "{judged:?}");
            assert!(lifecycle.rules().iter().all(|rule| !rule.covers("others/")), "{lifecycle:?}");
        }
    }
}
