//! What `cargo metadata` says of the workspace, reduced to what the checks need.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::run::cargo;

/// A package of the workspace and its direct dependencies.
pub(crate) struct Package {
    /// The directory's name under `crates/`, which is also the library's name; `xtask` for this crate.
    pub(crate) room: String,
    pub(crate) dependencies: Vec<Dependency>,
}

/// One `[dependencies]`, `[dev-dependencies]` or `[build-dependencies]` entry.
pub(crate) struct Dependency {
    pub(crate) package: String,
    /// The room it leads to, when it is one of ours.
    pub(crate) room: Option<String>,
    pub(crate) dev: bool,
}

/// A package that comes from a registry, with the license expression of its manifest.
pub(crate) struct Foreign {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
}

fn text(value: &Value, key: &str) -> Result<String> {
    value[key].as_str().map(str::to_owned).with_context(|| format!("cargo metadata: no {key}"))
}

fn array<'a>(value: &'a Value, key: &str) -> Result<&'a Vec<Value>> {
    value[key].as_array().with_context(|| format!("cargo metadata: no {key}"))
}

/// The directory that holds a manifest or is named by a `path` dependency.
fn room_of(path: &str) -> String {
    let directory = path.strip_suffix("/Cargo.toml").unwrap_or(path);
    directory.rsplit('/').next().unwrap_or(directory).to_owned()
}

/// The workspace's own packages.
pub(crate) fn workspace() -> Result<Vec<Package>> {
    let json = cargo(&["metadata", "--no-deps", "--format-version", "1", "--locked"]).output()?;
    let metadata: Value = serde_json::from_str(&json)?;
    let mut packages = Vec::new();
    for package in array(&metadata, "packages")? {
        let mut dependencies = Vec::new();
        for dependency in array(package, "dependencies")? {
            dependencies.push(Dependency {
                package: text(dependency, "name")?,
                room: dependency["path"].as_str().map(room_of),
                dev: dependency["kind"].as_str() == Some("dev"),
            });
        }
        packages.push(Package { room: room_of(&text(package, "manifest_path")?), dependencies });
    }
    packages.sort_by(|a, b| a.room.cmp(&b.room));
    Ok(packages)
}

/// Every package from elsewhere that the lock file beside a manifest brings in.
pub(crate) fn foreign(manifest: &str) -> Result<Vec<Foreign>> {
    let args = ["metadata", "--format-version", "1", "--locked", "--manifest-path", manifest];
    let json = cargo(&args).output()?;
    let metadata: Value = serde_json::from_str(&json)?;
    let mut packages = Vec::new();
    for package in array(&metadata, "packages")? {
        if package["source"].is_null() {
            continue;
        }
        packages.push(Foreign {
            name: text(package, "name")?,
            version: text(package, "version")?,
            license: package["license"].as_str().map(str::to_owned),
        });
    }
    Ok(packages)
}
