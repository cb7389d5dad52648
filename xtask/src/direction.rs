//! Which crate may know which. Arrows point inward: a new one is a line in a table here, and so a decision that a
//! reader of the change sees.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use crate::Report;
use crate::metadata::{self, Graph, Package};

/// Everything a crate of ours may name of ours under `[dependencies]` or `[build-dependencies]`. What it links
/// indirectly follows from this.
const ARROWS: &[(&str, &[&str])] = &[
    ("tidings-types", &[]),
    ("tidings-core", &["tidings-types"]),
    ("tidings-record", &["tidings-types"]),
    ("tidings-wire", &["tidings-types"]),
    ("tidings-ports", &["tidings-types", "tidings-record"]),
    ("tidings-embedded", &["tidings-types", "tidings-record", "tidings-ports"]),
    ("tidings-service", &["tidings-types", "tidings-core", "tidings-record", "tidings-ports"]),
    ("tidings-gateway", &["tidings-types", "tidings-core", "tidings-wire", "tidings-service"]),
    (
        "tidings-server",
        &["tidings-types", "tidings-ports", "tidings-embedded", "tidings-service", "tidings-gateway"],
    ),
    ("tidings-client", &["tidings-types", "tidings-wire"]),
    ("tidings-tui", &["tidings-types", "tidings-wire", "tidings-client"]),
    ("tidings-bench", &["tidings-types", "tidings-wire", "tidings-client"]),
    ("tidings", &["tidings-server", "tidings-tui", "tidings-bench"]),
    ("xtask", &[]),
];

/// What a crate's tests may name on top of that. Tests of an edge may drive the whole server from outside; tests of
/// the inside may not, or they would no longer prove that the inside stands alone.
const TEST_ARROWS: &[(&str, &[&str])] = &[
    ("tidings-gateway", &["tidings-ports", "tidings-record"]),
    ("tidings-server", &["tidings-client", "tidings-wire"]),
    ("tidings-client", &["tidings-server"]),
    ("tidings-tui", &["tidings-server"]),
    ("tidings-bench", &["tidings-server"]),
    ("tidings", &["tidings-types", "tidings-wire", "tidings-client"]),
];

/// An engine is named by whoever wires the server together, and by nobody else: not even in tests, which use
/// `tidings_ports::memory`.
const ENGINES: &[&str] = &["tidings-embedded"];
const NAMES_ENGINES: &[&str] = &["tidings-server"];

/// Foreign crates that may be linked into the pure crates, directly or through another. An allow-list, because a list
/// of forbidden runtimes, clocks, stores and serializers is never complete. Features are those of the whole workspace,
/// that is, of what is really built.
const PURE: &[(&str, &[&str])] = &[
    ("tidings-types", &["uuid"]),
    ("tidings-record", &["uuid", "xxhash-rust"]),
    (
        "tidings-core",
        &[
            "uuid",
            "foldhash",
            "xxhash-rust",
            // SHA-256, for the ids that are derived from two users.
            "sha2",
            "block-buffer",
            "cfg-if",
            "cmov",
            "const-oid",
            "cpufeatures",
            "crypto-common",
            "ctutils",
            "digest",
            "hybrid-array",
            "typenum",
        ],
    ),
];

pub(crate) fn check_workspace(repository: &Path) -> Result<Report, String> {
    Ok(check(&metadata::read(repository)?))
}

fn check(graph: &Graph) -> Report {
    let members: Vec<&Package> = graph.members.iter().filter_map(|id| graph.packages.get(id)).collect();
    let ours: BTreeSet<&str> = members.iter().map(|package| package.name.as_str()).collect();
    let mut faults = Vec::new();
    let mut arrows = 0;
    for package in &members {
        arrows += package.declared.iter().filter(|declared| ours.contains(declared.name.as_str())).count();
        faults.extend(wrong_arrows(package, &ours));
    }
    for id in &graph.members {
        faults.extend(impure(graph, id));
    }
    let looked_at = format!("{} crates, {arrows} arrows between them", members.len());
    Report { faults, warnings: Vec::new(), looked_at }
}

fn wrong_arrows(package: &Package, ours: &BTreeSet<&str>) -> Vec<String> {
    let Package { name, manifest, declared, .. } = package;
    let Some(allowed) = row(ARROWS, name) else {
        return vec![format!(
            "{name} ({manifest}) is not in the table: add it to ARROWS in xtask/src/direction.rs and to ARCHITECTURE.md, \
             with the crates it may know"
        )];
    };
    let for_tests = row(TEST_ARROWS, name).unwrap_or_default();
    let mut faults = Vec::new();
    for dependency in declared.iter().filter(|dependency| ours.contains(dependency.name.as_str())) {
        let to = dependency.name.as_str();
        let listed = allowed.contains(&to) || (dependency.dev && for_tests.contains(&to));
        let kind = if dependency.dev { "test arrow" } else { "arrow" };
        if ENGINES.contains(&to) && !NAMES_ENGINES.contains(&name.as_str()) {
            faults.push(format!(
                "{kind} {name} -> {to}, added in {manifest}: only {} names an engine. Ask for what is needed through a \
                 trait in tidings-ports; in tests use tidings_ports::memory",
                NAMES_ENGINES.join(", ")
            ));
        } else if !listed {
            faults.push(format!(
                "{kind} {name} -> {to}, added in {manifest}: not allowed. Move the code to where both may know it, or \
                 pass it in; if the arrow is right, add it to {} in xtask/src/direction.rs with a decision note",
                if dependency.dev { "TEST_ARROWS" } else { "ARROWS" }
            ));
        }
    }
    faults
}

