//! When is something renamed into a directory? The one sign of a finished change that Envoy takes: a file written in
//! place could be seen half-written, and a kubelet swaps a symbolic link.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;

/// Renames into one directory.
#[derive(Debug)]
pub struct DirectoryWatch(AsyncFd<OwnedFd>);

impl DirectoryWatch {
    /// Starts to watch, on the current runtime.
    ///
    /// # Errors
    /// Those of `inotify_add_watch(2)`: there is no such directory, or it must not be read, or too many are watched.
    pub fn new(directory: &Path) -> std::io::Result<Self> {
        let descriptor = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
        let signs = inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::DELETE_SELF
            | inotify::WatchFlags::MOVE_SELF
            | inotify::WatchFlags::ONLYDIR;
        inotify::add_watch(&descriptor, directory, signs)?;
        #[expect(
            deprecated,
            reason = "the safe way to register; an OwnedFd keeps the promise that its successor asks for"
        )]
        let registered = AsyncFd::new(descriptor)?;
        Ok(Self(registered))
    }

    /// Until something is renamed into the directory. Dropping the future loses no rename.
    ///
    /// # Errors
    /// The directory itself is gone, and with it the watch.
    pub async fn renamed(&mut self) -> std::io::Result<()> {
        let mut buffer = [const { std::mem::MaybeUninit::uninit() }; 4096];
        loop {
            let mut ready = self.0.readable().await?;
            let mut reader = inotify::Reader::new(self.0.get_ref(), &mut buffer);
            let mut renamed = false;
            loop {
                match reader.next() {
                    Ok(event) => {
                        use inotify::ReadFlags;
                        let gone = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::IGNORED;
                        if event.events().intersects(gone) {
                            return Err(std::io::ErrorKind::NotFound.into());
                        }
                        // Whatever else: a rename, or so many of them that the kernel lost count.
                        renamed = true;
                    }
                    Err(rustix::io::Errno::AGAIN) => break,
                    Err(error) => return Err(error.into()),
                }
            }
            if renamed {
                return Ok(());
            }
            ready.clear_ready();
        }
    }
}
