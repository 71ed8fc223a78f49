//! The port of keys.

use std::fmt;

use async_trait::async_trait;

use crate::Result;

/// Signs with an Ed25519 key, wherever that key is kept.
#[async_trait]
pub trait Signer: fmt::Debug + Send + Sync {
    /// The name under which verifiers know the key, such as `example.com/models`.
    fn name(&self) -> &str;

    /// The 32 bytes of the public key.
    fn public_key(&self) -> [u8; 32];

    /// The 64 bytes of the signature of `message`.
    async fn sign(&self, message: &[u8]) -> Result<[u8; 64]>;

    /// Whether the key is in the memory of this process: then signing is a computation, which
    /// waits for nobody, and its signatures need not be checked one by one. `false` if it is not
    /// said otherwise.
    fn is_local(&self) -> bool {
        false
    }
}
