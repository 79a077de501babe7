//! Command lines: a wrong one gets one sentence that names the flag or variable, and exit 2.

use std::{fmt::Write as _, path::Path, process::exit};

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

/// The flags of a command as the rows of a Markdown table: flag, variable, default, what it is.
pub fn flag_table(command: &clap::Command) -> String {
    let mut table = "| flag | variable | default | |\n|---|---|---|---|\n".to_owned();
    for flag in command
        .get_arguments()
        .filter(|flag| flag.get_long().is_some())
    {
        let long = flag.get_long().unwrap_or_default();
        let short = flag
            .get_short()
            .map(|short| format!("`-{short}`, "))
            .unwrap_or_default();
        let variable = flag
            .get_env()
            .map(|name| format!("`{}`", name.to_string_lossy()));
        let defaults: Vec<String> = flag
            .get_default_values()
            .iter()
            .map(|value| format!("`{}`", value.to_string_lossy()))
            .collect();
        let help = flag
            .get_long_help()
            .or(flag.get_help())
            .map(ToString::to_string);
        let help = help.unwrap_or_default().replace('\n', " ");
        let _ = writeln!(
            table,
            "| {short}`--{long}` | {} | {} | {} |",
            variable.unwrap_or_default(),
            defaults.join(", "),
            help.replace('|', "\\|")
        );
    }
    table
}

/// For a test: whether the README's section `name` holds this table. `UPDATE_README=1` writes it there.
pub fn check_readme(readme: &Path, name: &str, table: &str) -> std::io::Result<bool> {
    let text = std::fs::read_to_string(readme)?;
    let (begin, end) = (
        format!("<!-- flags of {name} -->\n"),
        "<!-- end of flags -->",
    );
    let Some((before, rest)) = text.split_once(&begin) else {
        return Ok(false);
    };
    let Some((held, after)) = rest.split_once(end) else {
        return Ok(false);
    };
    if held == table {
        return Ok(true);
    }
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(readme, format!("{before}{begin}{table}{end}{after}"))?;
        return Ok(true);
    }
    Ok(false)
}

/// Ends the process with one sentence about a wrong setting.
pub fn refuse(program: &str, error: &anyhow::Error) -> ! {
    eprintln!("{program}: {error:#}");
    exit(EXIT_USAGE)
}
