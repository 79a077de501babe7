//! `initmq`: declares Joblogs' exchange and queues in RabbitMQ, once, and ends.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    service::install_tls_provider();
    let flags: initmq::Flags = service::cli::parse();
    service::logs::start(flags.logs.debug);
    let (settings, topology) = match flags.checked() {
        Ok(checked) => checked,
        Err(error) => service::cli::refuse("initmq", &error),
    };
    match initmq::run(&flags, &settings, &topology).await {
        Ok(()) if flags.passive => {
            println!("Exchange and queues are there.");
            ExitCode::SUCCESS
        }
        Ok(()) => {
            println!("Initialized and created successfully.");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("initmq: {error:#}");
            ExitCode::FAILURE
        }
    }
}
