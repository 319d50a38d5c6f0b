//! Handing over: what lies sealed on the disk is opened by the service, and its engine gets it as an
//! open file in memory.
//!
//! ```text
//!  service: sealed file ─► memfd, sealed against changes ─┐
//!           Files ── over the socket, with descriptors ───┴─► engine: /proc/self/fd/N, loaded, closed
//! ```
//!
//! The descriptors travel over the socket itself, so no other process that is started at the same
//! time inherits them, and no key leaves the service. Once the engine has read its model into its
//! own memory it closes the file, and with that its memory is gone.
//!
//! Invariant: an engine that is given such a file leaves no core dump from then on.

use std::io::{self, IoSlice, IoSliceMut, Read, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::protocol::{self, FrameError, Load, ToEngine, frame};
use crate::package::SealedFile;
use crate::safe::{self, SafeError};

/// Files of one engine: a model and an adapter.
const MAX_FILES: usize = 2;

/// The files of a model that lie sealed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sealed {
    /// The model.
    pub model: Option<SealedFile>,
    /// Its adapter.
    pub adapter: Option<SealedFile>,
}

/// The same, open in memory.
#[derive(Debug, Default)]
pub struct Opened {
    model: Option<OwnedFd>,
    adapter: Option<OwnedFd>,
}

impl Sealed {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.model.is_none() && self.adapter.is_none()
    }

    /// Opens them into memory. Takes as long as reading them.
    pub fn open(&self) -> Result<Opened, SafeError> {
        let open = |file: &Option<SealedFile>| file.as_ref().map(SealedFile::in_memory).transpose();
        Ok(Opened {
            model: open(&self.model)?,
            adapter: open(&self.adapter)?,
        })
    }
}

impl Opened {
    /// Gives them to the process at the other end, before anything else is said to it.
    pub fn hand_over(self, mut socket: &UnixStream) -> io::Result<()> {
        let files: Vec<_> = self.model.iter().chain(&self.adapter).collect();
        if files.is_empty() {
            return Ok(());
        }
        let message = ToEngine::Files {
            model: self.model.is_some(),
            adapter: self.adapter.is_some(),
        };
        let bytes = frame(&message).map_err(io::Error::other)?;
        let files: Vec<BorrowedFd<'_>> = files.into_iter().map(|file| file.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&files)) {
            return Err(io::Error::other("more files than an engine has"));
        }
        let slices = [IoSlice::new(&bytes)];
        let sent = sendmsg(socket, &slices, &mut control, SendFlags::NOSIGNAL)?;
        // They travel with the first byte.
        socket.write_all(&bytes[sent..])
    }
}

/// In the engine: waits for what is to be loaded, and takes the files that come before it. They stay
/// open as long as what is returned beside. None if the service changed its mind.
pub(super) fn receive(socket: &UnixStream) -> Result<Option<(Load, Opened)>, FrameError> {
    let mut ears = Ears {
        socket,
        files: Vec::new(),
    };
    let mut opened = Opened::default();
    let mut message = protocol::read(&mut ears)?;
    if let Some(ToEngine::Files { model, adapter }) = message {
        safe::keep_out_of_dumps()?;
        let mut files = std::mem::take(&mut ears.files).into_iter();
        opened.model = files.next_if(model);
        opened.adapter = files.next_if(adapter);
        message = protocol::read(&mut ears)?;
    }
    let Some(ToEngine::Load(load)) = message else {
        return Ok(None);
    };
    let mut load = *load;
    if let Some(file) = &opened.model {
        load.model = path(file);
    }
    if let (Some(file), Some((adapter, _))) = (&opened.adapter, &mut load.adapter) {
        *adapter = path(file);
    }
    Ok(Some((load, opened)))
}

impl Opened {
    /// The model is in memory of its own now.
    pub(super) fn close_model(&mut self) {
        self.model = None;
    }
}

/// Under which an open file is opened once more.
fn path(file: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

trait NextIf {
    fn next_if(&mut self, wanted: bool) -> Option<OwnedFd>;
}

impl NextIf for std::vec::IntoIter<OwnedFd> {
    fn next_if(&mut self, wanted: bool) -> Option<OwnedFd> {
        if wanted { self.next() } else { None }
    }
}

/// Reads the socket, and keeps the descriptors that come along.
struct Ears<'s> {
    socket: &'s UnixStream,
    files: Vec<OwnedFd>,
}

impl Read for Ears<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(into)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = recvmsg(self.socket, &mut slices, &mut control, flags)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                self.files.extend(files);
            }
        }
        Ok(received.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::protocol::Options;
    use std::fs;

    fn load() -> Load {
        Load {
            model: "/a/model.gguf.sealed".into(),
            adapter: Some(("/a/adapter.gguf.sealed".into(), 0.5)),
            draft: None,
            options: crate::engine::exam::options(64),
            instructions: Vec::new(),
        }
    }

    fn memory(content: &[u8]) -> OwnedFd {
        let file = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::io::write(&file, content).unwrap();
        file
    }

    fn say(socket: &UnixStream, load: Load) {
        let mut socket = socket;
        let frame = frame(&ToEngine::Load(Box::new(load))).unwrap();
        socket.write_all(&frame).unwrap();
    }

    #[test]
    fn what_is_handed_over_is_open_at_the_other_end_and_takes_the_place_of_its_path() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let opened = Opened {
            model: Some(memory(b"a model")),
            adapter: Some(memory(b"an adapter")),
        };
        opened.hand_over(&ours).unwrap();
        say(&ours, load());
        let (told, mut opened) = receive(&theirs).unwrap().unwrap();
        assert_eq!(fs::read(&told.model).unwrap(), b"a model");
        let (adapter, scale) = told.adapter.unwrap();
        assert_eq!(fs::read(adapter).unwrap(), b"an adapter");
        assert!((scale - 0.5).abs() < f32::EPSILON);
        let Options { sequences, .. } = told.options;
        assert_eq!(sequences, 1);
        opened.close_model();
        assert!(fs::read(&told.model).map_or(true, |it| it != b"a model"));
    }

    #[test]
    fn an_adapter_alone_is_no_model() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let opened = Opened {
            model: None,
            adapter: Some(memory(b"an adapter")),
        };
        opened.hand_over(&ours).unwrap();
        say(&ours, load());
        let (told, _opened) = receive(&theirs).unwrap().unwrap();
        assert_eq!(told.model, "/a/model.gguf.sealed");
        assert_eq!(fs::read(told.adapter.unwrap().0).unwrap(), b"an adapter");
    }

    #[test]
    fn what_lies_plain_is_loaded_by_its_path() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        Opened::default().hand_over(&ours).unwrap();
        say(&ours, load());
        assert_eq!(receive(&theirs).unwrap().unwrap().0, load());
        drop(ours);
        assert!(receive(&theirs).unwrap().is_none());
    }
}
