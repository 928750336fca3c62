//! Who keeps a root key: passphrase file and quorum custodians.
