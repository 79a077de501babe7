//! `consumer`: brings the logs of CI jobs from GitLab into Elasticsearch.

use std::process::ExitCode;

use anyhow::Result;
use consumer::{Cli, Command, Consumer};

#[tokio::main]
async fn main() -> ExitCode {
    service::install_tls_provider();
    let cli: Cli = service::cli::parse();
    service::logs::start(cli.flags.logs.debug);
    let outcome = match &cli.command {
        Some(Command::Setup(flags)) if flags.print_roles => {
            consumer::print_roles(flags, &cli.elasticsearch)
        }
        Some(Command::Setup(flags)) => checked(consumer::setup_of(flags, &cli.elasticsearch)).await,
        Some(Command::Retention(flags)) => {
            checked(consumer::retention_of(flags, &cli.elasticsearch)).await
        }
        Some(Command::Kibana(flags)) => {
            checked(consumer::kibana_of(flags, &cli.elasticsearch)).await
        }
        Some(Command::Parse(flags)) => consumer::parse(flags),
        Some(Command::Healthcheck { admin }) => consumer::healthcheck(admin).await,
        None => consume(cli).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("consumer: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn consume(cli: Cli) -> Result<()> {
    let config = checked(cli.flags.into_config(&cli.elasticsearch));
    let consumer = Consumer::bind(config).await?;
    tokio::select! {
        ended = consumer.run_until(service::shutdown::requested()) => ended,
        _ = service::shutdown::insisted() => {
            eprintln!("consumer: ended at once; the messages that it had come again");
            // Not through the runtime, which would wait for what hangs.
            std::process::exit(1);
        }
    }
}

/// Ends the process with one sentence where flags, variables or secret files are wrong.
fn checked<T>(settings: Result<T>) -> T {
    settings.unwrap_or_else(|error| service::cli::refuse("consumer", &error))
}
