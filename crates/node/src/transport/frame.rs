//! Frames on a peer connection: `[length: u32 le][crc32c: u32 le][payload]`.
//!
//! The checksum is there because TCP's own lets one corrupted segment in some 10^7 through, and a
//! flipped bit in an entry would be agreed upon.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes before the payload.
pub(crate) const HEADER_BYTES: usize = 8;

/// The longest payload that is accepted from a peer: room for a batch of entries that each are
/// as large as the largest request.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 256 << 20;

/// Room that is made for a payload before any of it is there.
const ROOM_BYTES_MIN: usize = 64 << 10;

/// The header of a frame that carries `payload`.
///
/// # Errors
/// `InvalidInput` if the payload is longer than [`PAYLOAD_BYTES_MAX`].
pub(crate) fn header(payload: &[u8]) -> io::Result<[u8; HEADER_BYTES]> {
    let length = u32::try_from(payload.len())
        .ok()
        .filter(|&n| n as usize <= PAYLOAD_BYTES_MAX)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "frame too long"))?;
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&length.to_le_bytes());
    header[4..].copy_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    Ok(header)
}

/// Writes one frame; the caller flushes.
pub(crate) async fn write(out: &mut (impl AsyncWrite + Unpin), payload: &[u8]) -> io::Result<()> {
    out.write_all(&header(payload)?).await?;
    out.write_all(payload).await
}

/// Reads one frame; `None` at a clean end of the stream.
///
/// # Errors
/// `InvalidData` for a bad length or checksum: the connection is of no more use.
pub(crate) async fn read(input: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Bytes>> {
    let mut header = [0; HEADER_BYTES];
    let first = input.read(&mut header).await?;
    if first == 0 {
        return Ok(None);
    }
    input.read_exact(&mut header[first..]).await?;
    let [a, b, c, d, e, f, g, h] = header;
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    let checksum = u32::from_le_bytes([e, f, g, h]);
    if length > PAYLOAD_BYTES_MAX {
        return Err(invalid("frame length out of bounds"));
    }
    let mut payload = BytesMut::new();
    while payload.len() < length {
        // Room is made as bytes come, not as they are promised: as much again as is there.
        let missing = length - payload.len();
        payload.reserve(missing.min(payload.len().max(ROOM_BYTES_MIN)));
        let got = (&mut *input).take(missing as u64).read_buf(&mut payload).await?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    if crc32c::crc32c(&payload) != checksum {
        return Err(invalid("frame checksum does not match"));
    }
    Ok(Some(payload.freeze()))
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn a_frame_comes_back() {
        run(async {
            let mut wire = Vec::new();
            write(&mut wire, b"hello").await.unwrap();
            write(&mut wire, b"").await.unwrap();
            let mut input = wire.as_slice();
            assert_eq!(read(&mut input).await.unwrap().unwrap(), "hello");
            assert_eq!(read(&mut input).await.unwrap().unwrap(), "");
            assert!(read(&mut input).await.unwrap().is_none());
        });
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        run(async {
            let mut wire = Vec::new();
            write(&mut wire, b"agreement").await.unwrap();
            for bit in 0..wire.len() * 8 {
                let mut bad = wire.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(read(&mut bad.as_slice()).await.is_err(), "bit {bit}");
            }
            for cut in 1..wire.len() {
                assert!(read(&mut &wire[..cut]).await.is_err(), "cut {cut}");
            }
        });
    }
}
