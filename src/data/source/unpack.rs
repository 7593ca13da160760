//! Decompressors, by the first bytes of a file or by the method of a zip entry.

use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

use flate2::bufread::{DeflateDecoder, GzDecoder};

use super::{BUFFER, foreign};
use crate::data::lines::read_error;
use crate::error::{Error, Result};

/// A compressed file may unpack to so many times its size (text comes to 3 to 20 times), and to a
/// little in any case.
pub const EXPANSION: u64 = 200;
/// Bytes that may always be unpacked, however small the packed file is.
const ALWAYS: u64 = 16 << 20;
/// Bytes at the beginning that tell what a file is: the mark of a tar archive ends here.
const HEAD: usize = 512;
/// Memory that the dictionary of an LZMA entry may ask for.
const DICTIONARY: u32 = 1 << 30;

/// What `inner` holds, unpacked where its first bytes are those of a compressed stream. `packed` is
/// its size.
pub fn unpack(path: &Path, inner: impl Read + Send + 'static, packed: u64) -> Result<Box<dyn BufRead + Send>> {
    let left = packed.saturating_mul(EXPANSION).max(ALWAYS);
    let plain = BufReader::with_capacity(BUFFER, Peeked::new(inner));
    let Some(decoder) = decoder(plain.get_ref().head.clone(), plain) else {
        return Err(Error::input(path.display(), "is compressed in a way that cannot be read").next("unpack it first"));
    };
    let unpacked = Peeked::new(Bounded { inner: decoder, left });
    if let Some((what, next)) = foreign::named(&unpacked.head) {
        return Err(Error::input(path.display(), what).next(next));
    }
    if let Some(error) = unpacked.error.as_ref().filter(|_| unpacked.head.is_empty()) {
        return Err(read_error(path, path.display(), error));
    }
    Ok(Box::new(BufReader::with_capacity(BUFFER, unpacked)))
}

fn decoder(head: Vec<u8>, inner: impl BufRead + Send + 'static) -> Option<Box<dyn Read + Send>> {
    Some(match head.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(Members { decoder: Some(GzDecoder::new(inner)) }),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::stream::read::Decoder::with_buffer(inner).ok()?),
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31 | 0x17, ..] => Box::new(bzip2::bufread::MultiBzDecoder::new(inner)),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Box::new(lzma_rust2::XzReader::new(inner, true)),
        [0x04, 0x22, 0x4d, 0x18, ..] => Box::new(lz4_flex::frame::FrameDecoder::new(inner)),
        _ => Box::new(inner),
    })
}

/// The data of a zip entry by the number of its method; `size` is what it unpacks to.
///
/// # Errors
/// What the method is, where it is none of those that can be read.
pub fn zipped(
    method: u16,
    mut inner: impl BufRead + Send + 'static,
    size: u64,
) -> std::result::Result<Box<dyn Read + Send>, String> {
    Ok(match method {
        0 => Box::new(inner),
        8 => Box::new(DeflateDecoder::new(inner)),
        9 => Box::new(deflate64::Deflate64Decoder::with_buffer(inner)),
        12 => Box::new(bzip2::bufread::BzDecoder::new(inner)),
        14 => {
            // Version, length of the properties (5), the properties: one byte and the dictionary's
            // size.
            let mut head = [0; 9];
            inner.read_exact(&mut head).map_err(|e| format!("its LZMA header cannot be read: {e}"))?;
            let dictionary = u32::from_le_bytes([head[5], head[6], head[7], head[8]]);
            if dictionary > DICTIONARY {
                return Err(format!("its LZMA dictionary has {dictionary} bytes, more than {DICTIONARY}"));
            }
            let reader = lzma_rust2::LzmaReader::new_with_props(inner, size, head[4], dictionary, None);
            Box::new(reader.map_err(|e| format!("its LZMA header is damaged: {e}"))?)
        }
        93 => Box::new(zstd::stream::read::Decoder::with_buffer(inner).map_err(|e| e.to_string())?),
        95 => Box::new(lzma_rust2::XzReader::new(inner, true)),
        99 => return Err("is encrypted".into()),
        other => {
            let name = match other {
                1 => "shrink",
                2..=5 => "reduce",
                6 => "implode",
                97 => "WavPack",
                98 => "PPMd",
                _ => "an unknown one",
            };
            return Err(format!("its compression method, {name} ({other}), is not supported"));
        }
    })
}

/// Reads ahead so far that the first bytes can be looked at; an error on the way comes when reading
/// gets there.
struct Peeked<R> {
    head: Vec<u8>,
    given: usize,
    error: Option<std::io::Error>,
    inner: R,
}

impl<R: Read> Peeked<R> {
    fn new(mut inner: R) -> Self {
        let (mut head, mut at, mut error) = (vec![0; HEAD], 0, None);
        while at < head.len() {
            match inner.read(&mut head[at..]) {
                Ok(0) => break,
                Ok(count) => at += count,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => {
                    error = Some(e);
                    break;
                }
            }
        }
        head.truncate(at);
        Self { head, given: 0, error, inner }
    }
}

impl<R: Read> Read for Peeked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.given < self.head.len() {
            let count = buffer.len().min(self.head.len() - self.given);
            buffer[..count].copy_from_slice(&self.head[self.given..self.given + count]);
            self.given += count;
            return Ok(count);
        }
        match self.error.take() {
            Some(error) => Err(error),
            None => self.inner.read(buffer),
        }
    }
}

/// The members of a gzip file one after the other. Zeros behind a member are padding, as for gzip
/// itself.
struct Members<R: BufRead> {
    decoder: Option<GzDecoder<R>>,
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while let Some(mut decoder) = self.decoder.take() {
            let count = decoder.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                self.decoder = Some(decoder);
                return Ok(count);
            }
            let mut inner = decoder.into_inner();
            loop {
                let chunk = inner.fill_buf()?;
                if chunk.is_empty() {
                    return Ok(0);
                }
                let zeros = chunk.iter().take_while(|&&byte| byte == 0).count();
                if zeros == 0 {
                    // The magic of a member, of which the chunk may end before the second byte.
                    if chunk[0] != 0x1f || chunk.get(1).is_some_and(|&byte| byte != 0x8b) {
                        let what = "what follows its end is no gzip data";
                        return Err(std::io::Error::new(ErrorKind::InvalidData, what));
                    }
                    break;
                }
                inner.consume(zeros);
            }
            self.decoder = Some(GzDecoder::new(inner));
        }
        Ok(0)
    }
}

/// Ends with an error where a compressed file unpacks to far more than such a file can hold.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        match self.left.checked_sub(count as u64) {
            Some(left) => self.left = left,
            None => return Err(ErrorKind::FileTooLarge.into()),
        }
        Ok(count)
    }
}
