//! `cargo metadata`, reduced to what the direction check asks of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The packages of the workspace and everything they are built from on this platform.
pub(crate) struct Graph {
    pub(crate) packages: BTreeMap<String, Package>,
    /// Ids of our own crates.
    pub(crate) members: Vec<String>,
}

pub(crate) struct Package {
    pub(crate) name: String,
    /// Path of its Cargo.toml within the repository; for a foreign package whatever cargo says.
    pub(crate) manifest: String,
    /// SPDX expression.
    pub(crate) licence: Option<String>,
    /// What its Cargo.toml names, before features and platforms are looked at.
    pub(crate) declared: Vec<Declared>,
    /// Ids of what it is linked with: resolved normal dependencies, features and platform applied.
    pub(crate) linked: Vec<String>,
}

pub(crate) struct Declared {
    pub(crate) name: String,
    /// A dev-dependency: only its tests see it.
    pub(crate) dev: bool,
}

/// Asks cargo. Without the network first: what the checked build used is on the disk already.
pub(crate) fn read(repository: &Path) -> Result<Graph, String> {
    let host = host_platform()?;
    let mut failure = String::new();
    for offline in [true, false] {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(repository).args(["metadata", "--format-version", "1", "--filter-platform", &host]);
        if offline {
            cargo.arg("--offline");
        }
        let output = cargo.output().map_err(|error| format!("cargo does not start: {error}"))?;
        if output.status.success() {
            let value =
                serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata: {error}"))?;
            return parse(&value, repository);
        }
        failure = String::from_utf8_lossy(&output.stderr).into_owned();
    }
    Err(format!("cargo metadata failed:\n{failure}"))
}

/// Without a platform cargo wants the sources of every platform's packages, which a build never downloads.
fn host_platform() -> Result<String, String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output =
        Command::new(rustc).arg("-vV").output().map_err(|error| format!("rustc does not start: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc -vV names no host".to_owned())
}

pub(crate) fn parse(value: &Value, repository: &Path) -> Result<Graph, String> {
    let mut packages = BTreeMap::new();
    for package in list(value, "packages")? {
        let dependencies = list(package, "dependencies")?.iter();
        let declared = dependencies
            .map(|dependency| {
                Ok(Declared {
                    name: text(dependency, "name")?,
                    dev: dependency["kind"].as_str() == Some("dev"),
                })
            })
            .collect::<Result<_, String>>()?;
        let manifest = text(package, "manifest_path")?;
        let manifest = match Path::new(&manifest).strip_prefix(repository) {
            Ok(inside) => inside.display().to_string(),
            Err(_) => manifest,
        };
        let name = text(package, "name")?;
        let licence = package["license"].as_str().map(str::to_owned);
        packages
            .insert(text(package, "id")?, Package { name, manifest, licence, declared, linked: Vec::new() });
    }
    for node in list(&value["resolve"], "nodes")? {
        let package = packages.get_mut(&text(node, "id")?).ok_or("a resolved package is not in the list")?;
        for dependency in list(node, "deps")? {
            if list(dependency, "dep_kinds")?.iter().any(|kind| kind["kind"].is_null()) {
                package.linked.push(text(dependency, "pkg")?);
            }
        }
    }
    let members = list(value, "workspace_members")?.iter();
    let members = members.filter_map(|id| id.as_str().map(str::to_owned)).collect();
    Ok(Graph { packages, members })
}

fn list<'a>(value: &'a Value, key: &str) -> Result<&'a Vec<Value>, String> {
    value[key].as_array().ok_or_else(|| format!("cargo metadata has no list `{key}`"))
}

fn text(value: &Value, key: &str) -> Result<String, String> {
    value[key].as_str().map(str::to_owned).ok_or_else(|| format!("cargo metadata has no text `{key}`"))
}
