//! Header blocks of a client, decoded field by field.

use std::ops::Deref;

use bytes::Bytes;

use super::table::{ENTRY_OVERHEAD, Entry, Meaning, STATIC, Table, is_value, meaning};
use super::{huffman, integer};

/// A block that cannot be decoded. The two tables are out of step then, and the connection is
/// lost (RFC 9113 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// A text of a field: shared with the table where it comes from there.
#[derive(Debug)]
pub(crate) enum Text<'a> {
    Shared(&'a Bytes),
    Fixed(&'static str),
    Fresh(Bytes),
}

impl Text<'_> {
    pub(crate) fn into_bytes(self) -> Bytes {
        match self {
            Text::Shared(bytes) => bytes.clone(),
            Text::Fixed(text) => Bytes::from_static(text.as_bytes()),
            Text::Fresh(bytes) => bytes,
        }
    }
}

impl Deref for Text<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Text::Shared(bytes) => bytes,
            Text::Fresh(bytes) => bytes,
            Text::Fixed(text) => text.as_bytes(),
        }
    }
}

/// A decoded field.
#[derive(Debug)]
pub(crate) struct Field<'a> {
    pub(crate) meaning: Meaning,
    /// Name and value consist of what they may.
    pub(crate) valid: bool,
    pub(crate) name: Text<'a>,
    pub(crate) value: Text<'a>,
}

impl Field<'_> {
    /// Bytes it counts for (RFC 9113 §6.5.2).
    pub(crate) fn size(&self) -> usize {
        self.name.len() + self.value.len() + ENTRY_OVERHEAD
    }
}

/// Decodes the blocks of one connection, in their order.
#[derive(Debug)]
pub(crate) struct Decoder {
    table: Table,
    /// The bound that the client was told.
    size_max: usize,
    words: &'static [&'static str],
    scratch: Vec<u8>,
}

