//! Header compression (RFC 7541).
//!
//! A connection has two tables that both sides keep in step: what the client has sent before
//! ([`Decoder`]), and what we have ([`Encoder`]). A gRPC client repeats itself: after its first
//! request, nearly every field is one byte, an index into its table. So the decoder keeps beside
//! each entry what the field means to us, found out once, when the entry was made; and values
//! are shared, not copied.
//!
//! The encoder is smaller still: a server of gRPC says the same few fields all the time, and they
//! are given to it at the start. Those enter the table; anything else is written plainly. Nothing
//! is ever evicted, and nothing secret is compressed (RFC 7541 §7.1).

mod decode;
mod encode;
pub(crate) mod huffman;
mod integer;
mod table;

pub(crate) use decode::{Decoder, Field, Text};
pub(crate) use encode::Encoder;
pub(crate) use table::Meaning;
