//! What can be checked of the house's rules is checked: dependencies point one way, and libraries that are to be
//! replaceable are imported in one place.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Each crate and what it may depend on.
const EDGES: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("config", &["types"]),
    ("metadata", &["types", "config"]),
    ("storage", &["types", "config"]),
    ("compaction", &["types", "config", "metadata", "storage"]),
    ("agent", &["types", "config", "metadata", "storage", "compaction"]),
    ("tests", &["types", "config", "metadata", "storage", "compaction", "agent"]),
];

/// A library and the only places that may import it: path prefixes from the workspace's root.
const IMPORTS: &[(&str, &[&str])] = &[
    ("object_store", &["storage/src/bucket"]),
    ("aws_sdk_s3", &["storage/src/bucket/admin"]),
    ("foundationdb", &["metadata/src/kv/foundationdb"]),
    ("fjall", &["metadata/src/kv/embedded"]),
    (
        "kafka_protocol",
        &[
            "agent/src/api",
            "agent/src/wire",
            "agent/src/server",
            "agent/src/fuzzing.rs",
            "agent/fuzz",
            "tests/",
        ],
    ),
    ("rdkafka", &["agent/src/cli", "tests/"]),
    ("anyhow", &["agent/src/main.rs", "tests/"]),
    ("axum", &["agent/src/http"]),
    ("prometheus_client", &["agent/src/metrics"]),
];

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("this crate is in the workspace's root").to_owned()
}

/// The workspace's own crates that a crate's manifest names, in any table of dependencies.
fn dependencies(crate_name: &str) -> Vec<String> {
    let manifest = root().join(crate_name).join("Cargo.toml");
    let text = fs::read_to_string(&manifest).expect("each crate has a manifest");
    let table: toml::Table = text.parse().expect("a manifest is TOML");
    let mut found = Vec::new();
    for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let names = table.get(kind).and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::keys);
        found.extend(names.filter_map(|name| name.strip_prefix("penstock-")).map(str::to_owned));
    }
    // A crate may name itself to switch a feature on for its own tests.
    found.retain(|name| name != crate_name);
    found
}

#[test]
fn dependencies_point_one_way() {
    for (crate_name, allowed) in EDGES {
        for dependency in dependencies(crate_name) {
            assert!(allowed.contains(&dependency.as_str()), "{crate_name} must not depend on {dependency}");
        }
    }
}

#[test]
fn every_crate_has_its_place() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the workspace has a manifest");
    let table: toml::Table = manifest.parse().expect("a manifest is TOML");
    let members = table["workspace"]["members"].as_array().expect("members are a list");
    for member in members {
        let member = member.as_str().expect("a member is a path");
        assert!(EDGES.iter().any(|(name, _)| *name == member), "{member} has no row in EDGES");
    }
}

#[test]
fn libraries_are_imported_where_they_may_be() {
    let mut wrong = BTreeMap::new();
    for (crate_name, _) in EDGES {
        for file in sources(&root().join(crate_name)) {
            let path =
                file.strip_prefix(root()).expect("below the root").to_string_lossy().replace('\\', "/");
            // This file names all libraries.
            if path == "tests/tests/house_rules.rs" {
                continue;
            }
            let text = fs::read_to_string(&file).expect("a source file is text");
            for (library, places) in IMPORTS {
                if !places.iter().any(|place| path.starts_with(place))
                    && let Some(line) = first_use(&text, library)
                {
                    wrong.insert(format!("{path}:{line}"), format!("{library} belongs to {places:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The number of the first line outside of comments that names a path of `library`.
fn first_use(text: &str, library: &str) -> Option<usize> {
    let path = format!("{library}::");
    let import = format!("use {library};");
    let is_use = |line: &str| {
        let code = line.split("//").next().unwrap_or_default();
        let starts =
            |at: usize| !code[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ':'));
        code.match_indices(&path).any(|(at, _)| starts(at)) || code.contains(&import)
    };
    text.lines().position(is_use).map(|line| line + 1)
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(directory) else { return found };
    for entry in entries {
        let path = entry.expect("the directory can be read").path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

#[test]
fn uses_are_found_and_mentions_are_not() {
    assert_eq!(first_use("fn a() {}\nuse axum::Router;", "axum"), Some(2));
    assert_eq!(first_use("let x = axum::serve(y);", "axum"), Some(1));
    assert_eq!(first_use("// axum::serve\nmy_axum::x(); crate::axum::y();", "axum"), None);
}

/// The flags of the simulation's build stand under its alias alone.
#[test]
fn the_normal_build_has_no_flags() {
    let text = fs::read_to_string(root().join(".cargo/config.toml")).expect("the alias is there");
    let table: toml::Table = text.parse().expect("TOML");
    assert_eq!(table.keys().collect::<Vec<_>>(), ["alias"]);
    let alias = table["alias"]["simulation"].as_array().expect("a list of arguments");
    assert!(
        alias.iter().any(|argument| argument.as_str().is_some_and(|text| text.contains("tokio_unstable")))
    );
}
