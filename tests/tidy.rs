//! Style as a test: the rules of the house that no lint can say.
//!
//! A rule looks at the whole tree as text and returns complaints, each with the place and the
//! reason. Beside each rule stands an edit that breaks it, so that a rule that no longer bites
//! fails as well.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what cannot go on has failed"
)]

#[path = "tidy/lex.rs"]
mod lex;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use inhaul::exit::Exit;
use lex::{production, words};

/// Files of the package by their path in it; those that are not text are left out.
type Tree = BTreeMap<String, String>;

struct Rule {
    name: &'static str,
    check: fn(&Tree) -> Vec<String>,
    /// Breaks the rule in a tree that keeps it.
    bite: fn(&mut Tree),
}

const RULES: [Rule; 14] = [
    Rule {
        name: "who may use whom",
        check: deps_are_stated,
        bite: |tree| append(tree, "src/error.rs", "use crate::cli::main;\n"),
    },
    Rule {
        name: "who may use whom, roundabout",
        check: deps_are_plain,
        bite: |tree| append(tree, "src/error.rs", "use super::cli::main;\n"),
    },
    Rule {
        name: "where unsafe lives",
        check: unsafe_is_listed,
        bite: |tree| append(tree, "src/error.rs", "fn f() { unsafe { g() } }\n"),
    },
    Rule {
        name: "what unsafe says",
        check: unsafe_is_argued,
        bite: |tree| append(tree, "src/io/sys.rs", "fn f() { unsafe { g() } }\n"),
    },
    Rule {
        name: "length of files",
        check: files_are_short,
        bite: |tree| append(tree, "src/error.rs", &"//\n".repeat(500)),
    },
    Rule {
        name: "ASCII",
        check: source_is_ascii,
        bite: |tree| append(tree, "src/error.rs", "// na\u{ef}ve\n"),
    },
    Rule {
        name: "white space",
        check: white_space_is_plain,
        bite: |tree| append(tree, "README.md", "a line \n"),
    },
    Rule {
        name: "no unwrap",
        check: nothing_unwraps,
        bite: |tree| append(tree, "src/error.rs", "fn f() { g().unwrap() }\n"),
    },
    Rule {
        name: "who prints",
        check: only_cli_prints,
        bite: |tree| append(tree, "src/error.rs", "fn f() { eprintln!(\"x\") }\n"),
    },
    Rule {
        name: "nothing put off",
        check: nothing_is_put_off,
        bite: |tree| append(tree, "tests/beneath.rs", concat!("// TO", "DO: later\n")),
    },
    Rule {
        name: "reasons for dependencies",
        check: dependencies_have_reasons,
        bite: |tree| {
            let cargo = tree.get_mut("Cargo.toml").unwrap();
            *cargo = cargo.replace("[dependencies]\n", "[dependencies]\nrayon = \"1\"\n");
        },
    },
    Rule {
        name: "documents",
        check: documents_are_whole,
        bite: |tree| {
            let readme = tree.get_mut("README.md").unwrap();
            *readme = readme.replace("| 75 |", "| 76 |");
        },
    },
    Rule {
        name: "changelog",
        check: changelog_is_open,
        bite: |tree| drop(tree.insert("CHANGELOG.md".to_owned(), "# Changelog\n".to_owned())),
    },
    Rule {
        name: "paths of one machine",
        check: paths_are_nobodys,
        bite: |tree| append(tree, "README.md", concat!("cd /ho", "me/me/inhaul\n")),
    },
];

