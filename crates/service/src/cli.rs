//! Command lines: a wrong one gets one sentence that names the flag or variable, and exit 2.

use std::{env, ffi::OsString, fmt::Write as _, net::Ipv6Addr, path::Path, process::exit};

use anyhow::{Result, bail};
use clap::{
    Arg, Command, Parser,
    error::{ContextKind, ContextValue, ErrorKind},
};

/// The exit code for wrong flags, variables and secret files.
pub const EXIT_USAGE: i32 = 2;

/// Parses the process's flags and `JOBLOGS_` variables, or ends the process with one sentence.
/// A variable that is set but empty counts as unset, as Compose sets those that nobody gave.
pub fn parse<T: Parser>() -> T {
    let mut command = without_empty_variables(T::command());
    let matches = command.try_get_matches_from_mut(env::args_os());
    let parsed = matches.and_then(|mut matches| T::from_arg_matches_mut(&mut matches));
    parsed.unwrap_or_else(|error| match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => error.exit(),
        _ => {
            let words: Vec<OsString> = env::args_os().skip(1).collect();
            let sentence = sentence(&error, &command, &words);
            eprintln!("{}: {sentence}", command.get_name());
            exit(EXIT_USAGE)
        }
    })
}

fn without_empty_variables(command: Command) -> Command {
    let is_empty = |arg: &Arg| {
        let name = arg.get_env()?;
        Some(env::var_os(name)?.is_empty())
    };
    command
        .mut_args(|arg| match is_empty(&arg) {
            Some(true) => arg.env(None),
            _ => arg,
        })
        .mut_subcommands(without_empty_variables)
}

/// Clap's message without its usage block. Where the value came from a variable, the variable
/// is named, as that is what has to be changed.
fn sentence(error: &clap::Error, command: &Command, words: &[OsString]) -> String {
    let text = error.to_string();
    let first: Vec<&str> = text
        .trim_start_matches("error: ")
        .lines()
        .take_while(|line| !line.is_empty())
        .map(str::trim)
        .collect();
    let mut sentence = first.join(" ");
    if let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg)
        && let Some(arg) = argument_of(argument, command)
        && let Some(variable) = arg.get_env()
        && env::var_os(variable).is_some()
        && !words
            .iter()
            .any(|word| is_for(&word.to_string_lossy(), arg))
    {
        let _ = write!(sentence, " (from the variable {})", variable.display());
    }
    format!("{sentence}; see --help")
}

/// The argument that clap calls `--name <VALUE>` or `--name[=<VALUE>]`, of the command or of one
/// of its subcommands.
fn argument_of<'a>(called: &str, command: &'a Command) -> Option<&'a Arg> {
    let name = called.split([' ', '[', '=']).next()?.strip_prefix("--")?;
    let mut commands = std::iter::once(command).chain(command.get_subcommands());
    commands.find_map(|it| it.get_arguments().find(|arg| arg.get_long() == Some(name)))
}

/// Whether the word of the command line is this flag: `--name`, `--name=VALUE`, `-n` or `-nVALUE`.
fn is_for(word: &str, arg: &Arg) -> bool {
    match word.strip_prefix("--") {
        Some(long) => arg.get_long() == long.split('=').next(),
        None => word
            .strip_prefix('-')
            .and_then(|short| short.chars().next())
            .is_some_and(|short| arg.get_short() == Some(short)),
    }
}

/// A host as it stands in a URL: an IPv6 address in brackets. What is more than a host is refused,
/// and not repeated: it may hold a password.
pub fn host_in_url(host: &str) -> Result<String> {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    if bare.parse::<Ipv6Addr>().is_ok() {
        return Ok(format!("[{bare}]"));
    }
    let is_allowed = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    if host.is_empty() || !host.chars().all(is_allowed) {
        bail!("must be a host name or an address alone");
    }
    Ok(host.to_owned())
}

/// The variables of a command's flags that stand nowhere in a text, such as that of the appliance.
pub fn variables_missing_in(command: &clap::Command, text: &str) -> Vec<String> {
    let words = || text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let variables = command.get_arguments().filter_map(clap::Arg::get_env);
    variables
        .map(|it| it.to_string_lossy().into_owned())
        .filter(|variable| !words().any(|word| word == variable))
        .collect()
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        /// A port.
        #[arg(short, long, env = "CARGO_PKG_NAME")]
        port: Option<u16>,
    }

    #[test]
    fn a_flag_is_known_by_each_of_its_spellings() {
        let command = Cli::command();
        for called in ["--port <PORT>", "--port[=<PORT>]", "--port"] {
            assert!(argument_of(called, &command).is_some(), "{called}");
        }
        let port = argument_of("--port", &command).unwrap();
        for (word, is_port) in [
            ("--port", true),
            ("--port=1", true),
            ("-p", true),
            ("-p1", true),
            ("--ports", false),
            ("p", false),
            ("-", false),
        ] {
            assert_eq!(is_for(word, port), is_port, "{word}");
        }
    }

    /// A short flag's wrong value was blamed on the variable.
    #[test]
    fn the_variable_is_named_where_the_value_came_from_it() {
        // Cargo sets this one, and it is no number.
        let variable = "(from the variable CARGO_PKG_NAME)";
        for (words, is_from_variable) in [
            (vec![], true),
            (vec!["-p", "x"], false),
            (vec!["--port=x"], false),
        ] {
            let all = ["program"].iter().chain(&words);
            let error = Cli::try_parse_from(all).unwrap_err();
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            let said = sentence(&error, &Cli::command(), &words);
            assert_eq!(said.contains(variable), is_from_variable, "{said}");
        }
    }

    #[test]
    fn a_host_in_a_url_has_brackets_around_ipv6_alone() {
        for (host, in_url) in [
            ("es", "es"),
            ("es-1.example.com", "es-1.example.com"),
            ("10.0.0.1", "10.0.0.1"),
            ("::1", "[::1]"),
            ("[2001:db8::1]", "[2001:db8::1]"),
        ] {
            assert_eq!(host_in_url(host).unwrap(), in_url);
        }
        for host in [
            "",
            "http://es",
            "es/path",
            "es:9200",
            "user:canary@es",
            "es?x",
            "es#x",
            "e s",
            "[es]",
            "fe80::1%eth0",
            "es\\x",
            "es%2f",
        ] {
            let said = host_in_url(host).unwrap_err().to_string();
            assert!(!said.contains("canary"), "{said}");
        }
    }
}
