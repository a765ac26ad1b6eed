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
    ("tests/simulation", &["types", "config", "metadata", "storage", "compaction", "agent"]),
];

/// A library and the only places that may import it: path prefixes from the workspace's root.
const IMPORTS: &[(&str, &[&str])] = &[
    ("object_store", &["storage/src/bucket"]),
    ("quick_xml", &["storage/src/bucket/settings"]),
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

/// The simulation needs no flags of the compiler: whoever builds it builds the dependencies as they are shipped.
#[test]
fn no_build_has_flags_of_its_own() {
    assert!(!root().join(".cargo").exists(), "flags for all crates belong to whoever calls cargo");
}

/// What a simulation switches on in the other crates is in no binary that is built without naming it.
#[test]
fn the_simulation_is_built_by_name_only() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the workspace has a manifest");
    let table: toml::Table = manifest.parse().expect("a manifest is TOML");
    let defaults = table["workspace"]["default-members"].as_array().expect("a list");
    assert!(!defaults.is_empty());
    assert!(defaults.iter().all(|member| member.as_str() != Some("tests/simulation")));
    for (crate_name, _) in EDGES.iter().filter(|(name, _)| *name != "tests/simulation") {
        let text = fs::read_to_string(root().join(crate_name).join("Cargo.toml")).expect("a manifest");
        let table: toml::Table = text.parse().expect("a manifest is TOML");
        for kind in ["dependencies", "dev-dependencies"] {
            let uses = table.get(kind).map(ToString::to_string).unwrap_or_default();
            assert!(!uses.contains("\"simulation\""), "{crate_name} switches on what only a simulation may");
        }
    }
}

/// A branch that is drawn by chance is drawn by another chance than the seed's.
#[test]
fn every_select_says_its_order() {
    let mut wrong = Vec::new();
    for crate_name in ["types", "metadata", "storage", "compaction", "agent", "tests/simulation"] {
        for file in sources(&root().join(crate_name).join("src")) {
            let path = file.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
            if path.contains("/cli/") || path.ends_with("tests.rs") {
                continue;
            }
            let text = fs::read_to_string(&file).expect("a source file is text");
            let lines: Vec<&str> = text.lines().collect();
            for (number, line) in lines.iter().enumerate() {
                let next = lines.get(number + 1).map_or("", |next| next.trim());
                if line.contains("select! {") && !line.trim_start().starts_with("//") && next != "biased;" {
                    wrong.push(format!("{path}:{}", number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "select! without biased: {wrong:?}");
}
