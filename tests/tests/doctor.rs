//! `penstock doctor` on a real bucket: versions, and lifecycle rules that are missing, put, or in the way.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use penstock_storage::bucket::{BucketOptions, BucketSettings};
use penstock_tests::minio::Minio;
use penstock_tests::penstock;
use serde_json::Value;

const VERSIONED: &str = "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
    <Status>Enabled</Status></VersioningConfiguration>";

/// A document with one rule.
fn rules(id: &str, prefix: &str, action: &str) -> String {
    format!(
        "<LifecycleConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Rule><ID>{id}</ID><Status>Enabled</Status>\
         <Filter><Prefix>{prefix}</Prefix></Filter>{action}</Rule></LifecycleConfiguration>"
    )
}

/// What a doctor found: each check with its state and detail, and the exit code.
struct Found {
    checks: Vec<(String, String, String)>,
    code: Option<i32>,
}

impl Found {
    fn state(&self, name: &str) -> &str {
        self.checks.iter().find(|(known, ..)| known == name).map_or("not checked", |(_, state, _)| state)
    }

    fn detail(&self, name: &str) -> &str {
        self.checks.iter().find(|(known, ..)| known == name).map_or("", |(.., detail)| detail)
    }

    /// Of versioning, old versions, unfinished uploads and rules that delete.
    fn states(&self) -> [&str; 4] {
        ["versioning", "old versions", "unfinished uploads", "rules that delete"]
            .map(|name| self.state(&format!("bucket: {name}")))
    }
}

fn doctor(directory: &Path, environment: &[(String, String)], arguments: &[&str]) -> Result<Found> {
    let output = penstock()?
        .args(["doctor", "--output", "json", "--data-dir"])
        .arg(directory)
        .args(arguments)
        .envs(environment.iter().cloned())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let printed: Value = serde_json::from_str(&text)
        .with_context(|| format!("{text}{}", String::from_utf8_lossy(&output.stderr)))?;
    let text = |check: &Value, name: &str| check[name].as_str().unwrap_or_default().to_owned();
    let checks = printed.as_array().context("an array")?;
    let checks =
        checks.iter().map(|check| (text(check, "name"), text(check, "state"), text(check, "detail")));
    Ok(Found { checks: checks.collect(), code: output.status.code() })
}

/// The bucket's owner.
fn owner(minio: &Minio) -> Result<BucketSettings> {
    let environment = minio.environment(minio.port);
    let value =
        |name: &str| environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let mut options = BucketOptions::default();
    for name in
        ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL", "AWS_ALLOW_HTTP"]
    {
        options.s3_settings.insert(name.to_lowercase(), value(name).context(name)?);
    }
    let url = value("PENSTOCK_OBJECT_STORE").context("the bucket")?;
    BucketSettings::open(&url, &options)?.context("a bucket on S3")
}

#[test]
fn missing_rules_are_told_and_put_and_others_stay() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let Some(minio) = Minio::start(&directory.path().join("minio"))? else { return Ok(()) };
    let environment = minio.environment(minio.port);
    let data = directory.path().join("data");
    let owner = owner(&minio)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let put = |setting: &str, document: &str| runtime.block_on(owner.put_as_owner(setting, document));

    let fresh = doctor(&data, &environment, &[])?;
    ensure!(fresh.states() == ["ok", "not checked", "warning", "ok"], "{:?}", fresh.checks);
    ensure!(fresh.code == Some(0) && fresh.detail("bucket: versioning") == "off", "{:?}", fresh.checks);

    put("versioning", VERSIONED)?;
    let others = rules("logs", "logs/", "<Expiration><Days>7</Days></Expiration>");
    put("lifecycle", &others)?;
    let versioned = doctor(&data, &environment, &[])?;
    ensure!(versioned.states() == ["ok", "warning", "warning", "ok"], "{:?}", versioned.checks);
    ensure!(versioned.code == Some(0), "{:?}", versioned.checks);

    let set = doctor(&data, &environment, &["--set-lifecycle"])?;
    // MinIO takes rules for unfinished uploads and forgets them; it gives such uploads up by itself.
    ensure!(set.states() == ["ok", "ok", "skipped", "ok"] && set.code == Some(0), "{:?}", set.checks);
    ensure!(set.detail("bucket: set lifecycle") == "put \"penstock data/\"", "{:?}", set.checks);
    let known = runtime.block_on(owner.rules())?;
    let names: Vec<_> = known.lifecycle.rules().iter().map(|rule| (rule.id.as_str(), rule.expires)).collect();
    ensure!(names == [("logs", true), ("penstock data/", false)], "{names:?}");
    let again = doctor(&data, &environment, &["--set-lifecycle"])?;
    ensure!(again.detail("bucket: set lifecycle") == "no rule is missing", "{:?}", again.checks);

    put("lifecycle", &rules("old", "dat", "<Expiration><Days>30</Days></Expiration>"))?;
    let deleting = doctor(&data, &environment, &["--set-lifecycle"])?;
    ensure!(deleting.states() == ["ok", "ok", "skipped", "failed"], "{:?}", deleting.checks);
    ensure!(deleting.code == Some(1), "{:?}", deleting.checks);
    ensure!(
        deleting.detail("bucket: rules that delete").starts_with("\"old\" deletes"),
        "{:?}",
        deleting.checks
    );
    Ok(())
}

#[test]
fn a_directory_has_no_such_settings() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let url = format!("file://{}", directory.path().join("objects").display());
    for (arguments, set) in [
        (&["--object-store", &url][..], "not checked"),
        (&["--object-store", &url, "--set-lifecycle"], "skipped"),
    ] {
        let found = doctor(directory.path(), &[], arguments)?;
        ensure!(found.state("bucket: set lifecycle") == set, "{:?}", found.checks);
        ensure!(
            found.states() == ["skipped", "not checked", "not checked", "not checked"],
            "{:?}",
            found.checks
        );
        ensure!(found.code == Some(0), "{:?}", found.checks);
    }
    Ok(())
}
