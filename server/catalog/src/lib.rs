//! One encrypted catalogue per tenant.
