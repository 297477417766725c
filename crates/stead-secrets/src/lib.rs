//! Secrets of a project: encrypted for those who may read them, with age (age-encryption.org/v1).
//!
//! Promises that what it writes, any age program reads, and the other way round. Never writes a secret in clear.
