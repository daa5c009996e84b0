//! Compresses and decompresses bodies as they go by.
//!
//! Holds: what a frame compresses to leaves with it (Envoy flushes at each frame too, so streams of events stay streams);
//! what a frame expands to leaves in pieces of 16 KiB, each asked for by the receiver, and a body that grows beyond the
//! ratio allowed ends as a failure before it grows further. Settings are the model's.

use std::io::{self, BufReader, Read, Write};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use remora_model::filter::{Coding, Library};

use super::{Given, Stage};
use crate::exchange::Frame;
use crate::observe::CodecCells;

/// How much of an expanded body is made at once, bytes.
const PIECE: usize = 16 * 1024;
/// A body up to this length may have any ratio.
const SHORT: u64 = 64 * 1024;

enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Encoder {
    fn new(library: Library) -> io::Result<Self> {
        Ok(match library {
            Library::Gzip(level) => Self::Gzip(GzEncoder::new(Vec::new(), Compression::new(level))),
            Library::Brotli(quality, window) => {
                let writer = brotli::CompressorWriter::new(Vec::new(), 4096, quality, window);
                Self::Brotli(Box::new(writer))
            }
            Library::Zstd(level, checksum) => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), level)?;
                encoder.include_checksum(checksum)?;
                Self::Zstd(encoder)
            }
        })
    }

    fn write(&mut self, data: &[u8]) -> io::Result<Vec<u8>> {
        let writer: &mut dyn Write = match self {
            Self::Gzip(encoder) => encoder,
            Self::Brotli(encoder) => encoder,
            Self::Zstd(encoder) => encoder,
        };
        writer.write_all(data)?;
        writer.flush()?;
        Ok(self.taken())
    }

    fn taken(&mut self) -> Vec<u8> {
        std::mem::take(match self {
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Brotli(encoder) => encoder.get_mut(),
            Self::Zstd(encoder) => encoder.get_mut(),
        })
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => encoder.finish(),
            Self::Brotli(encoder) => Ok(encoder.into_inner()),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

/// Compresses a body.
pub struct Compress {
    encoder: Option<io::Result<Encoder>>,
    out: Option<Bytes>,
    trailers: Option<Frame>,
    failed: bool,
    cells: Arc<CodecCells>,
}

impl std::fmt::Debug for Compress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compress").finish_non_exhaustive()
    }
}

impl Compress {
    /// With a library's settings.
    pub fn new(library: Library, cells: Arc<CodecCells>) -> Self {
        Self {
            encoder: Some(Encoder::new(library)),
            out: None,
            trailers: None,
            failed: false,
            cells,
        }
    }

    fn put(&mut self, made: io::Result<Vec<u8>>) {
        match made {
            Ok(made) => {
                self.cells.codec.total_compressed_bytes.add(made.len() as u64);
                self.out = (!made.is_empty()).then(|| Bytes::from(made));
            }
            Err(_) => self.failed = true,
        }
    }
}

impl Stage for Compress {
    fn take(&mut self, frame: Option<Frame>) {
        let made = match (frame, &mut self.encoder) {
            (Some(Frame::Data(data)), Some(Ok(encoder))) => {
                self.cells.codec.total_uncompressed_bytes.add(data.len() as u64);
                encoder.write(&data)
            }
            (Some(Frame::Data(_)), _) => Err(io::ErrorKind::InvalidInput.into()),
            (end, _) => {
                self.trailers = end;
                let encoder = self
                    .encoder
                    .take()
                    .unwrap_or(Err(io::ErrorKind::InvalidInput.into()));
                encoder.and_then(Encoder::finish)
            }
        };
        self.put(made);
    }

    fn poll_give(&mut self, _: &mut Context<'_>) -> Poll<Result<Given, &'static str>> {
        if self.failed {
            return Poll::Ready(Err("compression_failed"));
        }
        let next = self.out.take().map(Frame::Data).or_else(|| self.trailers.take());
        Poll::Ready(Ok(next.map_or(Given::Nothing, Given::Frame)))
    }
}

/// What a decoder reads from: the frame that it was given, then nothing yet, or the end.
#[derive(Debug, Default)]
struct Feed {
    data: Bytes,
    ended: bool,
}

impl Read for Feed {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.data.is_empty() && !self.ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = self.data.len().min(out.len());
        self.data.copy_to_slice(&mut out[..count]);
        Ok(count)
    }
}

