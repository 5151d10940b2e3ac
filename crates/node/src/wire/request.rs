//! Clients' requests and their answers, passed between members.

use bytes::Bytes;
use etcd::{Error, Publish, Request, Response};
use prost::Message as _;

use super::{Malformed, pb};

macro_rules! kinds {
    ($($number:literal = $name:ident,)*) => {
        /// The number of the request's kind, and its bytes.
        pub(crate) fn encode_request(request: &Request) -> (u32, Bytes) {
            match request {
                $(Request::$name(message) => ($number, message.encode_to_vec().into()),)*
                Request::Publish(publish) => (PUBLISH, PublishRow::from(publish).encode_to_vec().into()),
            }
        }

        /// The request of a kind and bytes.
        pub(crate) fn decode_request(kind: u32, bytes: Bytes) -> Result<Request, Malformed> {
            Ok(match kind {
                $($number => Request::$name(decode(bytes)?),)*
                PUBLISH => Request::Publish(decode::<PublishRow>(bytes)?.into()),
                _ => return Err(Malformed("a request of an unknown kind")),
            })
        }

        /// The number of the answer's kind, and its bytes.
        pub(crate) fn encode_response(response: &Response) -> (u32, Bytes) {
            match response {
                $(Response::$name(message) => ($number, message.encode_to_vec().into()),)*
                Response::Published => (PUBLISH, Bytes::new()),
            }
        }

        /// The answer of a kind and bytes.
        pub(crate) fn decode_response(kind: u32, bytes: Bytes) -> Result<Response, Malformed> {
            Ok(match kind {
                $($number => Response::$name(decode(bytes)?),)*
                PUBLISH => Response::Published,
                _ => return Err(Malformed("an answer of an unknown kind")),
            })
        }
    };
}

const PUBLISH: u32 = 20;

kinds! {
    1 = Range,
    2 = Put,
    3 = DeleteRange,
    4 = Txn,
    5 = Compact,
    6 = LeaseGrant,
    7 = LeaseRevoke,
    8 = LeaseKeepAlive,
    9 = LeaseTimeToLive,
    10 = LeaseLeases,
    11 = MemberAdd,
    12 = MemberRemove,
    13 = MemberUpdate,
    14 = MemberList,
    15 = MemberPromote,
    16 = Alarm,
    17 = Hash,
    18 = HashKv,
    19 = AuthStatus,
}

fn decode<M: prost::Message + Default>(bytes: Bytes) -> Result<M, Malformed> {
    M::decode(bytes).map_err(|_| Malformed("a forwarded message that does not decode"))
}

#[derive(Clone, PartialEq, prost::Message)]
struct PublishRow {
    #[prost(fixed64, tag = "1")]
    member_id: u64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, repeated, tag = "3")]
    client_urls: Vec<String>,
}

impl From<&Publish> for PublishRow {
    fn from(publish: &Publish) -> PublishRow {
        let Publish { member_id, name, client_urls } = publish.clone();
        PublishRow { member_id, name, client_urls }
    }
}

impl From<PublishRow> for Publish {
    fn from(row: PublishRow) -> Publish {
        let PublishRow { member_id, name, client_urls } = row;
        Publish { member_id, name, client_urls }
    }
}

/// An error is passed on by its text, which is what identifies it to clients as well.
pub(crate) fn encode_error(error: &Error) -> pb::RemoteError {
    pb::RemoteError { code: error.code() as i32, message: error.to_string() }
}

/// The error with that text; one that this version does not know was raised by the state engine
/// or by a newer member, and counts as the state engine's.
pub(crate) fn decode_error(error: pb::RemoteError) -> Error {
    if let Some(known) = Error::TABLE.iter().find(|known| known.to_string() == error.message) {
        return known.clone();
    }
    // Its text comes with what every such text begins with, and would get it once more.
    let beginning = Error::Storage(String::new()).to_string();
    match error.message.strip_prefix(&beginning) {
        Some(text) => Error::Storage(text.to_owned()),
        // Of a version to come: what was asked for may have been done.
        None => Error::Timeout,
    }
}

#[cfg(test)]
mod tests {
    use proto::etcdserverpb as put;

    use super::*;

    #[test]
    fn every_error_is_the_same_on_the_other_side() {
        for error in Error::TABLE {
            let same = decode_error(encode_error(error));
            // Some texts stand for two errors; a client cannot tell them apart either.
            assert_eq!(same.to_string(), error.to_string());
        }
        let engine = Error::Storage("a page is damaged".to_owned());
        assert_eq!(decode_error(encode_error(&engine)), engine);
        let of_tomorrow =
            pb::RemoteError { code: 13, message: "etcdserver: no such thing yet".to_owned() };
        assert_eq!(decode_error(of_tomorrow), Error::Timeout, "nobody knows whether it was done");
    }

    #[test]
    fn requests_come_back() {
        let put = Request::Put(put::PutRequest { key: "k".into(), ..Default::default() });
        let publish = Request::Publish(Publish {
            member_id: 7,
            name: "a".into(),
            client_urls: vec!["http://a:1".into()],
        });
        for request in [put, publish] {
            let (kind, bytes) = encode_request(&request);
            assert_eq!(decode_request(kind, bytes), Ok(request));
        }
        assert!(decode_request(0, Bytes::new()).is_err());
        assert!(decode_request(2, Bytes::from_static(b"\xff")).is_err());
    }
}
