//! One module for each family of commands.

#[cfg(feature = "embedded")]
mod api;
mod audit;
mod backup;
mod bucket;
mod case;
#[cfg(feature = "embedded")]
mod child;
mod drill;
#[cfg(feature = "embedded")]
mod durability;
mod evidence;
#[cfg(feature = "embedded")]
mod fleet;
mod hold;
#[cfg(feature = "embedded")]
mod home;
mod log;
mod object;
mod policy;
mod rebalance;
mod repair;
#[cfg(feature = "embedded")]
mod replica;
mod report;
mod scrub;
#[cfg(feature = "embedded")]
mod serve;
mod site;
#[cfg(feature = "embedded")]
mod site_enroll;
mod site_list;
mod tenant;
#[cfg(feature = "embedded")]
mod trial;
mod witness;

use clap::CommandFactory as _;
use coffer_client::profile::Profile;
use tokio::signal::unix::Signal;

use crate::context::{Context, default_config_dir};
use crate::exit::{Exit, Failure};
use crate::flags::{Command, Flags};
use crate::output::Output;

/// Runs one command.
pub(crate) fn run(flags: Flags, output: &Output) -> Result<Exit, Failure> {
    if let Command::Completions { shell } = flags.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Flags::command(), "coffer", &mut script);
        output.script(&String::from_utf8_lossy(&script));
        return Ok(Exit::Success);
    }
    let config_dir = match flags.config_dir {
        Some(dir) => dir,
        None => default_config_dir()?,
    };
    let servers = (!flags.server.is_empty()).then(|| flags.server.join(","));
    let profile = Profile::at(config_dir).looked_for_at(servers);
    let context = Context::new(output, profile, flags.tenant);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(act(&context, flags.command));
    // A thread that waits for stdin would be waited for without end.
    runtime.shutdown_background();
    result
}

/// Calls `ended` when stdin closes, from a thread of its own: the parent has
/// gone, however it went.
fn end_with_stdin(ended: impl FnOnce() + Send + 'static) {
    std::thread::spawn(move || {
        drop(std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()));
        ended();
    });
}

fn stdin_closed() -> tokio::sync::oneshot::Receiver<()> {
    let (tell, told) = tokio::sync::oneshot::channel();
    end_with_stdin(move || {
        let _ = tell.send(());
    });
    told
}

/// Until somebody ends the program: by a signal, or by closing stdin.
async fn until_told(
    mut terminate: Signal,
    mut interrupt: Signal,
    stdin: Option<tokio::sync::oneshot::Receiver<()>>,
) {
    let stdin = async {
        match stdin {
            Some(closed) => drop(closed.await),
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = stdin => {}
    }
}

async fn act(context: &Context<'_>, command: Command) -> Result<Exit, Failure> {
    match command {
        #[cfg(feature = "embedded")]
        Command::Try(flags) => trial::run(context, flags).await,
        #[cfg(feature = "embedded")]
        Command::Serve(flags) => serve::run(context, *flags).await,
        Command::Tenant(command) => tenant::run(context, command).await,
        Command::Bucket(command) => bucket::run(context, command).await,
        Command::Object(command) => object::run(context, command).await,
        Command::Backup { directory, bucket } => backup::back_up(context, &directory, &bucket).await,
        Command::Snapshots { bucket } => backup::snapshots(context, &bucket).await,
        Command::Restore { snapshot, target, bucket, as_of } => {
            backup::restore_to(context, snapshot, &target, &bucket, as_of).await
        }
        Command::Ls { snapshot, path, bucket } => {
            backup::list(context, snapshot, path.as_deref(), &bucket).await
        }
        Command::Drill(command) => drill::run(context, command).await,
        #[cfg(feature = "embedded")]
        Command::Durability(flags) => durability::run(context, flags).await,
        #[cfg(feature = "embedded")]
        Command::Fleet(flags) => fleet::run(context, flags).await,
        Command::Site(command) => site::run(context, command).await,
        Command::Scrub(command) => scrub::run(context, command).await,
        Command::Repair(command) => repair::run(context, command).await,
        Command::Audit(command) => audit::run(context, command).await,
        Command::Hold(command) => hold::run(context, command).await,
        Command::Case(command) => case::run(context, command).await,
        Command::Log(command) => log::run(context, command).await,
        Command::Witness(command) => witness::run(context, command).await,
        Command::Report(flags) => report::run(context, flags).await,
        Command::Evidence(command) => evidence::run(context, command).await,
        // Answered above, without a profile or a runtime.
        Command::Completions { .. } => Ok(Exit::Success),
    }
}
