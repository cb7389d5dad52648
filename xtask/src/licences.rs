//! Holds what is built on this platform against the lists in deny.toml, without cargo-deny: the licences that are
//! allowed, and the crates that are banned.

use std::fs;
use std::path::Path;

use crate::Report;
use crate::metadata::{self, Graph};

pub(crate) fn check_workspace(repository: &Path) -> Result<Report, String> {
    let path = repository.join("deny.toml");
    let lists = fs::read_to_string(&path).map_err(|error| format!("deny.toml cannot be read: {error}"))?;
    Ok(check(&metadata::read(repository)?, &Lists::parse(&lists)?))
}

struct Lists {
    allowed: Vec<String>,
    banned: Vec<Banned>,
}

struct Banned {
    name: String,
    reason: String,
}

impl Lists {
    /// Reads the two lists as this repository writes them, one item a line: a parser for all of TOML is not worth a
    /// dependency here.
    fn parse(text: &str) -> Result<Self, String> {
        let items = |head: &str| -> Result<Vec<Vec<String>>, String> {
            let inside =
                text.lines().skip_while(|line| *line != head).skip(1).take_while(|line| *line != "]");
            let items: Vec<_> = inside.map(quoted).filter(|item| !item.is_empty()).collect();
            if items.is_empty() { Err(format!("deny.toml has no list `{head} … ]`")) } else { Ok(items) }
        };
        let allowed = items("allow = [")?.into_iter().flatten().collect();
        let banned = items("deny = [")?.into_iter().map(|item| match item.as_slice() {
            [name, reason] => Ok(Banned { name: name.clone(), reason: reason.clone() }),
            other => Err(format!("a ban in deny.toml needs `crate` and `reason`: {other:?}")),
        });
        Ok(Self { allowed, banned: banned.collect::<Result<_, _>>()? })
    }
}

fn quoted(line: &str) -> Vec<String> {
    line.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

fn check(graph: &Graph, lists: &Lists) -> Report {
    let mut faults = Vec::new();
    for (id, package) in &graph.packages {
        if let Some(banned) = lists.banned.iter().find(|banned| banned.name == package.name) {
            faults.push(format!(
                "{id} is banned: {}. `cargo tree -i {}` says who wants it",
                banned.reason, package.name
            ));
        }
        let allowed = package.licence.as_deref().is_some_and(|text| satisfied(text, &lists.allowed));
        if !allowed {
            let licence = package.licence.as_deref().unwrap_or("no licence");
            faults.push(format!("{id} has {licence}, which the allow-list in deny.toml does not cover"));
        }
    }
    Report { faults, warnings: Vec::new(), looked_at: format!("{} packages", graph.packages.len()) }
}

/// An SPDX expression: AND binds tighter than OR, brackets bind tightest; an old-style `/` means OR.
fn satisfied(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    any_of(&words, &mut at, allowed) && at == words.len()
}

fn any_of(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut answer = all_of(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        answer |= all_of(words, at, allowed);
    }
    answer
}

fn all_of(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut answer = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        answer &= one(words, at, allowed);
    }
    answer
}

fn one(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let Some(word) = words.get(*at) else {
        return false;
    };
    *at += 1;
    if *word == "(" {
        let answer = any_of(words, at, allowed);
        *at += 1;
        return answer;
    }
    let mut licence = (*word).to_owned();
    if let (Some(&"WITH"), Some(exception)) = (words.get(*at), words.get(*at + 1)) {
        licence = format!("{licence} WITH {exception}");
        *at += 2;
    }
    allowed.contains(&licence)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::metadata::Package;

    #[test]
    fn everything_that_is_built_is_allowed() {
        let report = check_workspace(&crate::repository()).unwrap();
        assert!(report.faults.is_empty(), "{}", report.faults.join("\n"));
    }

    #[test]
    fn expressions_are_read_as_spdx_says() {
        let allowed = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned);
        for (expression, expected) in [
            ("MIT", true),
            ("GPL-3.0-only", false),
            ("MIT OR GPL-3.0-only", true),
            ("MIT/GPL-3.0-only", true),
            ("MIT AND GPL-3.0-only", false),
            ("MIT OR GPL-3.0-only AND AGPL-3.0-only", true),
            ("(MIT OR GPL-3.0-only) AND ISC", true),
            ("(MIT OR GPL-3.0-only) AND AGPL-3.0-only", false),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("Apache-2.0", false),
            ("MIT MIT", false),
            ("", false),
        ] {
            assert_eq!(satisfied(expression, &allowed), expected, "{expression}");
        }
    }

    #[test]
    fn a_banned_crate_and_a_missing_licence_are_faults() {
        let lists =
            "allow = [\n  \"MIT\",\n]\ndeny = [\n  { crate = \"bad\", reason = \"it is slow\" },\n]\n";
        let lists = Lists::parse(lists).unwrap();
        let package = |name: &str, licence: Option<&str>| {
            let package = Package {
                name: name.to_owned(),
                manifest: String::new(),
                licence: licence.map(str::to_owned),
                declared: Vec::new(),
                linked: Vec::new(),
            };
            (name.to_owned(), package)
        };
        let packages = BTreeMap::from([
            package("good", Some("MIT")),
            package("bad", Some("MIT")),
            package("bare", None),
        ]);
        let faults = check(&Graph { packages, members: Vec::new() }, &lists).faults;
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].contains("bad is banned: it is slow"), "{faults:?}");
        assert!(faults[1].contains("bare has no licence"), "{faults:?}");
    }

    #[test]
    fn a_list_that_is_not_there_is_an_error() {
        assert!(Lists::parse("allow = [\n  \"MIT\",\n]\n").is_err());
    }
}
