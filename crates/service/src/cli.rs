//! Command lines: a wrong one gets one sentence that names the flag or variable, and exit 2.

use std::process::exit;

use clap::{
    Parser,
    error::{ContextKind, ContextValue, ErrorKind},
};

/// The exit code for wrong flags, variables and secret files.
pub const EXIT_USAGE: i32 = 2;

/// Parses the process's flags and `JOBLOGS_` variables, or ends the process with one sentence.
pub fn parse<T: Parser>() -> T {
    T::try_parse().unwrap_or_else(|error| match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => error.exit(),
        _ => {
            eprintln!("{}: {}", T::command().get_name(), sentence(&error));
            exit(EXIT_USAGE)
        }
    })
}

/// Clap's message without its usage block. Where the value came from a variable, the variable
/// is named, as that is what has to be changed.
fn sentence(error: &clap::Error) -> String {
    let text = error.to_string();
    let first: Vec<&str> = text
        .trim_start_matches("error: ")
        .lines()
        .take_while(|line| !line.is_empty())
        .map(str::trim)
        .collect();
    let mut sentence = first.join(" ");
    if let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) {
        let flag = argument.split_whitespace().next().unwrap_or_default();
        let variable = variable_of(flag);
        let is_on_command_line = std::env::args().any(|word| word.split('=').next() == Some(flag));
        if !is_on_command_line && std::env::var_os(&variable).is_some() {
            sentence = format!("{sentence} (from the variable {variable})");
        }
    }
    format!("{sentence}; see --help")
}

fn variable_of(flag: &str) -> String {
    let name = flag
        .trim_start_matches('-')
        .replace('-', "_")
        .to_uppercase();
    format!("JOBLOGS_{name}")
}

/// Ends the process with one sentence about a wrong setting.
pub fn refuse(program: &str, error: &anyhow::Error) -> ! {
    eprintln!("{program}: {error:#}");
    exit(EXIT_USAGE)
}
