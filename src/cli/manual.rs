//! `prismrec completions` and `prismrec man`: both made of the definitions that parse the command line.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Cli, print};
use crate::error::{Error, Result};

/// Print a script that completes commands and flags in a shell
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  prismrec completions bash > ~/.local/share/bash-completion/completions/prismrec
  prismrec completions zsh > ~/.zfunc/_prismrec
  prismrec completions fish > ~/.config/fish/completions/prismrec.fish")]
pub(super) struct CompletionsArgs {
    shell: Shell,
}

/// Print a manual page
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  prismrec man | man -l -                 the program's page
  prismrec man train | man -l -           a command's page
  prismrec man --out ~/.local/share/man/man1")]
pub(super) struct ManArgs {
    /// Of this command [default: of the program]
    #[arg(conflicts_with = "out")]
    command: Option<String>,
    /// Write the pages of all commands into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn completions(arguments: &CompletionsArgs) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "prismrec", &mut script);
    write(&script);
    Ok(())
}

pub(super) fn man(arguments: &ManArgs) -> Result<()> {
    let mut program = Cli::command().disable_help_subcommand(true);
    if let Some(folder) = &arguments.out {
        fs::create_dir_all(folder).map_err(Error::file("make the folder", folder))?;
        clap_mangen::generate_to(program, folder).map_err(Error::file("write manual pages to", folder))?;
        print(&format!("written to {}", folder.display()));
        return Ok(());
    }
    program.build();
    let command = match &arguments.command {
        None => program,
        Some(name) => program.find_subcommand(name).cloned().ok_or_else(|| {
            let names: Vec<_> = program.get_subcommands().map(clap::Command::get_name).collect();
            Error::Setting(format!("there is no command \"{name}\"; there are: {}", names.join(", ")))
        })?,
    };
    let mut page = Vec::new();
    Man::new(command).render(&mut page).map_err(Error::file("write", "the manual page"))?;
    write(&page);
    Ok(())
}

/// Writes to standard output; a reader that has left is no error.
fn write(bytes: &[u8]) {
    let _ = io::stdout().write_all(bytes);
}
