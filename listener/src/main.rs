//! `listener`: takes notices of CI jobs over HTTP and confirms them into RabbitMQ.

use std::process::ExitCode;

use listener::{Cli, Command, Flags, Listener};

#[tokio::main]
async fn main() -> ExitCode {
    service::install_tls_provider();
    let cli: Cli = service::cli::parse();
    let outcome = match cli.command {
        Some(Command::Keygen) => listener::print_key(),
        Some(Command::Healthcheck {
            listen_port,
            bind,
            tls_cert,
        }) => listener::healthcheck(bind, listen_port, tls_cert.is_some()).await,
        None => listen(cli.flags).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("listener: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn listen(flags: Flags) -> anyhow::Result<()> {
    service::logs::start(flags.logs.debug);
    let config = match flags.into_config() {
        Ok(config) => config,
        Err(error) => service::cli::refuse("listener", &error),
    };
    let listener = Listener::bind(config)?;
    tokio::select! {
        ended = listener.run_until(service::shutdown::requested()) => ended,
        _ = service::shutdown::insisted() => {
            eprintln!("listener: ended at once; what it had not answered was not accepted");
            std::process::exit(1);
        }
    }
}
