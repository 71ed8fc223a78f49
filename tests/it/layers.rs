//! Which crate may use which: the design's table, and a check of every manifest against it.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use crate::repository;

/// Row, crate, and what it may use besides crates that are not ours.
///
/// Rows 3 and 4 are the stages: they do not know each other beyond the edges listed here. Only the
/// crate `kaizen` knows the order of the loop.
const LAYERS: [(u8, &str, &[&str]); 18] = [
    (0, "kaizen-core", &[]),
    (1, "kaizen-table", &["kaizen-core"]),
    (2, "kaizen-stats", &["kaizen-core", "kaizen-table"]),
    (2, "kaizen-store", &["kaizen-core"]),
    (2, "kaizen-pipeline", &["kaizen-core"]),
    (2, "kaizen-testkit", &["kaizen-core", "kaizen-table"]),
    (3, "kaizen-data", &["kaizen-core", "kaizen-table", "kaizen-stats"]),
    (3, "kaizen-train", &["kaizen-core", "kaizen-table", "kaizen-stats", "kaizen-pipeline"]),
    (3, "kaizen-eval", &["kaizen-core", "kaizen-table", "kaizen-stats"]),
    (3, "kaizen-drift", &["kaizen-core", "kaizen-table", "kaizen-stats"]),
    (3, "kaizen-oci", &["kaizen-core", "kaizen-store"]),
    (3, "kaizen-package", &["kaizen-core"]),
    (3, "kaizen-views", &["kaizen-core", "kaizen-store"]),
    (3, "kaizen-mlflow", &["kaizen-core", "kaizen-store"]),
    (4, "kaizen-serve", &["kaizen-core", "kaizen-table", "kaizen-package"]),
    (4, "kaizen-deploy", &["kaizen-core", "kaizen-stats", "kaizen-package"]),
    (
        5,
        "kaizen",
        &[
            "kaizen-core",
            "kaizen-table",
            "kaizen-stats",
            "kaizen-store",
            "kaizen-pipeline",
            "kaizen-testkit",
            "kaizen-data",
            "kaizen-train",
            "kaizen-eval",
            "kaizen-drift",
            "kaizen-oci",
            "kaizen-package",
            "kaizen-views",
            "kaizen-mlflow",
            "kaizen-serve",
            "kaizen-deploy",
        ],
    ),
    (5, "kaizen-cli", &["kaizen-core", "kaizen-store", "kaizen-oci", "kaizen-views"]),
];

/// The packages at the top level: they may use every crate, and none may use them.
const TOP: [&str; 4] = ["examples", "benches", "benches/compare", "tests"];

fn allowed() -> BTreeMap<&'static str, &'static [&'static str]> {
    LAYERS.iter().map(|(_, name, uses)| (*name, *uses)).collect()
}

/// Name of the package, dependency or alias of one, by section. Sections under `target` count too.
fn dependencies<'a>(manifest: &'a Table, section: &str) -> Vec<(&'a str, &'a Value)> {
    let own = manifest.get(section).into_iter();
    let targets = manifest.get("target").and_then(Value::as_table).into_iter().flatten();
    let of_targets = targets.filter_map(|(_, target)| target.get(section));
    own.chain(of_targets)
        .filter_map(Value::as_table)
        .flatten()
        .map(|(key, value)| {
            let package = value.get("package").and_then(Value::as_str);
            (package.unwrap_or(key), value)
        })
        .collect()
}

