//! Rules about the files of the repository that neither the compiler nor clippy knows. Each rule is one function from
//! a file to the faults in it, and says with every fault what to do instead.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Report;

/// Folders that hold no source: build output, running servers' data, the history.
const SKIPPED: &[&str] = &[".git", "target", "data", "node_modules"];

/// A file longer than this is asked whether it is still one idea.
const LINES_WARN: usize = 700;

/// Places of one machine, which a clone elsewhere does not have. Split, so that this file does not contain them.
const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// Hosts that packages come from: which one is asked is the business of the machine's own configuration.
const REGISTRY_HOSTS: &[&str] = &[
    concat!("//crates", ".io"),
    concat!("static.crates", ".io"),
    concat!("index.crates", ".io"),
    concat!("registry.npmjs", ".org"),
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("proxy.golang", ".org"),
    concat!("deb.debian", ".org"),
    concat!("repo.maven", ".apache.org"),
];

/// The one source that Cargo.lock may name.
const LOCK_SOURCE: &str = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";

const STUBS: &[&str] = &[concat!("to", "do!("), concat!("unimpl", "emented!("), concat!("#[ign", "ore")];

/// Waiting for time to pass makes a test slow on a fast machine and flaky on a slow one.
const SLEEPS: &[&str] = &[concat!("thread::sl", "eep"), concat!("time::sl", "eep")];

/// What a line of a test may say to be allowed a pause: a helper that looks for a condition again and again until a
/// deadline pauses between two looks, and where time is simulated a pause takes none.
const PAUSE_MARKS: &[&str] = &["// poll interval", "// virtual time"];

/// Time, chance and I/O come in as arguments or through ports, so that a simulator can drive the real code. Not every
/// way around that is a dependency that the direction check could see: the standard library hands out most of it.
const REACHES: &[Reach] = &[
    Reach {
        folders: &["crates/tidings-types/src", "crates/tidings-core/src", "crates/tidings-record/src"],
        words: &["std::time", "std::fs", "std::net", "std::thread", "RandomState", "async fn", "async move"],
        problem: "a pure crate takes it as an argument",
    },
    Reach {
        folders: &[
            "crates/tidings-service/src",
            "crates/tidings-ports/src",
            // The log itself; `shell.rs` beside it has the thread and the runtime.
            "crates/tidings-embedded/src/log/open.rs",
            "crates/tidings-embedded/src/log/segment.rs",
            "crates/tidings-embedded/src/log/writer.rs",
        ],
        words: &[
            "tokio::time",
            "tokio::spawn",
            "tokio::task",
            "Instant::now",
            "SystemTime::now",
            "getrandom::",
        ],
        problem: "below the gateway it comes in through a port (Clock, Rng, Tasks)",
    },
];

/// What some folders have no business with.
struct Reach {
    folders: &'static [&'static str],
    words: &'static [&'static str],
    problem: &'static str,
}

pub(crate) fn check_repository(repository: &Path) -> Result<Report, String> {
    let mut paths = Vec::new();
    collect(repository, &mut paths).map_err(|error| format!("the repository cannot be listed: {error}"))?;
    paths.sort();
    let mut report = Report { looked_at: format!("{} files", paths.len()), ..Report::default() };
    for path in &paths {
        // What is not text has no lines to look at.
        let Ok(text) = fs::read_to_string(path) else { continue };
        let inside = path.strip_prefix(repository).expect("collected below the repository");
        let file = File { path: inside.display().to_string(), text };
        report.faults.extend(faults(&file));
        report.faults.extend(dead_links(&file, repository));
        report.warnings.extend(too_long(&file));
    }
    Ok(report)
}

struct File {
    /// Within the repository, with `/`.
    path: String,
    text: String,
}

impl File {
    fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|extension| extension == "rs")
    }

    fn is_manifest(&self) -> bool {
        self.path.ends_with("Cargo.toml")
    }

    /// `problem` for each line that holds one of `words`.
    fn lines_with(&self, words: &[&str], problem: &str) -> Vec<String> {
        let lines = self.text.lines().enumerate();
        let hits = lines.filter_map(|(index, line)| {
            let word = words.iter().find(|word| line.contains(**word))?;
            Some(self.fault(index, &format!("`{word}`: {problem}")))
        });
        hits.collect()
    }

    fn fault(&self, index: usize, problem: &str) -> String {
        format!("{}:{}: {problem}", self.path, index + 1)
    }
}