/// Foreign crates in the tree of a pure crate that its list does not have. Each comes with the shortest chain to it and
/// the manifest that brought it in.
fn impure(graph: &Graph, root: &str) -> Vec<String> {
    let root_name = graph.packages[root].name.as_str();
    let Some(allowed) = row(PURE, root_name) else {
        return Vec::new();
    };
    let parents = linked_from(graph, root);
    let known = |id: &str| {
        let name = graph.packages[id].name.as_str();
        allowed.contains(&name) || row(PURE, name).is_some()
    };
    let mut faults = Vec::new();
    for (&id, &from) in &parents {
        // What a forbidden crate brings along would only repeat the news, and a wrong arrow is reported as such.
        if known(id) || !known(from) || is_member(graph, id) {
            continue;
        }
        let chain = chain(&parents, id);
        let brought_by =
            chain.iter().rev().find(|step| is_member(graph, step)).expect("the root is a member");
        let names: Vec<&str> = chain.iter().map(|step| graph.packages[*step].name.as_str()).collect();
        faults.push(format!(
            "{} is linked into {root_name}: {}, added in {}. This crate stays free of runtimes, clocks, stores and \
             serializers: pass the value in as an argument or put the code outside; if it is none of these, add it to \
             PURE in xtask/src/direction.rs",
            graph.packages[id].name,
            names.join(" -> "),
            graph.packages[*brought_by].manifest
        ));
    }
    faults
}

/// Every package linked into `root`, with the one it was first met from. Breadth first, so chains are shortest.
fn linked_from<'a>(graph: &'a Graph, root: &'a str) -> BTreeMap<&'a str, &'a str> {
    let mut parents = BTreeMap::from([(root, root)]);
    let mut waiting = VecDeque::from([root]);
    while let Some(at) = waiting.pop_front() {
        for next in &graph.packages[at].linked {
            if !parents.contains_key(next.as_str()) {
                parents.insert(next, at);
                waiting.push_back(next);
            }
        }
    }
    parents
}

/// From the root down to `id`.
fn chain<'a>(parents: &BTreeMap<&'a str, &'a str>, id: &'a str) -> Vec<&'a str> {
    let mut chain = vec![id];
    let mut at = id;
    while parents[at] != at {
        at = parents[at];
        chain.push(at);
    }
    chain.reverse();
    chain
}

fn is_member(graph: &Graph, id: &str) -> bool {
    graph.members.iter().any(|member| member == id)
}

