//! Model files in fewer bits, by llama.cpp's own quantizer.
//!
//! For those who make packages; no device quantizes. It runs in the process of whoever calls it, on
//! files of their own: what native code does to itself there costs a command, not an appliance.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_sys_2 as sys;

use super::native;

/// How weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tier {
    name: &'static str,
    kind: sys::llama_ftype,
}

/// The usual ladder, the best first.
const TIERS: [Tier; 8] = [
    Tier::of("Q8_0", sys::LLAMA_FTYPE_MOSTLY_Q8_0),
    Tier::of("Q6_K", sys::LLAMA_FTYPE_MOSTLY_Q6_K),
    Tier::of("Q5_K_M", sys::LLAMA_FTYPE_MOSTLY_Q5_K_M),
    Tier::of("Q4_K_M", sys::LLAMA_FTYPE_MOSTLY_Q4_K_M),
    Tier::of("Q4_K_S", sys::LLAMA_FTYPE_MOSTLY_Q4_K_S),
    Tier::of("Q4_0", sys::LLAMA_FTYPE_MOSTLY_Q4_0),
    Tier::of("Q3_K_M", sys::LLAMA_FTYPE_MOSTLY_Q3_K_M),
    Tier::of("Q2_K", sys::LLAMA_FTYPE_MOSTLY_Q2_K),
];

impl Tier {
    const fn of(name: &'static str, kind: sys::llama_ftype) -> Self {
        Self { name, kind }
    }

    /// All that are known, the best first.
    pub fn all() -> impl Iterator<Item = Self> {
        TIERS.into_iter()
    }

    /// The tier of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::all().find(|tier| tier.name == name)
    }

    /// What it is called in packages.
    pub fn name(self) -> &'static str {
        self.name
    }
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum QuantizeError {
    /// The path cannot be given to native code.
    #[error("{}: a path with a zero byte", .0.display())]
    Path(PathBuf),
    /// The runtime does not start.
    #[error("llama.cpp does not start: {0}")]
    Runtime(String),
    /// llama.cpp could not.
    #[error("{}: llama.cpp cannot quantize it to {tier}: is it a model in F16, F32 or BF16?", from.display())]
    Failed {
        /// Which file.
        from: PathBuf,
        /// To what.
        tier: &'static str,
    },
}

/// Whether llama.cpp writes its log to stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    /// It does.
    Shown,
    /// It does not.
    Silent,
}

/// Writes a copy of a model in another precision. Must not be called while another thread uses
/// llama.cpp.
pub fn quantize(
    from: &Path,
    to: &Path,
    tier: Tier,
    threads: u16,
    log: Log,
) -> Result<(), QuantizeError> {
    let native_path = |path: &Path| {
        let bytes = path.as_os_str().as_bytes();
        CString::new(bytes).map_err(|_| QuantizeError::Path(path.to_owned()))
    };
    let paths = (native_path(from)?, native_path(to)?);
    let mut backend =
        LlamaBackend::init().map_err(|error| QuantizeError::Runtime(error.to_string()))?;
    if log == Log::Silent {
        backend.void_logs();
    }
    if native::quantize(&paths.0, &paths.1, tier.kind, i32::from(threads)) {
        Ok(())
    } else {
        let from = from.to_owned();
        let tier = tier.name;
        Err(QuantizeError::Failed { from, tier })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiers_are_known_by_their_names() {
        for tier in Tier::all() {
            assert_eq!(Tier::parse(tier.name()), Some(tier));
        }
        assert_eq!(Tier::parse("Q4"), None);
    }
}
