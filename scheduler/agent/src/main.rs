//! `coffer-node`: the node agent as a program of its own.

mod arguments;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use coffer_agent::{Agent, AgentConfig, NodeTls, Probe};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::net::TcpListener;

use arguments::{Arguments, Command, Run};

/// An error of any step, for the one who started the program.
type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    // Before anything else: a starter must have one thread.
    if let Some(code) = coffer_agent::stage(std::env::args_os()) {
        return code;
    }
    let outcome = match Arguments::parse().command {
        Command::Probe { json, dir } => probe(json, &dir),
        Command::Run(run) => start(*run),
        Command::End { name, dir, runtime, subnet } => {
            arguments::leftovers(name, dir, runtime, subnet.as_deref()).map_err(Failure::from).and_then(end)
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(io::stderr(), "coffer-node: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn probe(json: bool, dir: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(dir)?;
    let probe = Probe::run("/proc/self/exe".as_ref(), dir, "probe");
    let mut out = io::stdout();
    if json {
        serde_json::to_writer_pretty(&mut out, &probe)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{probe}")?;
    }
    Ok(())
}

fn end(config: AgentConfig) -> Result<(), Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        // Nothing of this is told to an API, nor asked of one.
        let nobody = tower::service_fn(|_: hyper::Request<kube::client::Body>| async {
            Err::<hyper::Response<kube::client::Body>, _>(io::Error::from(io::ErrorKind::NotConnected))
        });
        let client = kube::Client::new(nobody, "default");
        let agent = tokio::task::spawn_blocking(move || Agent::new(config, client)).await??;
        let left = agent.end_leftovers().await;
        if left.is_empty() { Ok(()) } else { Err(left.join("; ").into()) }
    })
}

/// Ends this process when its parent has gone; pods run on, and the next agent finds them.
fn end_with_stdin() {
    std::thread::spawn(|| {
        drop(io::copy(&mut io::stdin().lock(), &mut io::sink()));
        std::process::exit(0);
    });
}

fn start(run: Run) -> Result<(), Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(run))
}

async fn serve(run: Run) -> Result<(), Failure> {
    if run.exit_with_stdin {
        end_with_stdin();
    }
    let config = run.config()?;
    let client = client(&run).await?;
    // What the machine can do is tried before anything else is done.
    let agent = tokio::task::spawn_blocking(move || Agent::new(config, client)).await??;
    writeln!(io::stdout(), "{}", agent.probe())?;
    let logs = agent.access();
    let running = agent.run();
    match (run.listen, run.tls()?) {
        (Some(address), Some(files)) => {
            let tls = NodeTls { certificate: files.0, key: files.1, clients: files.2 };
            let listener = TcpListener::bind(address).await?;
            tokio::select! {
                () = running => Ok(()),
                ended = coffer_agent::serve(listener, &tls, logs) => match ended? {},
            }
        }
        (None, _) => {
            running.await;
            Ok(())
        }
        (Some(_), None) => Err("--listen needs --tls-certificate, --tls-key and --client-authority".into()),
    }
}

async fn client(run: &Run) -> Result<kube::Client, Failure> {
    let mut config = match &run.kubeconfig {
        Some(path) => {
            kube::Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &KubeConfigOptions::default())
                .await?
        }
        None => kube::Config::incluster()?,
    };
    // The agent has a patience of its own; fifteen tries inside one request would defeat it.
    config.default_retry = false;
    Ok(kube::Client::try_from(config)?)
}