impl Decoder {
    /// With a table of `size_max` bytes; `words` are the names that the caller wants to find by
    /// their number.
    pub(crate) fn new(size_max: usize, words: &'static [&'static str]) -> Decoder {
        Decoder { table: Table::new(size_max), size_max, words, scratch: Vec::new() }
    }

    /// Decodes a block.
    ///
    /// # Errors
    /// If it cannot be; the connection is lost then.
    pub(crate) fn decode(
        &mut self,
        mut block: &[u8],
        sink: &mut impl FnMut(Field<'_>),
    ) -> Result<(), Malformed> {
        let input = &mut block;
        let mut begun = false;
        while let Some(first) = input.first() {
            match *first {
                0x80.. => {
                    let index = integer::read(input, 7).ok_or(Malformed)?;
                    sink(self.indexed(index)?);
                }
                0x40..0x80 => {
                    let entry = self.literal(input, 6)?;
                    let field = Field {
                        meaning: entry.meaning,
                        valid: entry.valid,
                        name: Text::Shared(&entry.name),
                        value: Text::Shared(&entry.value),
                    };
                    sink(field);
                    self.table.insert(entry);
                }
                0x20..0x40 => {
                    let size = integer::read(input, 5).ok_or(Malformed)?;
                    // RFC 7541 §4.2: at the beginning, and never above what was allowed.
                    if begun || size > self.size_max {
                        return Err(Malformed);
                    }
                    self.table.resize(size);
                    continue;
                }
                _ => {
                    let Entry { meaning, valid, name, value } = self.literal(input, 4)?;
                    let (name, value) = (Text::Fresh(name), Text::Fresh(value));
                    sink(Field { meaning, valid, name, value });
                }
            }
            begun = true;
        }
        Ok(())
    }

    fn indexed(&self, index: usize) -> Result<Field<'_>, Malformed> {
        let place = index.checked_sub(1).ok_or(Malformed)?;
        if let Some((name, value)) = STATIC.get(place) {
            let meaning = match index {
                1 => Meaning::Authority,
                2 | 3 => Meaning::Method,
                4 | 5 => Meaning::Path,
                6 | 7 => Meaning::Scheme,
                8..=14 => Meaning::Foreign,
                _ => meaning(name.as_bytes(), self.words),
            };
            let valid = meaning != Meaning::Forbidden;
            let (name, value) = (Text::Fixed(name), Text::Fixed(value));
            return Ok(Field { meaning, valid, name, value });
        }
        let entry = self.table.get(place - STATIC.len()).ok_or(Malformed)?;
        Ok(Field {
            meaning: entry.meaning,
            valid: entry.valid,
            name: Text::Shared(&entry.name),
            value: Text::Shared(&entry.value),
        })
    }

    /// A field whose value is written out, and perhaps its name; `bits` of the first byte are the
    /// index of the name.
    fn literal(&mut self, input: &mut &[u8], bits: u32) -> Result<Entry, Malformed> {
        let index = integer::read(input, bits).ok_or(Malformed)?;
        let (what, name) = match index.checked_sub(1) {
            None => {
                let name = self.text(input)?;
                (meaning(&name, self.words), name)
            }
            Some(_) => {
                let field = self.indexed(index)?;
                (field.meaning, field.name.into_bytes())
            }
        };
        let value = self.text(input)?;
        let valid = what != Meaning::Forbidden && is_value(&value);
        Ok(Entry { meaning: what, valid, name, value })
    }

    fn text(&mut self, input: &mut &[u8]) -> Result<Bytes, Malformed> {
        let is_huffman = input.first().ok_or(Malformed)? & 0x80 != 0;
        let length = integer::read(input, 7).ok_or(Malformed)?;
        if length > input.len() {
            return Err(Malformed);
        }
        let (text, rest) = input.split_at(length);
        *input = rest;
        if !is_huffman {
            return Ok(Bytes::copy_from_slice(text));
        }
        self.scratch.clear();
        huffman::decode(text, &mut self.scratch).map_err(|huffman::Malformed| Malformed)?;
        Ok(Bytes::copy_from_slice(&self.scratch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let byte =
            |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    fn fields(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, Malformed> {
        let mut found = Vec::new();
        decoder.decode(block, &mut |field: Field<'_>| {
            let text = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
            found.push(format!("{}={}", text(&field.name), text(&field.value)));
        })?;
        Ok(found)
    }

    const REQUESTS: [&[&str]; 3] = [
        &[":method=GET", ":scheme=http", ":path=/", ":authority=www.example.com"],
        &[
            ":method=GET",
            ":scheme=http",
            ":path=/",
            ":authority=www.example.com",
            "cache-control=no-cache",
        ],
        &[
            ":method=GET",
            ":scheme=https",
            ":path=/index.html",
            ":authority=www.example.com",
            "custom-key=custom-value",
        ],
    ];

    /// RFC 7541 appendix C.2: one field in each representation.
    #[test]
    fn single_fields_of_the_appendix() {
        for (block, expected, size) in [
            (
                "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
                "custom-key=custom-header",
                55,
            ),
            ("040c 2f73 616d 706c 652f 7061 7468", ":path=/sample/path", 0),
            ("1008 7061 7373 776f 7264 0673 6563 7265 74", "password=secret", 0),
            ("82", ":method=GET", 0),
        ] {
            let mut decoder = Decoder::new(4096, &[]);
            assert_eq!(fields(&mut decoder, &bytes(block)), Ok(vec![expected.to_owned()]));
            assert_eq!(decoder.table.size(), size);
        }
    }

    /// RFC 7541 appendix C.3 and C.4: requests of one connection, plain and in Huffman code.
    #[test]
    fn requests_of_the_appendix() {
        let plain = [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ];
        let huffman = [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ];
        for blocks in [plain, huffman] {
            let mut decoder = Decoder::new(4096, &[]);
            for ((block, expected), size) in blocks.iter().zip(REQUESTS).zip([57, 110, 164]) {
                assert_eq!(fields(&mut decoder, &bytes(block)).unwrap(), expected);
                assert_eq!(decoder.table.size(), size);
            }
        }
    }

    /// RFC 7541 appendix C.5 and C.6: a small table, from which entries go.
    #[test]
    fn responses_of_the_appendix() {
        let plain = [
            "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133
             2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70
             6c65 2e63 6f6d",
            "4803 3330 37c1 c0bf",
            "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d
             54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049
             5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e
             3d31",
        ];
        let huffman = [
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6
             2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
            "4883 640e ffc1 c0bf",
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab
             77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f
             9587 3160 65c0 03ed 4ee5 b106 3d50 07",
        ];
        let expected: [&[&str]; 3] = [
            &[
                ":status=302",
                "cache-control=private",
                "date=Mon, 21 Oct 2013 20:13:21 GMT",
                "location=https://www.example.com",
            ],
            &[
                ":status=307",
                "cache-control=private",
                "date=Mon, 21 Oct 2013 20:13:21 GMT",
                "location=https://www.example.com",
            ],
            &[
                ":status=200",
                "cache-control=private",
                "date=Mon, 21 Oct 2013 20:13:22 GMT",
                "location=https://www.example.com",
                "content-encoding=gzip",
                "set-cookie=foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
            ],
        ];
        for blocks in [plain, huffman] {
            let mut decoder = Decoder::new(256, &[]);
            for ((block, expected), size) in blocks.iter().zip(expected).zip([222, 222, 215]) {
                assert_eq!(fields(&mut decoder, &bytes(block)).unwrap(), expected);
                assert_eq!(decoder.table.size(), size);
            }
        }
    }

    #[test]
    fn what_cannot_be_decoded_is_malformed() {
        for (block, why) in [
            ("80", "index 0"),
            ("be", "an index behind the table"),
            ("ff ffff ffff ff", "an endless index"),
            ("4001", "a name that is cut off"),
            ("4001 61", "no value"),
            ("4001 6181 fe", "padding of the wrong bits"),
            ("82 20", "a size behind a field"),
            ("3f e2 1f", "a size above 4096"),
        ] {
            let mut decoder = Decoder::new(4096, &[]);
            assert_eq!(fields(&mut decoder, &bytes(block)), Err(Malformed), "{why}");
        }
    }

    #[test]
    fn an_entry_larger_than_the_table_empties_it() {
        let mut decoder = Decoder::new(64, &[]);
        fields(&mut decoder, &bytes("4001 6101 62")).unwrap();
        assert_eq!(decoder.table.size(), 34);
        let large = [&[0x40, 1, b'a', 40][..], &[b'b'; 40]].concat();
        fields(&mut decoder, &large).unwrap();
        assert_eq!(decoder.table.size(), 0);
        assert_eq!(fields(&mut decoder, &bytes("be")), Err(Malformed));
    }
}