#[test]
fn the_tree_is_tidy() {
    let tree = tree();
    let complaints: Vec<String> = RULES.iter().flat_map(|rule| (rule.check)(&tree)).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn every_rule_bites() {
    let clean = tree();
    for rule in &RULES {
        let mut broken = clean.clone();
        (rule.bite)(&mut broken);
        assert_ne!(clean, broken, "{}: its edit changes nothing", rule.name);
        let complaints = (rule.check)(&broken);
        assert_eq!(complaints.len(), 1, "{}: {complaints:?}", rule.name);
    }
}

/// Reads the package, but for what git and cargo keep in it.
fn tree() -> Tree {
    fn read(top: &Path, dir: &Path, tree: &mut Tree) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() && name != "target" && name != ".git" {
                read(top, &path, tree);
            } else if path.is_file()
                && name != ".git"
                && let Ok(text) = std::fs::read_to_string(&path)
            {
                tree.insert(name, text);
            }
        }
    }
    let mut tree = Tree::new();
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    read(top, top, &mut tree);
    tree
}

fn append(tree: &mut Tree, file: &str, text: &str) {
    tree.get_mut(file).unwrap().push_str(text);
}

fn source(tree: &Tree) -> impl Iterator<Item = (&String, &String)> {
    let is_rust = |path: &str| Path::new(path).extension() == Some("rs".as_ref());
    tree.iter()
        .filter(move |(path, _)| path.starts_with("src/") && is_rust(path))
}

/// Returns the code of each source file without comments, contents of strings, and tests.
fn code(tree: &Tree) -> BTreeMap<&str, String> {
    let mut tests = BTreeSet::new();
    let mut code = BTreeMap::new();
    for (path, text) in source(tree) {
        let (text, modules) = production(text);
        let (dir, _) = path.rsplit_once('/').unwrap();
        tests.extend(modules.iter().map(|module| format!("{dir}/{module}")));
        code.insert(path.as_str(), text);
    }
    // A module is NAME.rs, or a folder of that name.
    let is_of = |path: &str, test: &String| {
        let rest = path.strip_prefix(test.as_str());
        rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
    };
    code.retain(|path, _| !tests.iter().any(|test| is_of(path, test)));
    code
}

/// Returns the top-level module that a source file belongs to.
fn module(path: &str) -> &str {
    let path = path.strip_prefix("src/").unwrap();
    path.split(['/', '.']).next().unwrap()
}

/// Returns the lines of the fenced block of ARCHITECTURE.md that has this label.
fn block<'t>(tree: &'t Tree, label: &str) -> Vec<&'t str> {
    let text = tree.get("ARCHITECTURE.md").map_or("", String::as_str);
    let fence = format!("```{label}");
    let lines = text.lines().skip_while(|line| *line != fence).skip(1);
    lines.take_while(|line| *line != "```").collect()
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split('\n').enumerate().map(|(i, line)| (i + 1, line))
}

fn deps_are_stated(tree: &Tree) -> Vec<String> {
    let mut found: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let code = code(tree);
    for (path, text) in &code {
        let module = module(path);
        if matches!(module, "lib" | "main") {
            continue;
        }
        let uses = found.entry(module).or_default();
        let after = text.split("crate::").skip(1);
        let names = after.filter_map(|rest| words(rest).next().map(|(_, word)| word));
        uses.extend(names.filter(|name| *name != module));
    }
    let mut stated: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in block(tree, "deps") {
        let (module, uses) = line.split_once(':').unwrap_or((line, ""));
        let uses = uses
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty());
        stated.insert(module.trim(), uses.collect());
    }
    let mut complaints = Vec::new();
    let modules: BTreeSet<&str> = found.keys().chain(stated.keys()).copied().collect();
    for module in modules {
        let none = BTreeSet::new();
        let (uses, may) = (found.get(module), stated.get(module));
        let (uses, may) = (uses.unwrap_or(&none), may.unwrap_or(&none));
        for name in uses.difference(may) {
            complaints.push(format!(
                "src/{module} uses {name}, which the deps block of ARCHITECTURE.md does not \
                 allow: state it there if the map is to have that line"
            ));
        }
        for name in may.difference(uses) {
            complaints.push(format!(
                "ARCHITECTURE.md lets {module} use {name}, but it does not: a map with lines that \
                 are not there is no map"
            ));
        }
    }
    complaints
}

