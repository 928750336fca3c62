//! Coffer's cryptography: object format, key hierarchy, wraps, shares, evidence.
