//! A client of a Kubernetes API: of the embedded fleet's, of a cluster that a
//! kubeconfig names, or of the one in which this process is a pod.

use std::path::PathBuf;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::context::Context;
use crate::exit::Failure;

/// Who may be asked, by the kubeconfig that is named, else by the fleet's in the config directory, else by the account
/// of the pod that this runs in.
pub(super) async fn client(context: &Context<'_>, kubeconfig: Option<PathBuf>) -> Result<Client, Failure> {
    let path = kubeconfig.unwrap_or_else(|| context.profile.dir().join("fleet").join("kubeconfig"));
    let next = "start the fleet with `coffer serve --fleet`, or name a cluster's file with --kubeconfig";
    let refused = |error: &dyn std::fmt::Display| {
        Failure::new(format!("{}: {error}", path.display())).safe("nothing was asked of the fleet").next(next)
    };
    let in_cluster = if path.exists() { None } else { Config::incluster().ok() };
    let mut config = match in_cluster {
        Some(config) => config,
        None => {
            let file = Kubeconfig::read_from(&path).map_err(|error| refused(&error))?;
            let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
            config.map_err(|error| refused(&error))?
        }
    };
    // A refusal by the loss budget is an answer, not a reason to ask again for minutes.
    config.default_retry = false;
    Client::try_from(config).map_err(|error| refused(&error))
}
