//! What the nodes agree on: members, sources, settings of the cluster.
//!
//! Today there is one registry, [`Embedded`]: a file of one machine. The registry of many machines (etcd) comes here too.
//!
//! Not here: anything that is read on the path of a request. A process reads the registry when it starts and when it changes.

mod embedded;
mod node_name;

pub use embedded::{Embedded, RegistryError};
pub use node_name::NodeName;
