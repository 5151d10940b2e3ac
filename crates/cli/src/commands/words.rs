//! Splitting a line as the interactive commands of etcdctl do, and Go's quoted strings.

/// The words of a line: separated by blanks; `"..."` with Go's escapes, `'...'` as it is.
///
/// # Errors
/// A quote without its end, or a bad escape.
pub(crate) fn split(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let (word, after) = match first {
            '"' => unquote(rest)?,
            '\'' => {
                let body = &rest[1..];
                let end = body.find('\'').ok_or_else(|| format!("unmatched quote in {line:?}"))?;
                (body[..end].to_owned(), &body[end + 1..])
            }
            _ => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                // --flag="a b" keeps its quoted part together.
                match rest[..end].find('"') {
                    Some(quote) => {
                        let (quoted, after) = unquote(&rest[quote..])?;
                        (format!("{}{quoted}", &rest[..quote]), after)
                    }
                    None => (rest[..end].to_owned(), &rest[end..]),
                }
            }
        };
        words.push(word);
        rest = after.trim_start();
    }
    Ok(words)
}

/// Reads a string in double quotes at the front of `text`; gives it and what follows.
///
/// # Errors
/// If there is none, it does not end, or an escape is bad.
pub(crate) fn unquote(text: &str) -> Result<(String, &str), String> {
    let bad = || format!("malformed quoted string in {text:?}");
    let mut chars = text.char_indices();
    if chars.next().map(|(_, c)| c) != Some('"') {
        return Err(bad());
    }
    let mut out = String::new();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((out, &text[at + 1..])),
            '\\' => {
                let (_, escape) = chars.next().ok_or_else(bad)?;
                let plain = match escape {
                    'a' => '\u{7}',
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'v' => '\u{b}',
                    '\\' | '"' | '\'' => escape,
                    'x' | 'u' | 'U' => {
                        let digits = match escape {
                            'x' => 2,
                            'u' => 4,
                            _ => 8,
                        };
                        let code = (0..digits).try_fold(0, |code, _| {
                            let digit = chars.next().and_then(|(_, c)| c.to_digit(16));
                            digit.map(|digit| code * 16 + digit)
                        });
                        code.and_then(char::from_u32).ok_or_else(bad)?
                    }
                    _ => return Err(bad()),
                };
                out.push(plain);
            }
            c => out.push(c),
        }
    }
    Err(bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_at_blanks_outside_quotes() {
        let words = split(r#"put  "a \"b\"\n" 'c "d"' --lease=1 --x="y z" é"#).unwrap();
        assert_eq!(words, ["put", "a \"b\"\n", "c \"d\"", "--lease=1", "--x=y z", "é"]);
        assert_eq!(split("  ").unwrap(), [""; 0]);
        for bad in ["\"abc", "'abc", r#""\q""#, r#""\x4""#] {
            assert!(split(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_follows_a_quoted_string_is_given_back() {
        assert_eq!(unquote(r#""k") = "v""#).unwrap(), ("k".into(), r#") = "v""#));
        assert_eq!(unquote(r#""\x41é""#).unwrap().0, "Aé");
    }
}
