//! txn: compares, then one of two lists of operations, read from stdin.

use std::io::{BufRead, IsTerminal as _};

use clap::Parser as _;
use client::Txn;
use client::kv;
use proto::etcdserverpb as pb;

use super::Cluster;
use super::kv::{DelArgs, GetArgs, PutArgs};
use super::words::{split, unquote};
use crate::exit::{Exit, Result};
use crate::print::print;

/// Run a transaction, read from stdin
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Three blocks of lines, each ended by an empty line: comparisons, what to do if all of them hold,
what to do otherwise. Everything happens at one revision, or nothing does.

  mod(\"KEY\")    > \"7\"      the revision that last wrote the key (0: there is no such key)
  create(\"KEY\") = \"0\"      the revision that created it
  ver(\"KEY\")    = \"3\"      how often it was written since
  val(\"KEY\")    = \"red\"    its value
  lease(\"KEY\") != \"0\"      its lease
  compared by =, !=, < or >; operations are put, get and del as on the command line

Example: swap a value only if nobody else did
  quorate txn <<'EOF'
  val(\"colour\") = \"red\"

  put colour blue

  get colour

  EOF")]
pub(crate) struct TxnArgs {
    /// Say what is expected next, even if stdin is not a terminal
    #[arg(short, long)]
    interactive: bool,
}

#[derive(Debug, clap::Parser)]
#[command(no_binary_name = true, disable_help_subcommand = true)]
enum Op {
    Put(PutArgs),
    Get(GetArgs),
    Del(DelArgs),
}

impl TxnArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// Whatever ends it.
    pub(crate) async fn run(self, cluster: Cluster) -> Result<()> {
        let stdin = std::io::stdin();
        let prompt = self.interactive || stdin.is_terminal();
        let txn = read(&mut stdin.lock(), prompt)?;
        print(&cluster.client.txn(txn).await?, cluster.style)
    }
}

/// Reads a transaction.
///
/// # Errors
/// If a line cannot be understood.
pub(crate) fn read(input: &mut impl BufRead, prompt: bool) -> Result<Txn> {
    let mut block = |name: &str| {
        if prompt {
            println!("{name}:");
        }
        block(input)
    };
    let compares =
        block("compares")?.iter().map(|line| compare(line)).collect::<Result<Vec<_>>>()?;
    let mut ops = |name: &str| {
        let lines = block(&format!("{name} requests (get, put, del)"))?;
        lines.iter().map(|line| op(line)).collect::<Result<Vec<_>>>()
    };
    let success = ops("success")?;
    let failure = ops("failure")?;
    Ok(Txn(pb::TxnRequest { compare: compares, success, failure }))
}

/// The lines up to an empty one or the end.
fn block(input: &mut impl BufRead) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        let read = input.read_line(&mut line).map_err(Exit::io)?;
        let line = line.trim();
        if read == 0 || line.is_empty() {
            return Ok(lines);
        }
        lines.push(line.to_owned());
    }
}

/// Reads `target("key") op "value"`.
fn compare(line: &str) -> Result<pb::Compare> {
    let malformed = || Exit::invalid_input(format!("malformed comparison: {line}"));
    let (target, rest) = line.split_once('(').ok_or_else(malformed)?;
    let (key, rest) = unquote(rest.trim_start()).map_err(|_| malformed())?;
    let rest = rest.trim_start().strip_prefix(')').ok_or_else(malformed)?.trim_start();
    let (op, rest) = rest.split_once([' ', '\t']).ok_or_else(malformed)?;
    let (value, rest) = unquote(rest.trim_start()).map_err(|_| malformed())?;
    if !rest.trim().is_empty() {
        return Err(malformed());
    }
    let operand = match target.trim() {
        "ver" | "version" => kv::version(key),
        "c" | "create" => kv::create_revision(key),
        "m" | "mod" => kv::mod_revision(key),
        "lease" => kv::lease(key),
        "val" | "value" => {
            let operand = kv::value(key);
            return match op {
                "=" => Ok(operand.equals(value)),
                "!=" => Ok(operand.differs(value)),
                ">" => Ok(operand.greater(value)),
                "<" => Ok(operand.less(value)),
                _ => Err(malformed()),
            };
        }
        other => {
            let text = format!("malformed comparison: {line} (unknown target {other})");
            return Err(Exit::invalid_input(text));
        }
    };
    let number = value.parse().map_err(|_| {
        Exit::invalid_input(format!("invalid txn compare request: {value:?} is not a number"))
    })?;
    match op {
        "=" => Ok(operand.equals(number)),
        "!=" => Ok(operand.differs(number)),
        ">" => Ok(operand.greater(number)),
        "<" => Ok(operand.less(number)),
        _ => Err(malformed()),
    }
}

/// Reads `put`, `get` or `del` with its arguments.
fn op(line: &str) -> Result<pb::RequestOp> {
    let words = split(line).map_err(Exit::invalid_input)?;
    let op = Op::try_parse_from(words)
        .map_err(|e| Exit::invalid_input(format!("invalid txn request: {line}\n{e}")))?;
    let invalid = |exit: Exit| Exit::invalid_input(format!("invalid txn request: {exit}"));
    Ok(match op {
        Op::Put(put) => put.request(false).map_err(invalid)?.into(),
        Op::Get(get) => get.request().map_err(invalid)?.into(),
        Op::Del(del) => del.request().map_err(invalid)?.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::{Get, Put};

    #[test]
    fn a_script_becomes_a_transaction() {
        let script =
            "mod(\"a\") > \"0\"\nval(\"b\") = \"x y\"\n\nput a \"1 2\" --prev-kv\n\nget a\n";
        let txn = read(&mut script.as_bytes(), false).unwrap();
        let expected = Txn::new()
            .when([kv::mod_revision("a").greater(0), kv::value("b").equals("x y")])
            .then([Put::new("a", "1 2").prev_kv()])
            .otherwise([Get::key("a")]);
        assert_eq!(txn, expected);
    }

    #[test]
    fn every_block_may_be_empty() {
        assert_eq!(read(&mut "".as_bytes(), false).unwrap(), Txn::new());
        assert_eq!(read(&mut "\n\n\n".as_bytes(), false).unwrap(), Txn::new());
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let bad = [
            "garbage\n",
            "mod(a) = \"1\"\n",
            "mod(\"a\") = 1\n",
            "mod(\"a\") ~ \"1\"\n",
            "mod(\"a\") = \"x\"\n",
            "what(\"a\") = \"1\"\n",
            "val(\"a\") = \"1\" more\n",
            "\nput\n",
            "\nfrobnicate a\n",
            "\nget \"a\n",
        ];
        for script in bad {
            let exit = read(&mut script.as_bytes(), false).unwrap_err();
            assert_eq!(exit.code(), 3, "{script:?}");
        }
    }
}