enum Decoder {
    Gzip(MultiGzDecoder<Feed>),
    Brotli(Box<brotli::Decompressor<Feed>>),
    Zstd(zstd::stream::read::Decoder<'static, BufReader<Feed>>),
}

impl Decoder {
    fn new(coding: Coding) -> io::Result<Self> {
        let feed = Feed::default();
        Ok(match coding {
            Coding::Gzip => Self::Gzip(MultiGzDecoder::new(feed)),
            Coding::Brotli => Self::Brotli(Box::new(brotli::Decompressor::new(feed, 4096))),
            Coding::Zstd => Self::Zstd(zstd::stream::read::Decoder::new(feed)?),
        })
    }

    fn feed(&mut self) -> &mut Feed {
        match self {
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Brotli(decoder) => decoder.get_mut(),
            Self::Zstd(decoder) => decoder.get_mut().get_mut(),
        }
    }

    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(decoder) => decoder.read(out),
            Self::Brotli(decoder) => decoder.read(out),
            Self::Zstd(decoder) => decoder.read(out),
        }
    }
}

/// Decompresses a body.
pub struct Decompress {
    decoder: Option<io::Result<Decoder>>,
    max_ratio: u64,
    taken: u64,
    given: u64,
    trailers: Option<Frame>,
    cells: Arc<CodecCells>,
}

impl std::fmt::Debug for Decompress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decompress").finish_non_exhaustive()
    }
}

/// `response_code_details` of a body that is not what its head says, or that grows beyond the ratio allowed.
const BAD: &str = "decompression_failed";
const BOMB: &str = "decompression_ratio_exceeded";

impl Decompress {
    /// A body that may become `max_ratio` times longer.
    pub fn new(coding: Coding, max_ratio: u64, cells: Arc<CodecCells>) -> Self {
        Self {
            decoder: Some(Decoder::new(coding)),
            max_ratio,
            taken: 0,
            given: 0,
            trailers: None,
            cells,
        }
    }

    /// The next piece; empty where there is none yet, `None` at the end.
    fn piece(&mut self) -> Result<Option<Bytes>, &'static str> {
        let decoder = match &mut self.decoder {
            None => return Ok(None),
            Some(Err(_)) => return Err(BAD),
            Some(Ok(decoder)) => decoder,
        };
        let mut piece = vec![0; PIECE];
        match decoder.read(&mut piece) {
            Ok(0) if self.taken == 0 || decoder.feed().ended => {
                self.decoder = None;
                Ok(None)
            }
            // Something follows the end of what was compressed; nobody reads it.
            Ok(0) => {
                decoder.feed().data = Bytes::new();
                Ok(Some(Bytes::new()))
            }
            Ok(count) => {
                self.given += count as u64;
                if self.given > SHORT && self.given / self.max_ratio > self.taken {
                    return Err(BOMB);
                }
                self.cells.codec.total_uncompressed_bytes.add(count as u64);
                piece.truncate(count);
                Ok(Some(Bytes::from(piece)))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Some(Bytes::new())),
            Err(_) => Err(BAD),
        }
    }
}

impl Stage for Decompress {
    fn take(&mut self, frame: Option<Frame>) {
        match frame {
            Some(Frame::Data(data)) => {
                self.taken += data.len() as u64;
                self.cells.codec.total_compressed_bytes.add(data.len() as u64);
                if let Some(Ok(decoder)) = &mut self.decoder {
                    decoder.feed().data = data;
                }
            }
            end => {
                self.trailers = end;
                if let Some(Ok(decoder)) = &mut self.decoder {
                    decoder.feed().ended = true;
                }
            }
        }
    }

