//! Randomness from the kernel, for the pure modules, which take theirs as an argument.
//!
//! Not here: what is made of it (multipliers, keys, epochs).
//! Invariant: what is returned was filled by the kernel in full.

/// The kernel gave no random bytes. Nothing of corelane can start without.
#[derive(Debug, thiserror::Error)]
#[error("the kernel gives no random bytes ({0}); if a seccomp filter is in force, let it pass getrandom(2)")]
pub struct EntropyError(#[from] getrandom::Error);

/// Fills the buffer.
///
/// # Errors
/// When getrandom(2) is forbidden. Early in boot it waits rather than fail.
pub fn fill(buffer: &mut [u8]) -> Result<(), EntropyError> {
    Ok(getrandom::fill(buffer)?)
}

/// An array of random bytes: a key, a nonce.
///
/// # Errors
/// As [`fill`].
pub fn bytes<const COUNT: usize>() -> Result<[u8; COUNT], EntropyError> {
    let mut bytes = [0; COUNT];
    fill(&mut bytes)?;
    Ok(bytes)
}

/// 32 random bits.
///
/// # Errors
/// As [`fill`].
pub fn word32() -> Result<u32, EntropyError> {
    bytes().map(u32::from_ne_bytes)
}

/// 64 random bits.
///
/// # Errors
/// As [`fill`].
pub fn word64() -> Result<u64, EntropyError> {
    bytes().map(u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_draws_are_alike() {
        assert_ne!(word64().expect("allowed"), word64().expect("allowed"));
        assert_ne!(bytes::<32>().expect("allowed"), bytes::<32>().expect("allowed"));
        let mut words: Vec<u32> = (0..8).map(|_| word32().expect("allowed")).collect();
        words.dedup();
        assert_eq!(words.len(), 8);
    }
}