/// What breaks the table in one manifest, in sentences. `uses` is what the crate may use.
fn faults(folder: &str, manifest: &str, uses: Option<&[&str]>) -> Vec<String> {
    let manifest: Table = match manifest.parse() {
        Ok(manifest) => manifest,
        Err(error) => return vec![format!("{folder}/Cargo.toml: {error}")],
    };
    let mut faults = Vec::new();
    let name = manifest["package"].get("name").and_then(Value::as_str).unwrap_or_default();
    if !TOP.contains(&folder) && name != folder {
        faults.push(format!("{folder}: the folder of package `{name}` must have its name"));
    }
    if uses.is_none() {
        faults.push(format!("{folder}: not in the table of layers; give it a row"));
    }
    let ours: BTreeSet<&str> = LAYERS.iter().map(|(_, name, _)| *name).collect();
    for section in ["dependencies", "build-dependencies", "dev-dependencies"] {
        for (used, value) in dependencies(&manifest, section) {
            if used != "kaizen" && !used.starts_with("kaizen-") {
                continue;
            }
            if !ours.contains(used) {
                faults.push(format!("{folder}: [{section}] names `{used}`, which has no row"));
            }
            if value.get("workspace") != Some(&Value::Boolean(true)) {
                faults.push(format!("{folder}: [{section}] `{used}` is not `workspace = true`"));
            }
            let free = section == "dev-dependencies";
            if !free && uses.is_some_and(|uses| !uses.contains(&used)) {
                faults.push(format!("{folder}: may not use `{used}` in [{section}]"));
            }
        }
    }
    faults
}

#[test]
fn no_manifest_breaks_the_table_of_layers() {
    let allowed = allowed();
    let everything: Vec<&str> = allowed.keys().copied().collect();
    let mut found = Vec::new();
    let folders = repository::folders("crates");
    for folder in &folders {
        let manifest = repository::read(format!("crates/{folder}/Cargo.toml"));
        found.extend(faults(folder, &manifest, allowed.get(folder.as_str()).copied()));
    }
    for folder in TOP {
        let manifest = repository::read(format!("{folder}/Cargo.toml"));
        found.extend(faults(folder, &manifest, Some(&everything)));
    }
    for name in allowed.keys().filter(|name| !folders.iter().any(|folder| folder == *name)) {
        found.push(format!("{name}: in the table of layers, but not under crates/"));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_table_only_points_downwards() {
    let row: BTreeMap<&str, u8> = LAYERS.iter().map(|(row, name, _)| (*name, *row)).collect();
    for (from, name, uses) in LAYERS {
        for used in uses {
            assert!(row[used] < from, "{name} (row {from}) uses {used} (row {})", row[used]);
        }
    }
}

#[test]
fn the_workspace_finds_each_crate_in_the_folder_of_its_name() {
    let manifest: Table = repository::read("Cargo.toml").parse().unwrap();
    let shared = manifest["workspace"]["dependencies"].as_table().unwrap();
    for (_, name, _) in LAYERS {
        let path = shared.get(name).and_then(|value| value.get("path")).and_then(Value::as_str);
        assert_eq!(path, Some(format!("crates/{name}").as_str()), "{name}");
        assert!(shared[name].get("package").is_none(), "{name} is another package's alias");
    }
}

#[test]
fn a_manifest_that_breaks_the_table_is_found_out() {
    let uses = ["kaizen-core", "kaizen-table"];
    let check = |text: &str| {
        let manifest = format!("[package]\nname = \"kaizen-drift\"\n{text}");
        faults("kaizen-drift", &manifest, Some(&uses)).join("; ")
    };
    assert_eq!(check("[dependencies]\nkaizen-core.workspace = true\nserde = \"1\""), "");
    assert_eq!(check("[dev-dependencies]\nkaizen-eval.workspace = true"), "");
    let forbidden = "kaizen-drift: may not use `kaizen-eval` in [dependencies]";
    assert_eq!(check("[dependencies]\nkaizen-eval.workspace = true"), forbidden);
    let of_target = "[target.'cfg(unix)'.dependencies]\nkaizen-eval.workspace = true";
    assert_eq!(check(of_target), forbidden);
    let alias = "[dependencies]\ne = { package = \"kaizen-eval\", workspace = true }";
    assert_eq!(check(alias), forbidden);
    assert!(check("[build-dependencies]\nkaizen.workspace = true").contains("may not use"));
    let by_path = "[dev-dependencies]\nkaizen-core = { path = \"../kaizen-core\" }";
    assert!(check(by_path).contains("not `workspace = true`"));
    assert!(check("[dependencies]\nkaizen-spark.workspace = true").contains("has no row"));
    let other = faults("drift", "[package]\nname = \"kaizen-drift\"", None).join("; ");
    assert!(other.contains("must have its name") && other.contains("give it a row"), "{other}");
}
