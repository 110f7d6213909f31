//! Passwords as argon2id hashes in the PHC string format (RFC 9106).

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString},
};
use rustls::crypto::ring;

/// Memory of one hash, KiB; its passes and lanes follow. Of the equally strong parameter sets in
/// OWASP's Password Storage Cheat Sheet (2025), this is the one with the least memory.
const MEMORY_KIB: u32 = 7168;
const PASSES: u32 = 5;
const LANES: u32 = 1;
/// Limits of a hash. A more expensive one is refused, because it would slow down the whole
/// gateway.
const MEMORY_KIB_MAX: u32 = 65_536;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 4;
/// Size of a salt, bytes (RFC 9106, 3.1).
const SALT_BYTES: usize = 16;
/// Size of a generated password, bytes.
const PASSWORD_BYTES: usize = 24;

/// Hashes a new password.
pub(crate) fn hash_password(password: &str) -> Result<String, String> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|e| e.to_string())?;
    let salt = SaltString::encode_b64(&random_bytes::<SALT_BYTES>()?).map_err(|e| e.to_string())?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash = argon2.hash_password(password.as_bytes(), &salt).map_err(|e| e.to_string())?;
    Ok(hash.to_string())
}

/// Generates a random password, in hexadecimal.
///
/// # Errors
/// Returns an error if the system has no random numbers.
pub fn generate_password() -> Result<String, String> {
    Ok(random_bytes::<PASSWORD_BYTES>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Refuses a text that is not a hash, or a hash that is too expensive.
pub(crate) fn check_hash(text: &str) -> Result<(), String> {
    let hash = PasswordHash::new(text)
        .map_err(|e| format!("not a PHC string ({e}); `gateway user add` makes one"))?;
    if hash.algorithm.as_str() != "argon2id" || hash.hash.is_none() {
        return Err(format!("`{}`: expected an argon2id hash", hash.algorithm));
    }
    let params = Params::try_from(&hash).map_err(|e| e.to_string())?;
    let (m, t, p) = (params.m_cost(), params.t_cost(), params.p_cost());
    if m > MEMORY_KIB_MAX || t > PASSES_MAX || p > LANES_MAX {
        return Err(format!(
            "m={m},t={t},p={p}: expected at most m={MEMORY_KIB_MAX},t={PASSES_MAX},p={LANES_MAX}"
        ));
    }
    Ok(())
}

/// Whether `password` is the one that was hashed. Takes tens of milliseconds.
pub(crate) fn is_password_of(hash: &str, password: &[u8]) -> bool {
    PasswordHash::new(hash)
        .is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok())
}

fn random_bytes<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    let secure = ring::default_provider().secure_random;
    secure.fill(&mut bytes).map_err(|_| "the system has no random numbers".to_owned())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_password_matches_its_hash() {
        let hash = hash_password("s3cret").unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=7168,t=5,p=1$"), "{hash}");
        check_hash(&hash).unwrap();
        assert!(is_password_of(&hash, b"s3cret"));
        assert!(!is_password_of(&hash, b"secret"));
        assert_ne!(hash, hash_password("s3cret").unwrap());
        assert_ne!(generate_password().unwrap(), generate_password().unwrap());
    }

    #[test]
    fn what_is_no_hash_or_costs_too_much_is_refused() {
        let refuse = |text: &str, expect: &str| {
            let error = check_hash(text).unwrap_err();
            assert!(error.contains(expect), "{text}: {error}");
        };
        refuse("s3cret", "not a PHC string");
        refuse("$argon2i$v=19$m=4096,t=3,p=1$c29tZXNhbHQ$aGFzaGhhc2hoYXNoaGFzaA", "argon2id");
        refuse("$argon2id$v=19$m=4194304,t=3,p=1$c29tZXNhbHQ$aGFzaGhhc2hoYXNoaGFzaA", "at most");
        refuse("$argon2id$v=19$m=4096,t=1000,p=1$c29tZXNhbHQ$aGFzaGhhc2hoYXNoaGFzaA", "at most");
        refuse("$argon2id$v=19$m=4096,t=3,p=1$c29tZXNhbHQ", "expected an argon2id hash");
    }
}
