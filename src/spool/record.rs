//! Records on disk: an envelope that proves a record whole, and the wire form of each kind.
//!
//! ```text
//!  version │ postcard bytes …                │ CRC-32 of all before, little endian
//!  1 byte  │                                 │ 4 bytes
//! ```
//!
//! A version is never given another meaning. A reader knows every version that was ever shipped;
//! a newer one is [`Damage::Version`] and is set aside, not guessed at.

/// The version that is written.
pub const VERSION: u8 = 1;

const CRC_BYTES: usize = 4;

/// Why a record cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Shorter than its envelope.
    #[error("the record is cut short")]
    Short,
    /// The checksum does not match.
    #[error("the record's checksum does not match")]
    Checksum,
    /// Written by a version unknown here.
    #[error("the record has version {0}, which is unknown here")]
    Version(u8),
    /// Whole, but not what its tree should hold.
    #[error("the record does not decode")]
    Content,
}

/// Puts `body` into its envelope.
pub fn seal(body: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(1 + body.len() + CRC_BYTES);
    sealed.push(VERSION);
    sealed.extend_from_slice(body);
    let crc = crc32fast::hash(&sealed);
    sealed.extend_from_slice(&crc.to_le_bytes());
    sealed
}

/// Takes the body out of its envelope.
pub fn unseal(sealed: &[u8]) -> Result<&[u8], Damage> {
    let (signed, crc) = sealed
        .split_last_chunk::<CRC_BYTES>()
        .ok_or(Damage::Short)?;
    let (version, body) = signed.split_first().ok_or(Damage::Short)?;
    if crc32fast::hash(signed) != u32::from_le_bytes(*crc) {
        return Err(Damage::Checksum);
    }
    if *version != VERSION {
        return Err(Damage::Version(*version));
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_record_opens_to_its_body_and_any_flipped_bit_is_found() {
        let sealed = seal(b"press 7");
        assert_eq!(unseal(&sealed), Ok(&b"press 7"[..]));
        for bit in 0..sealed.len() * 8 {
            let mut torn = sealed.clone();
            torn[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal(&torn).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_record_cut_anywhere_is_found() {
        let sealed = seal(b"press 7");
        for end in 0..sealed.len() {
            assert!(unseal(&sealed[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn a_record_from_a_later_version_is_named_as_such() {
        let mut later = seal(b"x");
        later[0] = VERSION + 1;
        let end = later.len() - CRC_BYTES;
        let crc = crc32fast::hash(&later[..end]);
        later[end..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(unseal(&later), Err(Damage::Version(VERSION + 1)));
    }
}