fn faults(file: &File) -> Vec<String> {
    let mut faults =
        file.lines_with(MACHINE_PATHS, "a path of one machine; make it relative, or an argument");
    if file.path == "Cargo.lock" {
        faults.extend(foreign_lock_sources(file));
    } else {
        faults.extend(
            file.lines_with(REGISTRY_HOSTS, "a registry's host; name the package, not where it comes from"),
        );
    }
    if file.is_rust() {
        faults.extend(file.lines_with(STUBS, "build it, or leave it out"));
        faults.extend(sleeping_tests(file));
    }
    for reach in
        REACHES.iter().filter(|reach| reach.folders.iter().any(|folder| file.path.starts_with(folder)))
    {
        faults.extend(reaches(file, reach));
    }
    if file.is_manifest() {
        faults.extend(lints_without_reason(file));
        faults.extend(crate_without_lints(file));
    }
    faults
}

fn foreign_lock_sources(file: &File) -> Vec<String> {
    let lines = file.text.lines().enumerate();
    let foreign = lines.filter(|(_, line)| line.starts_with("source = ") && *line != LOCK_SOURCE);
    foreign
        .map(|(index, _)| file.fault(index, "not the public registry; a clone elsewhere cannot build it"))
        .collect()
}

fn sleeping_tests(file: &File) -> Vec<String> {
    let Some(from) = first_test_line(file) else {
        return Vec::new();
    };
    let sleeps = |line: &str| SLEEPS.iter().any(|sleep| line.contains(sleep));
    let is_marked = |line: &str| PAUSE_MARKS.iter().any(|mark| line.contains(mark));
    let lines = file.text.lines().enumerate().skip(from);
    let sleeping = lines.filter(|(_, line)| sleeps(line) && !is_marked(line));
    let marks = PAUSE_MARKS.join("` or `");
    let problem =
        format!("a test that sleeps; wait for the condition with a deadline (else mark it `{marks}`)");
    sleeping.map(|(index, _)| file.fault(index, &problem)).collect()
}

/// Tests are a folder of their own or the last thing in a file; the ports' suite is a library of tests.
fn first_test_line(file: &File) -> Option<usize> {
    if file.path.contains("/tests/") || file.path.ends_with("/tests.rs") || file.path.ends_with("/suite.rs") {
        return Some(0);
    }
    file.text.lines().position(|line| line.trim() == "#[cfg(test)]")
}

fn reaches(file: &File, reach: &Reach) -> Vec<String> {
    let tests_from = first_test_line(file).unwrap_or(usize::MAX);
    let lines = file.text.lines().enumerate().take(tests_from);
    let code = lines.filter(|(_, line)| !line.trim_start().starts_with("//"));
    let hits = code.filter_map(|(index, line)| {
        let word = reach.words.iter().find(|word| line.contains(**word))?;
        Some(file.fault(index, &format!("`{word}`: {}", reach.problem)))
    });
    hits.collect()
}

/// Each lint has a comment of its own right above it.
fn lints_without_reason(file: &File) -> Vec<String> {
    let mut faults = Vec::new();
    let mut in_lints = false;
    let mut reason = false;
    for (index, line) in file.text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            in_lints = line.starts_with("[workspace.lints");
            reason = false;
        } else if line.starts_with('#') {
            reason = true;
        } else if in_lints && line.contains('=') {
            if !reason {
                faults
                    .push(file.fault(index, "a lint without its reason; say above it what it protects from"));
            }
            reason = false;
        }
    }
    faults
}

fn crate_without_lints(file: &File) -> Option<String> {
    let is_crate = file.text.contains("[package]");
    let has_lints = file.text.contains("[lints]\nworkspace = true");
    (is_crate && !has_lints)
        .then(|| format!("{}: takes no workspace lints; add `[lints]` with `workspace = true`", file.path))
}

/// Links in Markdown that point into the repository at something that is not there.
fn dead_links(file: &File, repository: &Path) -> Vec<String> {
    if !file.path.ends_with(".md") {
        return Vec::new();
    }
    let folder = repository.join(&file.path).parent().map(PathBuf::from).unwrap_or_default();
    let mut faults = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or_default();
            if !path.is_empty() && !path.contains("://") && !folder.join(path).exists() {
                faults.push(file.fault(index, &format!("the link to `{target}` leads nowhere")));
            }
        }
    }
    faults
}