fn deps_are_plain(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for (path, text) in code(tree) {
        let depth = path.split('/').count() - 1;
        let depth = if path.ends_with("/mod.rs") {
            depth - 1
        } else {
            depth
        };
        let to_root = "super::".repeat(depth.max(1));
        for (number, line) in numbered(&text) {
            if line.contains("crate::{") || line.contains(&to_root) && module(path) != "lib" {
                complaints.push(format!(
                    "{path}:{number}: say crate::MODULE, one module a line, so that the check of \
                     who uses whom can read it"
                ));
            }
        }
    }
    complaints
}

fn unsafe_is_listed(tree: &Tree) -> Vec<String> {
    let code = code(tree);
    let uses = |text: &&String| words(text).any(|(_, word)| word == "unsafe");
    let found: BTreeSet<&str> = code
        .iter()
        .filter(|(_, text)| uses(text))
        .map(|(path, _)| *path)
        .collect();
    let stated: BTreeSet<&str> = block(tree, "unsafe").into_iter().collect();
    found
        .symmetric_difference(&stated)
        .map(|path| {
            format!(
                "{path}: `unsafe` lives in the files that ARCHITECTURE.md lists and nowhere else, \
                 so that a reader knows all there is to check"
            )
        })
        .collect()
}

fn unsafe_is_argued(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for (path, text) in code(tree) {
        let whole: Vec<&str> = tree.get(path).unwrap().split('\n').collect();
        let mut noted_from = 0;
        for (number, line) in numbered(&text) {
            if !words(line).any(|(_, word)| word == "unsafe") {
                continue;
            }
            let above = whole.get(noted_from..number).unwrap_or_default();
            let has = |note: &str| above.iter().any(|line| line.contains(note));
            if !has("// SAFETY:") || !whole.contains(&"//! # Safety invariants") {
                complaints.push(format!(
                    "{path}:{number}: an unsafe block needs a SAFETY note of its own, and its file \
                     the numbered invariants the note appeals to: else nobody can check it"
                ));
            }
            noted_from = number;
        }
    }
    complaints
}

/// Longest source file, in lines: what a reader keeps in mind.
const LINES_MAX: usize = 500;
/// Files that were longer when the rule came. They may shrink, not grow.
const LONG_FILES: [(&str, usize); 1] = [("src/buffer/arena.rs", 532)];

fn files_are_short(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for (path, text) in source(tree) {
        let count = text.lines().count();
        let allowed = LONG_FILES.iter().find(|(long, _)| long == path);
        let most = allowed.map_or(LINES_MAX, |(_, most)| *most);
        if count > most {
            complaints.push(format!(
                "{path}: {count} lines, at most {most}: it holds more than one idea; split it"
            ));
        }
        if allowed.is_some() && count <= LINES_MAX {
            complaints.push(format!("{path}: short enough now; take it off LONG_FILES"));
        }
    }
    complaints
}

fn source_is_ascii(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for (path, text) in source(tree) {
        for (number, _) in numbered(text).filter(|(_, line)| !line.is_ascii()) {
            complaints.push(format!(
                "{path}:{number}: source is ASCII, so that what is read is what is compiled; \
                 write \\u{{..}}"
            ));
        }
    }
    complaints
}

fn white_space_is_plain(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    let checked = |path: &str| {
        [".rs", ".md", ".toml"]
            .iter()
            .any(|end| path.ends_with(end))
            || path.starts_with(".ci/")
    };
    for (path, text) in tree.iter().filter(|(path, _)| checked(path)) {
        for (number, line) in numbered(text) {
            if line.contains('\t') || line.trim_end() != line {
                complaints.push(format!(
                    "{path}:{number}: a tab or white space at the end, which reviews cannot see"
                ));
            }
        }
        if !text.ends_with('\n') || text.ends_with("\n\n") {
            complaints.push(format!(
                "{path}: ends with one line end, so that lines can follow"
            ));
        }
    }
    complaints
}