    fn poll_give(&mut self, _: &mut Context<'_>) -> Poll<Result<Given, &'static str>> {
        Poll::Ready(self.piece().map(|piece| match piece {
            Some(piece) if piece.is_empty() => Given::Nothing,
            Some(piece) => Given::Frame(Frame::Data(piece)),
            None => self.trailers.take().map_or(Given::Nothing, Given::Frame),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    const LIBRARIES: [Library; 3] = [Library::Gzip(6), Library::Brotli(3, 18), Library::Zstd(3, true)];

    /// Frames of `data` in pieces of `size`, through a stage to its end.
    fn through(stage: &mut dyn Stage, data: &[u8], size: usize) -> Result<Vec<Bytes>, &'static str> {
        let mut cx = Context::from_waker(Waker::noop());
        let frames = data
            .chunks(size)
            .map(|piece| Frame::Data(Bytes::copy_from_slice(piece)));
        let mut out = Vec::new();
        for frame in frames.map(Some).chain([None]) {
            stage.take(frame);
            loop {
                match stage.poll_give(&mut cx) {
                    Poll::Ready(Ok(Given::Frame(Frame::Data(data)))) => out.push(data),
                    Poll::Ready(Ok(Given::Nothing)) => break,
                    Poll::Ready(Err(details)) => return Err(details),
                    other => panic!("{other:?}"),
                }
            }
        }
        Ok(out)
    }

    fn text() -> Vec<u8> {
        (0..20_000_u32)
            .flat_map(|n| format!("line {} of a text\n", n % 977).into_bytes())
            .collect()
    }

    #[test]
    fn what_is_compressed_can_be_read_again_however_it_is_cut() {
        let text = text();
        for library in LIBRARIES {
            for (there, back) in [(1000, 1), (5, 700), (text.len(), 1 << 20)] {
                let cells = Arc::<CodecCells>::default();
                let mut compress = Compress::new(library, Arc::clone(&cells));
                let text = &text[..text.len().min(there * 500)];
                let small = through(&mut compress, text, there).unwrap().concat();
                assert_eq!(cells.codec.total_compressed_bytes.value(), small.len() as u64);
                let mut expand = Decompress::new(library.coding(), 10_000, cells);
                let pieces = through(&mut expand, &small, back).unwrap();
                assert!(pieces.iter().all(|piece| piece.len() <= PIECE), "{library:?}");
                assert!(pieces.concat() == text, "{library:?} {there} {back}");
            }
        }
    }

    #[test]
    fn each_frame_can_be_read_as_soon_as_it_was_sent() {
        for library in LIBRARIES {
            let cells = Arc::<CodecCells>::default();
            let mut compress = Compress::new(library, Arc::clone(&cells));
            let mut expand = Decompress::new(library.coding(), 100, cells);
            let mut cx = Context::from_waker(Waker::noop());
            for event in ["data: 1\n\n", "data: 2\n\n"] {
                compress.take(Some(Frame::Data(Bytes::from_static(event.as_bytes()))));
                let Poll::Ready(Ok(Given::Frame(small))) = compress.poll_give(&mut cx) else {
                    panic!("nothing was sent");
                };
                expand.take(Some(small));
                let Poll::Ready(Ok(Given::Frame(Frame::Data(read)))) = expand.poll_give(&mut cx) else {
                    panic!("{library:?}: nothing can be read");
                };
                assert_eq!(read, event);
                assert!(matches!(
                    expand.poll_give(&mut cx),
                    Poll::Ready(Ok(Given::Nothing))
                ));
            }
        }
    }

    #[test]
    fn a_bomb_is_stopped_and_garbage_is_told() {
        for library in LIBRARIES {
            let cells = Arc::<CodecCells>::default();
            let mut compress = Compress::new(library, Arc::clone(&cells));
            let bomb = through(&mut compress, &vec![0; 50 << 20], 1 << 20)
                .unwrap()
                .concat();
            let mut expand = Decompress::new(library.coding(), 100, Arc::clone(&cells));
            assert_eq!(through(&mut expand, &bomb, 4096), Err(BOMB), "{library:?}");
            let mut expand = Decompress::new(library.coding(), 100, cells);
            let garbage = b"\xff\xff\xff this was never compressed, whatever its head says, not at all \xff";
            assert_eq!(through(&mut expand, garbage, 7), Err(BAD), "{library:?}");
        }
    }

    #[test]
    fn a_body_that_ends_too_soon_is_told() {
        for library in LIBRARIES {
            let cells = Arc::<CodecCells>::default();
            let mut compress = Compress::new(library, Arc::clone(&cells));
            let whole = through(&mut compress, &text(), 5000).unwrap().concat();
            let mut expand = Decompress::new(library.coding(), 1000, cells);
            let cut = through(&mut expand, &whole[..whole.len() / 2], 999);
            assert_eq!(cut, Err(BAD), "{library:?}");
        }
    }
}
