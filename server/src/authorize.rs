//! The gate: a call comes in with a certificate and leaves as a `Granted`
//! call, or as a denial that is already in the log. Nothing else makes one.

use std::sync::Arc;

use coffer_model::{Actor, AuditEvent, Operation, Outcome, PrincipalId, Role, TenantId};

use crate::audit::AuditError;
use crate::repair::InFlight;
use crate::service::Service;
use crate::tenant::Tenant;

/// A call, before anybody asked whether it may be made.
pub(crate) struct Call<T> {
    /// What is to be done.
    pub(crate) operation: Operation,
    /// Which role may do it.
    pub(crate) role: Role,
    /// The tenant it names; `None`: the caller's own.
    pub(crate) tenant: Option<TenantId>,
    /// On what, for the log: an id, never a tenant's own words.
    pub(crate) subject: String,
    /// Its arguments.
    pub(crate) arguments: T,
}

/// A call that may be made. Only [`Service::authorize`] makes one.
pub(crate) struct Granted<T> {
    arguments: T,
    caller: Caller,
    operation: Operation,
    subject: String,
}

/// Who calls, as far as the gate found out.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) principal: PrincipalId,
    /// The tenant whose data, keys and log the call is about; for operators
    /// the service's own realm.
    pub(crate) tenant: Arc<Tenant>,
    /// Held until the call ends, so that jobs see that it is under way.
    _in_flight: Option<Arc<InFlight>>,
}

/// Why a call was refused. The refusal is in the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Denied {
    /// No certificate, or one that no principal has.
    #[error("the client certificate belongs to no principal of this deployment")]
    Unknown,
    /// Another tenant's, or another role's, business.
    #[error("this credential may not do that")]
    Forbidden,
    /// The log cannot be written, so nothing is done.
    #[error("refused, because the audit log cannot be written: {0}")]
    Unlogged(#[from] AuditError),
}

impl<T> Granted<T> {
    /// Whose data, keys and log the call is about.
    pub(crate) fn tenant(&self) -> &Arc<Tenant> {
        &self.caller.tenant
    }

    pub(crate) fn into_parts(self) -> (T, Grant) {
        (self.arguments, Grant { caller: self.caller, operation: self.operation, subject: self.subject })
    }
}

/// What is left of a granted call once its arguments are taken: who, on what.
#[derive(Clone)]
pub(crate) struct Grant {
    pub(crate) caller: Caller,
    operation: Operation,
    subject: String,
}

impl Grant {
    /// The event of this call with that outcome, on `subject` or on what the
    /// call named.
    pub(crate) fn event(&self, service: &Service, subject: Option<String>, outcome: Outcome) -> AuditEvent {
        AuditEvent {
            time: service.host.clock.now(),
            tenant: Some(self.caller.tenant.id),
            actor: Actor::Principal(self.caller.principal),
            operation: self.operation,
            subject: subject.unwrap_or_else(|| self.subject.clone()),
            outcome,
        }
    }

    pub(crate) fn tenant(&self) -> &Arc<Tenant> {
        &self.caller.tenant
    }

    /// Hands on what a story came to before its first leaf; a failure leaves
    /// its leaf here, so that no call goes without one.
    pub(crate) async fn settled<T, E: From<AuditError>>(
        &self,
        service: &Service,
        result: Result<T, E>,
    ) -> Result<T, E> {
        self.failed_on(service, None, result).await
    }

    /// Hands on what a step of a story came to whose intent on `subject` is in
    /// the log: where it failed, so that it is over, its outcome is too.
    pub(crate) async fn ended<T, E: From<AuditError>>(
        &self,
        service: &Service,
        subject: &str,
        result: Result<T, E>,
    ) -> Result<T, E> {
        self.failed_on(service, Some(subject), result).await
    }

    async fn failed_on<T, E: From<AuditError>>(
        &self,
        service: &Service,
        subject: Option<&str>,
        result: Result<T, E>,
    ) -> Result<T, E> {
        if result.is_err() {
            let failed = self.event(service, subject.map(str::to_owned), Outcome::Failed);
            self.tenant().note(&failed).await?;
        }
        result
    }
}

impl Service {
    /// Asks whether the bearer of the certificate may make the call.
    pub(crate) async fn authorize<T>(
        &self,
        fingerprint: Option<[u8; 32]>,
        call: Call<T>,
    ) -> Result<Granted<T>, Denied> {
        crate::grpc::seen_by_the_gate();
        let principal = fingerprint.and_then(|print| self.principal(&print));
        let Some(principal) = principal else {
            self.deny(fingerprint, &call).await?;
            return Err(Denied::Unknown);
        };
        let own = match principal.tenant {
            Some(id) => self.tenant(id),
            None => self.service_realm(),
        };
        let other_tenant = call.tenant.is_some_and(|named| principal.tenant != Some(named));
        match own {
            Some(tenant) if principal.role == call.role && !other_tenant => Ok(Granted {
                arguments: call.arguments,
                caller: Caller {
                    principal: principal.id,
                    tenant,
                    _in_flight: self.in_flight(call.operation),
                },
                operation: call.operation,
                subject: call.subject,
            }),
            _ => {
                self.deny(fingerprint, &call).await?;
                Err(Denied::Forbidden)
            }
        }
    }

    /// Notes that a call is under way whose caller waits for data.
    fn in_flight(&self, operation: Operation) -> Option<Arc<InFlight>> {
        let waits = matches!(
            operation,
            Operation::ObjectPut | Operation::ObjectGet | Operation::ObjectStat | Operation::ObjectDelete
        );
        waits.then(|| Arc::new(self.foreground.enter()))
    }

    /// Logs a denial in the caller's own log, or in the service's.
    async fn deny<T>(&self, bearer: Option<[u8; 32]>, call: &Call<T>) -> Result<(), Denied> {
        let subject = call.tenant.map_or_else(|| call.subject.clone(), |named| named.to_string());
        Ok(self.note_of_caller(bearer, call.operation, subject, Outcome::Denied).await?)
    }
}
