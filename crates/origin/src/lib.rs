//! Speaks to the stores where data lives: object stores and HTTP servers through OpenDAL, directories by the kernel.
//!
//! Always true here: a byte is given out only with proof that it belongs to the version asked for, as [`Proof`] says;
//! the exact key is addressed, or the call is refused; every call ends by its deadline, waiting and retries included;
//! no message holds a credential. A listing is whole or ends in an error.
//!
//! Not here: what is remembered of an origin (`catalog`), kept of it (`store`), or asked of it and when (`node`).
//! Nothing is written to an origin.

mod address;
mod connect;
mod error;
mod explain;
mod files;
mod files_list;
mod http_list;
mod key;
mod list_json;
mod list_page;
mod list_xml;
mod listing;
mod manifest;
mod metrics;
mod origin;
mod pages;
mod parallel;
mod read;
mod remote;
mod remote_list;
mod remote_read;
mod retry;
mod settings;
mod transport;
mod version;

pub use address::{OriginUrl, OriginUrlError, Scheme};
pub use error::{OriginError, OriginErrorKind};
pub use listing::{Listed, Listing};
pub use metrics::{OriginFamilies, OriginMetrics};
pub use origin::{ObjectMeta, Origin, Proof};
pub use parallel::{KeySpan, Part, PartListing};
pub use read::ReadStream;
pub use settings::{Credentials, OriginSettings};
