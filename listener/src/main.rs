//! `listener`: takes notices of CI jobs over HTTP and confirms them into RabbitMQ.

use std::process::ExitCode;

use listener::{Cli, Command};

#[tokio::main]
async fn main() -> ExitCode {
    service::install_tls_provider();
    let cli: Cli = service::cli::parse();
    let outcome = match cli.command {
        Some(Command::Keygen) => listener::print_key(),
        Some(Command::Healthcheck) => listener::healthcheck(&cli.flags).await,
        None => {
            service::logs::start(cli.flags.debug);
            let config = match cli.flags.into_config() {
                Ok(config) => config,
                Err(error) => service::cli::refuse("listener", &error),
            };
            match listener::Listener::bind(config).await {
                Ok(listener) => listener.run_until(service::shutdown::requested()).await,
                Err(error) => Err(error),
            }
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("listener: {error:#}");
            ExitCode::FAILURE
        }
    }
}
