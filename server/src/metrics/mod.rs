//! Figures for operators, in the text format of Prometheus: what the service
//! counts while it works, and what it looks up when it is asked. They name
//! sites, calls and numbers; never a tenant, bucket, object or person. The
//! families are listed in `server/METRICS.md`, alerts on them in
//! `server/alerts.yml`.

mod appends;
mod calls;
mod certificates;
mod gather;
mod listen;
mod text;

pub(crate) use appends::Appends;
pub(crate) use calls::Calls;
pub(crate) use certificates::expiry_of_pem;
pub use gather::METRIC_FAMILIES;
pub use listen::{MetricsError, serve_metrics};
pub use text::Family as MetricFamily;
