//! What a service is told that is one of several, or whose sites move.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use super::Seconds;
use super::values::{seconds, server};

/// Flags of `serve` about Kubernetes.
#[derive(Args)]
pub(crate) struct ReplicaFlags {
    /// This replica's lease of the deployment: a Lease, kubernetes:NAMESPACE/NAME, that it acquires and renews itself.
    ///
    /// Of the replicas of a deployment one holds it and serves; the others wait, each with a data directory of its own.
    /// Its epoch travels with every change, so that sites refuse a replica that woke up late.
    #[arg(long, value_name = "LEASE", conflicts_with_all = ["lease_file", "fleet"])]
    pub(crate) lease: Option<KubernetesName>,
    /// How long the lease holds without a renewal; another replica serves after that. At least 5s.
    #[arg(long, default_value = "15s", value_parser = seconds, value_name = "DURATION", requires = "lease")]
    pub(crate) lease_lasts: Seconds,
    /// Where clients reach this replica, https://HOST:PORT, for the others to tell them [default: where it listens, if that is one address].
    #[arg(long, value_parser = server, value_name = "URL", requires = "lease")]
    pub(crate) advertise: Option<String>,
    /// Where the pods are now: the EndpointSlices of a Service, kubernetes:NAMESPACE/SERVICE, which are watched. Of a site set it has the set's name.
    #[arg(long, value_name = "SERVICE", conflicts_with_all = ["endpoints_file", "fleet"])]
    pub(crate) discover: Option<KubernetesName>,
    /// How to reach the API for --lease and --discover [default: fleet/kubeconfig in the config directory, else the account of the pod that this runs in].
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
}

/// An object of a Kubernetes API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KubernetesName {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl std::fmt::Display for KubernetesName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "kubernetes:{}/{}", self.namespace, self.name)
    }
}

impl FromStr for KubernetesName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
        let is_name = |name: &str| {
            let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
            (1..=253).contains(&name.len())
                && name.chars().all(plain)
                && name.starts_with(inner)
                && name.ends_with(inner)
        };
        let named = text.strip_prefix("kubernetes:").and_then(|rest| rest.split_once('/'));
        match named {
            Some((namespace, name)) if is_name(namespace) && is_name(name) => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err("it reads kubernetes:NAMESPACE/NAME, for example kubernetes:coffer/sites"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_api_would_take_as_a_name_is_refused() {
        let good: KubernetesName = "kubernetes:coffer/sites-1.a".parse().unwrap();
        assert_eq!((good.namespace.as_str(), good.name.as_str()), ("coffer", "sites-1.a"));
        assert_eq!(good.to_string().parse(), Ok(good));
        for bad in [
            "coffer/sites",
            "kubernetes:sites",
            "kubernetes:/sites",
            "kubernetes:coffer/",
            "kubernetes:Coffer/sites",
            "kubernetes:coffer/a/b",
            "kubernetes:coffer/-a",
            "kubernetes:coffer/a?b",
            "file:coffer/sites",
        ] {
            assert!(bad.parse::<KubernetesName>().is_err(), "{bad}");
        }
    }
}