fn nothing_unwraps(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for (path, text) in code(tree) {
        for (number, _) in numbered(&text).filter(|(_, line)| line.contains(".unwrap()")) {
            complaints.push(format!(
                "{path}:{number}: handle it, or expect(\"why it holds\"): an unwrap says nothing \
                 to whoever it fails on"
            ));
        }
    }
    complaints
}

fn only_cli_prints(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for (path, text) in code(tree)
        .into_iter()
        .filter(|(path, _)| module(path) != "cli")
    {
        for (number, line) in numbered(&text) {
            let prints = words(line).any(|(_, word)| {
                matches!(
                    word,
                    "print" | "println" | "eprint" | "eprintln" | "stdout" | "stderr"
                )
            });
            if prints {
                complaints.push(format!(
                    "{path}:{number}: only src/cli writes to standard output and standard error, \
                     or lines would tear the live display and the events"
                ));
            }
        }
    }
    complaints
}

fn nothing_is_put_off(tree: &Tree) -> Vec<String> {
    let put_off = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
    ];
    let mut complaints = Vec::new();
    for (path, text) in tree {
        for (number, line) in numbered(text) {
            if words(line).any(|(_, word)| put_off.contains(&word)) {
                complaints.push(format!(
                    "{path}:{number}: do it now or file an issue; a note in the code is read by \
                     nobody who could act"
                ));
            }
        }
    }
    complaints
}

fn dependencies_have_reasons(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    let (mut in_dependencies, mut before) = (false, "");
    for (number, line) in numbered(tree.get("Cargo.toml").map_or("", String::as_str)) {
        if line.starts_with('[') {
            in_dependencies = line.contains("dependencies");
        } else if in_dependencies && line.contains(" = ") && !before.starts_with("# ") {
            complaints.push(format!(
                "Cargo.toml:{number}: say in a comment above what this dependency is for, so that \
                 it can go when that does"
            ));
        }
        before = line;
    }
    complaints
}

fn documents_are_whole(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    let readme = tree.get("README.md").map_or("", String::as_str);
    for exit in Exit::ALL {
        if !readme.contains(&format!("\n| {} |", exit.code())) {
            complaints.push(format!(
                "README.md: no row for exit code {}; a script's author must not have to guess",
                exit.code()
            ));
        }
    }
    let map = tree.get("ARCHITECTURE.md").map_or("", String::as_str);
    if map.lines().count() >= 200 {
        complaints.push("ARCHITECTURE.md: 200 lines or more, which nobody reads".to_owned());
    }
    let modules: BTreeSet<&str> = source(tree).map(|(path, _)| module(path)).collect();
    for name in modules
        .into_iter()
        .filter(|name| !matches!(*name, "lib" | "main"))
    {
        let known =
            map.contains(&format!("`src/{name}/`")) || map.contains(&format!("`src/{name}.rs`"));
        if !known {
            complaints.push(format!(
                "ARCHITECTURE.md: src/{name} is not in the code map"
            ));
        }
    }
    complaints
}

fn changelog_is_open(tree: &Tree) -> Vec<String> {
    let log = tree.get("CHANGELOG.md").map_or("", String::as_str);
    if log.lines().any(|line| line == "## Unreleased") {
        return Vec::new();
    }
    let why = "CHANGELOG.md: no `## Unreleased` heading: a change that users notice has no place";
    vec![why.to_owned()]
}

fn paths_are_nobodys(tree: &Tree) -> Vec<String> {
    let homes = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
    ];
    let mut complaints = Vec::new();
    for (path, text) in tree {
        for (number, line) in numbered(text) {
            // A path that begins there; not one that has such a name further down.
            let begins = |home: &&str| {
                line.match_indices(*home).any(|(at, _)| {
                    !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-}".contains(c))
                })
            };
            if homes.iter().any(begins) {
                complaints.push(format!(
                    "{path}:{number}: a path of somebody's machine, which no other has"
                ));
            }
        }
    }
    complaints
}
