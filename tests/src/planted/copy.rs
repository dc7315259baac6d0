//! A copy of the tree with one patch in it, and programs that are built of it. The working tree is never touched.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The copy, under `target/planted/`.
#[derive(Clone, Debug)]
pub struct Copy {
    root: PathBuf,
}

impl Copy {
    /// The copy of the tree at `root`; nothing is copied yet.
    pub fn of(root: &Path) -> Copy {
        Copy { root: root.to_path_buf() }
    }

    /// The folder in which everything lies that comes of planted bugs.
    pub fn folder(&self) -> PathBuf {
        self.root.join("target/planted")
    }

    fn tree(&self) -> PathBuf {
        self.folder().join("tree")
    }

    fn target(&self) -> PathBuf {
        self.folder().join("build")
    }

    /// A program that was built.
    pub fn program(&self, name: &str) -> PathBuf {
        self.target().join("planted").join(name)
    }

    /// Brings the copy to the state of the working tree.
    ///
    /// # Errors
    /// In words: what could not be read or written.
    pub fn refresh(&self) -> Result<(), String> {
        copy_tree(&self.root, &self.tree())
    }

    /// The same, with a patch of `tests/planted/` in it.
    ///
    /// # Errors
    /// In words: also a patch that does not apply, or changes nothing.
    pub fn plant(&self, patch: &str) -> Result<(), String> {
        self.refresh()?;
        let patch = self.root.join("tests/planted").join(patch);
        // The copy lies inside a repository that ignores it: there, git would find nothing to patch and say nothing.
        let applied = run(Command::new("git")
            .args(["apply", "--whitespace=nowarn"])
            .arg(&patch)
            .env("GIT_CEILING_DIRECTORIES", self.folder())
            .current_dir(self.tree()))?;
        if !applied.0 {
            return Err(format!("{} does not apply: {}", patch.display(), applied.1));
        }
        if !differs(&self.root, &self.tree(), &patch)? {
            return Err(format!("{} changed nothing", patch.display()));
        }
        Ok(())
    }

    /// Builds programs that have the names of their packages.
    ///
    /// # Errors
    /// What the compiler says.
    pub fn build(&self, packages: &[&str]) -> Result<(), String> {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--profile", "planted", "--locked"]);
        for package in packages {
            build.args(["-p", package]);
        }
        let built = run(build
            .arg("--bins")
            .env("CARGO_TARGET_DIR", self.target())
            // A build that keeps no parts would compile the whole simulator for each bug.
            .env_remove("CARGO_INCREMENTAL")
            .current_dir(self.tree()))?;
        if built.0 { Ok(()) } else { Err(format!("the copy does not build:\n{}", built.1)) }
    }
}

/// Brings the copy to the state of the working tree: writes only what differs, so that cargo rebuilds only that.
fn copy_tree(root: &Path, tree: &Path) -> Result<(), String> {
    let listed = run(Command::new("git").args(["ls-files", "-z"]).current_dir(root))?;
    if !listed.0 {
        return Err(format!("git ls-files failed: {}", listed.1));
    }
    let names: BTreeSet<&str> = listed.1.split('\0').filter(|name| !name.is_empty()).collect();
    if tree.exists() {
        remove_others(tree, tree, &names)?;
    }
    for name in names {
        let (from, to): (PathBuf, PathBuf) = (root.join(name), tree.join(name));
        let bytes = std::fs::read(&from).map_err(|error| format!("{}: {error}", from.display()))?;
        if std::fs::read(&to).is_ok_and(|present| present == bytes) {
            continue;
        }
        let folder = to.parent().expect("a file lies in a folder");
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        std::fs::write(&to, bytes).map_err(|error| format!("{}: {error}", to.display()))?;
    }
    Ok(())
}

/// Removes what an earlier state of the working tree has left in the copy: a module with two files does not build.
fn remove_others(tree: &Path, folder: &Path, names: &BTreeSet<&str>) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        if entry.file_type().map_err(failed)?.is_dir() {
            remove_others(tree, &path, names)?;
            continue;
        }
        let name = path.strip_prefix(tree).expect("it lies in the copy");
        if !name.to_str().is_some_and(|name| names.contains(name)) {
            std::fs::remove_file(&path).map_err(failed)?;
        }
    }
    Ok(())
}

/// Whether every file that the patch names differs from the working tree's.
fn differs(root: &Path, tree: &Path, patch: &Path) -> Result<bool, String> {
    let read = |path: &Path| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let text = String::from_utf8_lossy(&read(patch)?).into_owned();
    let mut names = text.lines().filter_map(|line| line.strip_prefix("+++ b/")).peekable();
    if names.peek().is_none() {
        return Ok(false);
    }
    for name in names {
        if read(&root.join(name))? == read(&tree.join(name))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Runs a command. Returns whether it succeeded, and what it printed.
///
/// # Errors
/// In words: why it could not be started.
pub fn run(command: &mut Command) -> Result<(bool, String), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        text.push_str(&String::from_utf8_lossy(&output.stderr));
    }
    Ok((output.status.success(), text))
}
