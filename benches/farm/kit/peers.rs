//! The tools under test: each a line of shell that gets the target as `$T`, the common parent of
//! the sources as `$R`, and the sources as arguments.

use std::path::Path;
use std::process::Command;

use super::{Result, shell};

/// What the shell line of a tool needs to know before it starts: a helper for hashing pipelines.
const TEE_LINE: &str = r#"
tee_tree() { # SOURCE: copies it file by file, the digest taken in the same pass
  name=${1##*/}; mkdir -p "$T/$name"
  (cd "$1" && find . -type d -not -name lost+found -exec mkdir -p "$T/$name/{}" \;
   find . -type f | while IFS= read -r f; do
     printf '%s  %s\n' "$(tee "$T/$name/$f" < "$f" | b3sum --num-threads 1 --no-names)" "$f"
   done > "$T/.sums-$name")
}
sum_tree() { # SOURCE: hashes its finished copy
  name=${1##*/}
  (cd "$T/$name" && find . -type f -print0 | xargs -0 -r b3sum --num-threads 1 > "$T/.sums-$name")
}
"#;

/// A tool and how it is called.
#[derive(Debug, Clone)]
pub(crate) struct Tool {
    /// As the table names it.
    pub(crate) name: String,
    /// The shell line.
    pub(crate) line: String,
    /// Programs it needs; none for ours.
    pub(crate) needs: Vec<&'static str>,
    /// Whether it takes a digest of every byte.
    pub(crate) hashes: bool,
    /// Whether it leaves a copy that can be checked; fio does not.
    pub(crate) copies: bool,
}

impl Tool {
    /// One that copies and takes no digest.
    pub(crate) fn peer(name: &str, line: &str, needs: &[&'static str]) -> Self {
        Self {
            name: name.to_owned(),
            line: line.to_owned(),
            needs: needs.to_vec(),
            hashes: false,
            copies: true,
        }
    }

    fn hashing(mut self) -> Self {
        self.hashes = true;
        self
    }

    /// Whether this is the program under test.
    pub(crate) fn ours(&self) -> bool {
        self.name.starts_with("inhaul")
    }

    /// The first program it needs that is not here.
    pub(crate) fn missing(&self) -> Option<&'static str> {
        self.needs
            .iter()
            .copied()
            .find(|program| shell::find(program).is_none())
    }

    /// The whole script.
    pub(crate) fn script(&self) -> String {
        format!("{TEE_LINE}\n{}", self.line)
    }
}

/// The program under test, with further options.
pub(crate) fn inhaul(inhaul: &Path, options: &str) -> Tool {
    let name = format!("inhaul {options}");
    Tool::peer(
        name.trim_end(),
        &format!(
            "exec '{}' copy -q --progress none {options} \"$@\" \"$T\"",
            inhaul.display()
        ),
        &[],
    )
    .hashing()
}

/// `fio` with the given jobs: what the devices themselves give.
pub(crate) fn fio(name: &str, arguments: &str) -> Tool {
    let mut tool = Tool::peer(
        name,
        &format!("exec fio --output=/dev/null {arguments}"),
        &["fio"],
    );
    tool.copies = false;
    tool
}

/// The peers, by name.
pub(crate) fn peer(name: &str) -> Result<Tool> {
    Ok(match name {
        "cp -a" => Tool::peer(name, r#"exec cp -a "$@" "$T"/"#, &["cp"]),
        "cp -a && sync" => Tool::peer(name, r#"cp -a "$@" "$T"/ && sync -f "$T""#, &["cp"]),
        "rsync -a" => Tool::peer(name, r#"exec rsync -a "$@" "$T"/"#, &["rsync"]),
        // Its local copies are checked against a digest of both sides.
        "rclone copy" => Tool::peer(
            name,
            r#"exec rclone copy -q --config /dev/null --links --transfers 16 "$R" "$T""#,
            &["rclone"],
        )
        .hashing(),
        "cpz" => Tool::peer(name, r#"exec cpz "$@" "$T"/"#, &["cpz"]),
        "xcp" => Tool::peer(
            name,
            r#"exec xcp -r --no-progress --workers 16 "$@" "$T"/"#,
            &["xcp"],
        ),
        "parallel cp" => Tool::peer(name, r#"for s; do cp -a "$s" "$T"/ & done; wait"#, &["cp"]),
        "parallel rsync" => Tool::peer(
            name,
            r#"for s; do rsync -a "$s" "$T"/ & done; wait"#,
            &["rsync"],
        ),
        "parallel tee | b3sum" => {
            Tool::peer(name, r#"for s; do tee_tree "$s" & done; wait"#, &["b3sum"]).hashing()
        }
        "parallel cp, then b3sum" => Tool::peer(
            name,
            r#"for s; do { cp -a "$s" "$T"/ && sum_tree "$s"; } & done; wait"#,
            &["cp", "b3sum"],
        )
        .hashing(),
        _ => return Err(format!("no peer is called {name}")),
    })
}

/// Installs what can be installed; says what could not.
pub(crate) fn install() -> Vec<String> {
    let mut failed = Vec::new();
    for (program, package) in [
        ("rsync", "rsync"),
        ("rclone", "rclone"),
        ("fio", "fio"),
        ("mkfs.ext4", "e2fsprogs"),
        ("mkfs.xfs", "xfsprogs"),
        ("mkfs.btrfs", "btrfs-progs"),
    ] {
        get(
            program,
            "apt-get",
            &["install", "-y", "-qq", package],
            &mut failed,
        );
    }
    for program in ["b3sum", "cpz", "xcp"] {
        get(
            program,
            "cargo",
            &["install", "--locked", program],
            &mut failed,
        );
    }
    failed
}

fn get(program: &str, installer: &str, arguments: &[&str], failed: &mut Vec<String>) {
    if shell::find(program).is_some() {
        return;
    }
    let done = Command::new(installer)
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status();
    if !done.is_ok_and(|status| status.success()) {
        failed.push(format!("{program}: {installer} could not install it"));
    }
}
