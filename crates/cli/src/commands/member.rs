//! member: list, add, remove, update, promote.

use std::fmt::Write as _;

use proto::etcdserverpb as pb;

use super::{Cluster, member_id};
use crate::exit::{Exit, Result};
use crate::print::cluster::MemberChange;
use crate::print::{Format, print, put};

/// Show and change who is in the cluster
#[derive(Debug, Clone, clap::Subcommand)]
#[command(after_help = "\
One change at a time. A new member is added first and started afterwards, with the settings that
`add` prints. A learner takes part without a vote until it is promoted, so that a slow start
cannot cost the cluster its majority: prefer it.

Examples:
  quorate member list -w table
  quorate member add four --peer-urls http://10.0.0.4:2380 --learner
  quorate member promote 8e9e05c52164694d
  quorate member remove 8e9e05c52164694d")]
pub(crate) enum MemberCommand {
    /// List the members
    List {
        /// Whether a majority must confirm the list
        #[arg(long, value_name = "l|s", default_value = "l")]
        consistency: String,
    },
    /// Add a member, to be started afterwards
    Add {
        /// Its name
        name: String,
        /// Where its peers will find it, separated by commas
        #[arg(long, value_name = "URL,...", value_delimiter = ',')]
        peer_urls: Vec<String>,
        /// As a learner: without a vote
        #[arg(long)]
        learner: bool,
    },
    /// Remove a member for good
    Remove {
        /// Its id in hexadecimal
        id: String,
    },
    /// Change where a member's peers find it
    Update {
        /// Its id in hexadecimal
        id: String,
        /// The new addresses, separated by commas
        #[arg(long, value_name = "URL,...", value_delimiter = ',')]
        peer_urls: Vec<String>,
    },
    /// Give a learner a vote
    Promote {
        /// Its id in hexadecimal
        id: String,
    },
}

impl MemberCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// Whatever ends it.
    pub(crate) async fn run(self, cluster: Cluster) -> Result<()> {
        let Cluster { client, style } = &cluster;
        match self {
            Self::List { consistency } => print(&client.members(consistency != "s").await?, *style),
            Self::Add { name, peer_urls, learner } => {
                let urls = given(peer_urls)?;
                let response = client.member_add(urls, learner).await?;
                let id = response.member.as_ref().map_or(0, |member| member.id);
                let hint = start_hint(&name, &response);
                let header = response.header;
                print(&MemberChange { id, done: "added to", header, response }, *style)?;
                if style.format == Format::Simple { put(&hint) } else { Ok(()) }
            }
            Self::Remove { id } => {
                let id = member_id(&id)?;
                let response = client.member_remove(id).await?;
                let header = response.header;
                print(&MemberChange { id, done: "removed from", header, response }, *style)
            }
            Self::Update { id, peer_urls } => {
                let id = member_id(&id)?;
                let response = client.member_update(id, given(peer_urls)?).await?;
                let header = response.header;
                print(&MemberChange { id, done: "updated in", header, response }, *style)
            }
            Self::Promote { id } => {
                let id = member_id(&id)?;
                let response = client.member_promote(id).await?;
                let header = response.header;
                print(&MemberChange { id, done: "promoted in", header, response }, *style)
            }
        }
    }
}

fn given(peer_urls: Vec<String>) -> Result<Vec<String>> {
    if peer_urls.iter().all(String::is_empty) {
        return Err(Exit::bad_args("member peer urls not provided"));
    }
    Ok(peer_urls)
}

/// The settings that the new member is to be started with.
fn start_hint(name: &str, response: &pb::MemberAddResponse) -> String {
    let new = response.member.as_ref();
    let initial_cluster: Vec<String> = response
        .members
        .iter()
        .flat_map(|member| {
            let is_new = new.is_some_and(|new| new.id == member.id);
            let name = if is_new { name } else { &member.name };
            member.peer_urls.iter().map(move |url| format!("{name}={url}"))
        })
        .collect();
    let peer_urls = new.map_or_else(String::new, |member| member.peer_urls.join(","));
    let mut hint = String::new();
    let _infallible = write!(
        hint,
        "\nETCD_NAME=\"{name}\"\nETCD_INITIAL_CLUSTER=\"{}\"\n\
         ETCD_INITIAL_ADVERTISE_PEER_URLS=\"{peer_urls}\"\nETCD_INITIAL_CLUSTER_STATE=\"existing\"\n",
        initial_cluster.join(",")
    );
    hint
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_member_is_told_the_whole_cluster_and_its_own_name() {
        let member = |id, name: &str, url: &str| pb::Member {
            id,
            name: name.into(),
            peer_urls: vec![url.into()],
            ..Default::default()
        };
        let new = member(2, "", "http://b:1");
        let response = pb::MemberAddResponse {
            header: None,
            member: Some(new.clone()),
            members: vec![member(1, "a", "http://a:1"), new],
        };
        let hint = start_hint("b", &response);
        assert!(hint.contains("ETCD_INITIAL_CLUSTER=\"a=http://a:1,b=http://b:1\"\n"), "{hint}");
        assert!(hint.contains("ETCD_NAME=\"b\"\n"));
        assert!(hint.contains("ETCD_INITIAL_ADVERTISE_PEER_URLS=\"http://b:1\"\n"));
    }
}
