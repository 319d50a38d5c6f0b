//! Reads a sealed file as if it were plain.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;

use zeroize::Zeroizing;

use super::format::{Cipher, FRAME_EXTRA, FRAME_HEAD, HEADER_BYTES, Header};
use super::{DeviceKey, SafeError};

/// A sealed file, read from its beginning.
#[derive(Debug)]
pub struct Reader {
    file: File,
    cipher: Cipher,
    /// The next plain byte.
    at: u64,
    /// The frame that was opened last, and its number. Empty at first.
    frame: Zeroizing<Vec<u8>>,
    opened: Option<u64>,
}

impl Reader {
    /// A whole file, which must be the one with this digest.
    pub fn open(file: File, key: &DeviceKey, sha256: [u8; 32]) -> Result<Self, SafeError> {
        let found = file.metadata()?.len();
        let reader = Self::begun(file, key, sha256)?;
        let wanted = reader.header().sealed_bytes();
        if found == wanted {
            Ok(reader)
        } else {
            Err(SafeError::Length { found, wanted })
        }
    }

    /// A file that may not be all there yet. Reading beyond what is there fails.
    pub fn begun(file: File, key: &DeviceKey, sha256: [u8; 32]) -> Result<Self, SafeError> {
        let mut head = [0; HEADER_BYTES];
        if let Err(error) = file.read_exact_at(&mut head, 0) {
            let short = error.kind() == io::ErrorKind::UnexpectedEof;
            return Err(if short {
                SafeError::NotSealed
            } else {
                error.into()
            });
        }
        let header = Header::parse(&head)?;
        if header.sha256() != sha256 {
            return Err(SafeError::Other);
        }
        let room = usize::try_from(header.frame_bytes()).unwrap_or_default() + FRAME_EXTRA;
        Ok(Self {
            file,
            cipher: Cipher::new(key, header),
            at: 0,
            frame: Zeroizing::new(Vec::with_capacity(room)),
            opened: None,
        })
    }

    /// What the file says of itself.
    pub fn header(&self) -> &Header {
        self.cipher.header()
    }

    /// Whether the first frame opens: the key is the one that it was sealed with.
    pub fn is_ours(&mut self) -> Result<bool, SafeError> {
        match self.frame(0) {
            Ok(_) => Ok(true),
            Err(SafeError::Broken(_) | SafeError::Length { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The plain bytes of a frame.
    pub fn frame(&mut self, index: u64) -> Result<&[u8], SafeError> {
        let header = self.cipher.header();
        let plain = usize::try_from(header.bytes_of_frame(index)).unwrap_or_default();
        if self.opened != Some(index) {
            self.opened = None;
            let from = header.place(index.saturating_mul(header.frame_bytes()));
            self.frame.resize(plain + FRAME_EXTRA, 0);
            if let Err(error) = self.file.read_exact_at(&mut self.frame, from) {
                if error.kind() != io::ErrorKind::UnexpectedEof {
                    return Err(error.into());
                }
                return Err(SafeError::Length {
                    found: self.file.metadata()?.len(),
                    wanted: header.sealed_bytes(),
                });
            }
            self.cipher.open(index, &mut self.frame)?;
            self.opened = Some(index);
        }
        Ok(&self.frame[FRAME_HEAD..FRAME_HEAD + plain])
    }

    /// The next plain bytes, up to the end of their frame; none at the end.
    fn next(&mut self) -> Result<&[u8], SafeError> {
        let header = self.cipher.header();
        if self.at >= header.bytes() {
            return Ok(&[]);
        }
        let frame_bytes = header.frame_bytes();
        let passed = usize::try_from(self.at % frame_bytes).unwrap_or_default();
        let index = self.at / frame_bytes;
        Ok(&self.frame(index)?[passed..])
    }

    /// Writes all plain bytes, as they are opened, without another copy of them.
    pub(super) fn pour(&mut self, to: &File) -> Result<(), SafeError> {
        loop {
            let at = self.at;
            let bytes = self.next()?;
            if bytes.is_empty() {
                return Ok(());
            }
            to.write_all_at(bytes, at)?;
            let count = bytes.len() as u64;
            self.at += count;
        }
    }
}

impl Read for Reader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = self.next()?;
        let count = bytes.len().min(into.len());
        into[..count].copy_from_slice(&bytes[..count]);
        self.at += count as u64;
        Ok(count)
    }
}