fn row<'a>(table: &'a [(&str, &'a [&'a str])], name: &str) -> Option<&'a [&'a str]> {
    table.iter().find(|(row, _)| *row == name).map(|(_, values)| *values)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn this_workspace_points_inward() {
        let report = check_workspace(&crate::repository()).unwrap();
        assert!(report.faults.is_empty(), "{}", report.faults.join("\n"));
    }

    #[test]
    fn a_sound_workspace_has_no_faults() {
        assert_eq!(faults(&sound()), Vec::<String>::new());
    }

    #[test]
    fn an_arrow_that_points_outward_is_named_with_its_manifest() {
        let mut workspace = sound();
        workspace.push(ours("tidings-core", &["tidings-types", "tidings-gateway"], &[]));
        let faults = faults(&workspace);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(
            faults[0]
                .contains("arrow tidings-core -> tidings-gateway, added in crates/tidings-core/Cargo.toml"),
            "{faults:?}"
        );
    }

    #[test]
    fn a_runtime_behind_an_innocent_crate_is_found_with_its_chain() {
        let mut workspace = sound();
        workspace.push(ours("tidings-record", &["tidings-types", "handy"], &[]));
        workspace.push(foreign("handy", &["tokio"]));
        workspace.push(foreign("tokio", &["mio"]));
        workspace.push(foreign("mio", &[]));
        let faults = faults(&workspace);
        assert_eq!(faults.len(), 1, "only the first forbidden crate of a chain is news: {faults:?}");
        assert!(
            faults[0].contains("tidings-record -> handy, added in crates/tidings-record/Cargo.toml"),
            "{faults:?}"
        );
    }

    #[test]
    fn a_forbidden_crate_under_a_shared_one_is_reported_for_every_pure_crate_it_reaches() {
        let mut workspace = sound();
        workspace.push(foreign("uuid", &["serde"]));
        workspace.push(foreign("serde", &[]));
        let faults = faults(&workspace);
        assert_eq!(faults.len(), 3, "types, record and core link uuid: {faults:?}");
        assert!(faults.iter().all(|fault| fault.contains("uuid -> serde")), "{faults:?}");
        assert!(
            faults.iter().all(|fault| fault.contains("added in crates/tidings-types/Cargo.toml")),
            "{faults:?}"
        );
    }

    #[test]
    fn only_the_server_names_an_engine_even_in_tests() {
        for (name, normal, dev) in [
            ("tidings-gateway", &["tidings-service", "tidings-embedded"][..], &[][..]),
            ("tidings-service", &["tidings-types"], &["tidings-embedded"]),
        ] {
            let mut workspace = sound();
            workspace.push(ours(name, normal, dev));
            let faults = faults(&workspace);
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert!(faults[0].contains("only tidings-server names an engine"), "{faults:?}");
        }
    }

    #[test]
    fn tests_have_their_own_table() {
        let mut workspace = sound();
        workspace.push(ours("tidings-server", &["tidings-embedded"], &["tidings-client"]));
        assert_eq!(faults(&workspace), Vec::<String>::new());
        workspace.push(ours("tidings-server", &["tidings-embedded", "tidings-client"], &[]));
        assert!(faults(&workspace)[0].contains("add it to ARROWS"));
        workspace.push(ours("tidings-core", &["tidings-types"], &["tidings-server"]));
        assert!(
            faults(&workspace)
                .iter()
                .any(|fault| fault.contains("test arrow tidings-core -> tidings-server"))
        );
    }

    #[test]
    fn a_crate_that_is_in_no_table_is_refused() {
        let mut workspace = sound();
        workspace.push(ours("tidings-extra", &[], &[]));
        assert!(
            faults(&workspace)[0]
                .contains("tidings-extra (crates/tidings-extra/Cargo.toml) is not in the table")
        );
    }

    struct Fixture {
        name: &'static str,
        member: bool,
        normal: Vec<&'static str>,
        dev: Vec<&'static str>,
    }

    fn ours(name: &'static str, normal: &[&'static str], dev: &[&'static str]) -> Fixture {
        Fixture { name, member: true, normal: normal.to_vec(), dev: dev.to_vec() }
    }

    fn foreign(name: &'static str, normal: &[&'static str]) -> Fixture {
        Fixture { name, member: false, normal: normal.to_vec(), dev: Vec::new() }
    }

    fn sound() -> Vec<Fixture> {
        vec![
            foreign("uuid", &[]),
            foreign("sha2", &["digest"]),
            foreign("digest", &[]),
            foreign("fjall", &[]),
            ours("tidings-types", &["uuid"], &[]),
            ours("tidings-core", &["tidings-types", "sha2"], &[]),
            ours("tidings-record", &["tidings-types"], &[]),
            ours("tidings-ports", &["tidings-types", "tidings-record"], &[]),
            ours("tidings-embedded", &["tidings-ports", "fjall"], &[]),
            ours("tidings-service", &["tidings-core", "tidings-ports"], &[]),
            ours("tidings-gateway", &["tidings-service"], &[]),
            ours("tidings-server", &["tidings-gateway", "tidings-embedded"], &[]),
            ours("tidings-client", &["tidings-types"], &[]),
        ]
    }

    /// A later fixture replaces an earlier one of the same name.
    fn faults(fixtures: &[Fixture]) -> Vec<String> {
        let latest: BTreeMap<&str, &Fixture> =
            fixtures.iter().map(|fixture| (fixture.name, fixture)).collect();
        let latest: Vec<&Fixture> = latest.into_values().collect();
        check(&metadata::parse(&as_metadata(&latest), Path::new("/repository")).unwrap()).faults
    }

    fn as_metadata(fixtures: &[&Fixture]) -> Value {
        let declared = |fixture: &Fixture| -> Vec<Value> {
            let normal = fixture.normal.iter().map(|name| json!({"name": name, "kind": null}));
            normal.chain(fixture.dev.iter().map(|name| json!({"name": name, "kind": "dev"}))).collect()
        };
        let resolved = |fixture: &Fixture| -> Vec<Value> {
            let normal =
                fixture.normal.iter().map(|name| json!({"pkg": name, "dep_kinds": [{"kind": null}]}));
            normal
                .chain(fixture.dev.iter().map(|name| json!({"pkg": name, "dep_kinds": [{"kind": "dev"}]})))
                .collect()
        };
        let members: Vec<&str> =
            fixtures.iter().filter(|fixture| fixture.member).map(|fixture| fixture.name).collect();
        let packages: Vec<Value> = fixtures
            .iter()
            .map(|fixture| {
                json!({
                    "id": fixture.name,
                    "name": fixture.name,
                    "manifest_path": format!("/repository/crates/{}/Cargo.toml", fixture.name),
                    "dependencies": declared(fixture),
                })
            })
            .collect();
        let nodes: Vec<Value> =
            fixtures.iter().map(|fixture| json!({"id": fixture.name, "deps": resolved(fixture)})).collect();
        json!({"packages": packages, "workspace_members": members, "resolve": {"nodes": nodes}})
    }
}