fn too_long(file: &File) -> Option<String> {
    let lines = file.text.lines().count();
    (file.is_rust() && lines > LINES_WARN)
        .then(|| format!("{}: {lines} lines; is it still one idea?", file.path))
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() && !SKIPPED.iter().any(|skipped| entry.file_name() == *skipped) {
            collect(&entry.path(), paths)?;
        } else if kind.is_file() {
            paths.push(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_repository_keeps_the_house_rules() {
        let report = check_repository(&crate::repository()).unwrap();
        assert!(report.faults.is_empty(), "{}", report.faults.join("\n"));
    }

    #[test]
    fn a_path_of_one_machine_and_a_registry_host_are_found() {
        assert_eq!(count("docs/a.md", concat!("cd /wo", "rk/main\n")), 1);
        assert_eq!(count("Makefile", concat!("curl https://static.crates", ".io/x\n")), 1);
        assert_eq!(count("docs/a.md", "cd work/main\n"), 0);
    }

    #[test]
    fn a_lock_file_names_the_public_registry_only() {
        assert_eq!(count("Cargo.lock", &format!("{LOCK_SOURCE}\n")), 0);
        assert_eq!(count("Cargo.lock", "source = \"registry+http://10.0.0.1/index\"\n"), 1);
    }

    #[test]
    fn stubs_are_found_in_code_only() {
        for stub in STUBS {
            assert_eq!(count("crates/a/src/lib.rs", &format!("    {stub}\n")), 1, "{stub}");
            assert_eq!(count("docs/a.md", &format!("    {stub}\n")), 0, "{stub}");
        }
    }

    #[test]
    fn a_test_may_pause_between_two_looks_but_not_sleep() {
        let sleep = concat!("tokio::time::sl", "eep(WAIT).await;");
        assert_eq!(count("crates/a/tests/b.rs", sleep), 1);
        assert_eq!(
            count("crates/a/src/lib.rs", &format!("#[cfg(test)]\nmod tests {{\n    {sleep}\n}}\n")),
            1
        );
        for mark in PAUSE_MARKS {
            assert_eq!(count("crates/a/tests/b.rs", &format!("{sleep} {mark}")), 0);
        }
        assert_eq!(count("crates/a/src/lib.rs", sleep), 0, "outside tests time may pass");
    }

    #[test]
    fn a_pure_crate_does_not_reach_for_the_clock() {
        let code = "/// Unlike std::time, this is an argument.\nuse std::time::Instant;\n";
        assert_eq!(count("crates/tidings-core/src/a.rs", code), 1);
        assert_eq!(count("crates/tidings-gateway/src/a.rs", code), 0);
        assert_eq!(count("crates/tidings-service/src/a.rs", "let now = Instant::now();"), 1);
    }

    #[test]
    fn each_lint_has_its_own_reason() {
        let explained = "[workspace.lints.rust]\n# Why.\na = \"warn\"\n# Why.\nb = \"warn\"\n";
        assert_eq!(count("Cargo.toml", explained), 0);
        assert_eq!(count("Cargo.toml", "[workspace.lints.rust]\n# Why.\na = \"warn\"\nb = \"warn\"\n"), 1);
    }

    #[test]
    fn a_crate_takes_the_workspace_lints() {
        assert_eq!(count("crates/a/Cargo.toml", "[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n"), 0);
        assert_eq!(count("crates/a/Cargo.toml", "[package]\nname = \"a\"\n"), 1);
    }

    #[test]
    fn a_link_to_nothing_is_found() {
        let links = |text: &str| {
            let file = File { path: "README.md".to_owned(), text: text.to_owned() };
            dead_links(&file, &crate::repository()).len()
        };
        assert_eq!(links("[map](xtask/Cargo.toml#x), [far](https://example.org/a), [here](#below)"), 0);
        assert_eq!(links("[map](NOWHERE.md) and [too](xtask/nowhere.rs)"), 2);
    }

    #[test]
    fn a_long_file_is_only_a_warning() {
        let file = File { path: "crates/a/src/lib.rs".to_owned(), text: "\n".repeat(LINES_WARN + 1) };
        assert!(faults(&file).is_empty());
        assert!(too_long(&file).is_some());
    }

    fn count(path: &str, text: &str) -> usize {
        faults(&File { path: path.to_owned(), text: text.to_owned() }).len()
    }
}
