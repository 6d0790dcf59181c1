//! From a command to the process that it asks.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use forebay_client::Client;
use forebay_model::Principal;
use forebay_route::{RemoteNode, Service};

use crate::failure::Failure;
use crate::settings::NODE_VARIABLE;

/// How long a command waits for one answer: longer than an origin's default deadline, so that the node's own words about it arrive.
const DEADLINE: Duration = Duration::from_secs(60);

/// Where a process may listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NodeAddress {
    /// A Unix socket.
    Socket(PathBuf),
    /// `HOST:PORT`.
    Tcp(String),
}

/// Where processes listen for commands of their own machine, the first that can be used first.
pub(crate) fn default_sockets() -> Vec<PathBuf> {
    let mut sockets = vec![PathBuf::from("/run/forebay/node.sock")];
    if let Some(directory) = std::env::var_os("XDG_RUNTIME_DIR").filter(|directory| !directory.is_empty()) {
        sockets.push(PathBuf::from(directory).join("forebay/node.sock"));
    }
    sockets
}

/// A client of the process that `node` (the flag) names; without it of `FOREBAY_NODE`, else of this machine's.
pub(crate) async fn connect(node: Option<&str>) -> Result<Client, Failure> {
    let mut tried = Vec::new();
    for address in candidates(node)? {
        match dial(&address).await {
            Ok(service) => return Ok(Client::new(service, DEADLINE)),
            Err(error) => tried.push(format!("  {address}: {error}")),
        }
    }
    Err(Failure::failed(format!(
        "no Forebay process answers. Tried:\n{}\nStart one with `forebay up ORIGIN --mount DIR --cache DIR:SIZE`, or name one \
         by `--node` or `{NODE_VARIABLE}`.",
        tried.join("\n")
    )))
}

/// Opens the connection. The error is what the user reads after the address.
async fn dial(address: &NodeAddress) -> Result<Arc<dyn Service>, String> {
    match address {
        NodeAddress::Socket(path) => match RemoteNode::connect(path).await {
            Ok(node) => Ok(Arc::new(node)),
            Err(fault) => Err(fault.message),
        },
        NodeAddress::Tcp(_) => {
            Err("nodes are reached by their Unix socket: the port between machines is not built yet".to_owned())
        }
    }
}

/// Who asks: the user who runs the command.
pub(crate) fn principal() -> Principal {
    Principal::User { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
}

fn candidates(node: Option<&str>) -> Result<Vec<NodeAddress>, Failure> {
    if let Some(text) = node {
        return NodeAddress::parse(text)
            .map(|address| vec![address])
            .map_err(|why| Failure::usage(format!("--node: {why}")));
    }
    match std::env::var(NODE_VARIABLE) {
        Ok(text) if !text.is_empty() => NodeAddress::parse(&text)
            .map(|address| vec![address])
            .map_err(|why| Failure::usage(format!("{NODE_VARIABLE}: {why}"))),
        _ => Ok(default_sockets().into_iter().map(NodeAddress::Socket).collect()),
    }
}

impl NodeAddress {
    /// Reads a socket's path (it has a `/`) or `HOST:PORT`.
    fn parse(text: &str) -> Result<Self, String> {
        if text.contains('/') {
            return Ok(Self::Socket(text.into()));
        }
        match text.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(Self::Tcp(text.to_owned())),
            _ => Err(format!(
                "{text:?} is not valid: expected a socket's path, such as `/run/forebay/node.sock`, or HOST:PORT"
            )),
        }
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Tcp(address) => f.write_str(address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_paths_or_ports() {
        assert_eq!(NodeAddress::parse("./n.sock"), Ok(NodeAddress::Socket("./n.sock".into())));
        assert_eq!(NodeAddress::parse("n1:7600"), Ok(NodeAddress::Tcp("n1:7600".into())));
        assert_eq!(NodeAddress::parse("[::1]:7600"), Ok(NodeAddress::Tcp("[::1]:7600".into())));
        for text in ["", "n1", ":7600", "n1:x", "n1:70000"] {
            assert!(NodeAddress::parse(text).is_err_and(|why| why.contains(text)), "{text:?}");
        }
    }
}
