//! What the readers of people's input promise of any bytes, for the crate `fuzz`.
//!
//! Each function says whether it accepted the bytes, and panics where a promise is broken; what
//! ends in `_samples` is where a search may begin.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use clap::Parser as _;

use crate::commands::{txn, words};
use crate::print::text;
use crate::start::config::{Manner, StartConfig};
use crate::start::{etcd, url};

/// What any settings of a member that are accepted promise.
fn check(config: &StartConfig) {
    let lists = [
        &config.listen_client_urls,
        &config.advertise_client_urls,
        &config.listen_client_http_urls,
        &config.listen_peer_urls,
        &config.advertise_peer_urls,
        &config.listen_metrics_urls,
    ];
    let members = config.initial_cluster.values();
    for url in lists.into_iter().flatten().chain(members.clone().flatten()) {
        assert_eq!(url.to_string().parse(), Ok(url.clone()), "an address is read as it is shown");
    }
    assert!(!config.listen_client_urls.is_empty() && !config.listen_peer_urls.is_empty());
    assert!(config.initial_cluster.contains_key(&config.name), "a member is among the members");
    assert!(config.heartbeat_interval * 5 <= config.election_timeout);
    assert!(!config.logging.outputs.is_empty());
    let _no_panic = crate::start::node_config(config).validate();
}

/// A command line of etcd's, its words separated by zeros, without the name of the program.
#[must_use]
pub fn etcd_command_line(data: &[u8]) -> bool {
    let args = data.split(|byte| *byte == 0).map(|arg| OsString::from_vec(arg.to_vec()));
    let args: Vec<OsString> = std::iter::once(OsString::from("etcd")).chain(args).collect();
    // It would be opened.
    let names_file = |arg: &OsString| arg.to_string_lossy().contains("config-file");
    if args.iter().any(names_file) {
        return false;
    }
    match etcd::read(args) {
        Ok(Ok(etcd::Request::Start(config))) => {
            check(&config);
            true
        }
        Ok(Ok(etcd::Request::Print(_))) => true,
        Ok(Err(refused)) => {
            assert!(!refused.to_string().is_empty(), "a refusal says why");
            false
        }
        Err(usage) => {
            assert!(!usage.to_string().is_empty(), "a refusal says why");
            false
        }
    }
}

/// Command lines as Kubernetes and people write them.
#[must_use]
pub fn etcd_command_line_samples() -> Vec<Vec<u8>> {
    let lines: [&[u8]; 7] = [
        b"",
        b"--name\0n1",
        b"-name=n1\0-force-new-cluster\0--pre-vote=false",
        b"--version",
        b"--name=cp\0--data-dir=/d\0--listen-client-urls=http://127.0.0.1:2379,http://10.0.0.1:2379\
          \0--advertise-client-urls=http://10.0.0.1:2379\0--listen-metrics-urls=http://127.0.0.1:1\
          \0--initial-cluster=cp=http://10.0.0.1:2380\0--snapshot-count=10000\
          \0--listen-peer-urls=http://10.0.0.1:2380\0--initial-advertise-peer-urls=http://10.0.0.1:2380\
          \0--experimental-watch-progress-notify-interval=5s",
        b"--name=b\0--initial-cluster\0a=http://[::1]:1,b=http://localhost:2380\
          \0--initial-cluster-state=existing\0--heartbeat-interval=50\0--election-timeout=500\
          \0--quota-backend-bytes=-1\0--auto-compaction-mode=periodic\0--auto-compaction-retention=1h",
        b"--log-level=debug\0--log-outputs=stdout,/l\0--log-format=json\0--metrics=extensive\
          \0--max-request-bytes=1000\0--max-txn-ops=7\0--auto-compaction-mode=revision\
          \0--auto-compaction-retention=100\0--cert-file=",
    ];
    lines.map(<[u8]>::to_vec).to_vec()
}

