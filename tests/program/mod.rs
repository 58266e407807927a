//! The program, as tests of commands run it.

#![allow(dead_code)] // no test takes all of it

use std::path::Path;

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::{contains, starts_with};

/// The program, run in `folder`.
pub fn prismrec(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("prismrec").unwrap();
    command.current_dir(folder).env_remove("RUST_LOG").env_remove("PRISMREC_DATA").args(arguments);
    command
}

/// The command fails with code 1 and one error that says all of `what`.
pub fn refused(folder: &Path, arguments: &[&str], what: &[&str]) {
    let mut assert = prismrec(folder, arguments).assert().code(1).stderr(starts_with("error: "));
    for text in what {
        assert = assert.stderr(contains(*text));
    }
    assert.stderr(contains("panicked").not());
}