/// A configuration file of etcd's.
#[must_use]
pub fn etcd_config_file(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let flags = match etcd::file_flags(text) {
        Ok(flags) => flags,
        Err(why) => {
            assert!(!why.is_empty(), "a refusal says why");
            return false;
        }
    };
    let Ok(config) = StartConfig::new(&flags, Manner::Etcd) else { return false };
    check(&config);
    true
}

/// Configuration files as etcd's sample has it.
#[must_use]
pub fn etcd_config_file_samples() -> Vec<Vec<u8>> {
    let files: [&[u8]; 3] = [
        b"# a member\nname: 'm1'\ndata-dir: \"/d\" # here\nheartbeat-interval: 50\npre-vote: false\n\
          client-transport-security:\n  cert-file:\n  auto-tls: false\n",
        b"---\nname: default\nwal-dir:\nsnapshot-count: 10000\nquota-backend-bytes: 0\nlisten-peer-urls: \
          http://localhost:2380\nlisten-client-urls: http://localhost:2379\nadvertise-client-urls: \
          http://localhost:2379\ninitial-cluster-token: 'etcd-cluster'\ninitial-cluster-state: 'new'\n\
          strict-reconfig-check: false\nproxy: 'off'\nlog-outputs: [stderr]\n",
        b"auto-compaction-mode: periodic\nauto-compaction-retention: \"1\"\nlog-level: debug\n",
    ];
    files.map(<[u8]>::to_vec).to_vec()
}

/// What people write: a transaction's script, and each of its lines as words, as a duration and as
/// an address.
#[must_use]
pub fn command_text(data: &[u8]) -> bool {
    let Ok(given) = std::str::from_utf8(data) else { return false };
    for line in given.lines() {
        if let Ok(found) = words::split(line) {
            let quoted: Vec<String> =
                found.iter().map(|word| text::quoted(word.as_bytes())).collect();
            assert_eq!(words::split(&quoted.join(" ")), Ok(found), "quoted words are the words");
        }
        let _no_panic = text::parse_duration(line).map(text::duration);
        for url in url::list(line).unwrap_or_default() {
            assert_eq!(url.to_string().parse(), Ok(url), "an address is read as it is shown");
        }
        if let Ok(endpoint) = client::Endpoint::parse(line) {
            let again = client::Endpoint::parse(endpoint.as_str());
            assert_eq!(again, Ok(endpoint), "an endpoint is read as it is shown");
        }
        let words = line.split_whitespace().map(str::to_owned);
        let asked = crate::Cli::try_parse_from(std::iter::once("quorate".to_owned()).chain(words));
        if let Err(usage) = asked {
            assert!(!usage.to_string().is_empty(), "a refusal says why");
        }
    }
    let mut script = data;
    txn::read(&mut script, false).is_ok()
}

/// Scripts of transactions, durations and addresses.
#[must_use]
pub fn command_text_samples() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 4] = [
        b"mod(\"a\") > \"0\"\nval(\"b\") = \"x y\"\n\nput a \"1 2\" --prev-kv\n\nget a --prefix\ndel b\n",
        b"lease(\"k\\x41\\u00e9\") != \"7\"\nver(\"a\") < \"3\"\n\n\nput 'a \"b\"' --lease=1 c\n",
        b"1m30s\n1.5h\n250ms\nhttp://[::1]:2380,http://a:1\nlocalhost:2379\n",
        b"get a b --limit=3 --rev 7\nlease grant 60\nmember add x --peer-urls=http://a:1\n",
    ];
    texts.map(<[u8]>::to_vec).to_vec()
}

/// A trace that the lab's page is opened on.
#[must_use]
pub fn lab_trace(data: &[u8]) -> bool {
    match lab_page::Trace::read("trace.json".to_owned(), data.to_vec()) {
        Ok(_) => true,
        Err(refused) => {
            assert!(
                refused.to_string().contains("quorate-sim trace"),
                "a refusal says what is wanted"
            );
            false
        }
    }
}
