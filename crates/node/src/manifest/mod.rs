//! Sources whose objects a manifest tells: their origins are asked for bytes, and for nothing else.
//!
//! Always true: what is answered comes from one manifest that was read whole; a manifest that is wrong is an error and no short
//! listing; bytes belong to the version that the manifest tells.
//!
//! Not here: the formats and the index (`forebay_manifest`).

mod files;
mod listed;
mod reading;
mod upstream;

pub use files::{ManifestFile, OpenFile};

pub(crate) use files::Manifests;

use forebay_manifest::ManifestError;
use forebay_model::{Fault, FaultKind};

/// What the reader of a path can do about it.
pub(crate) fn fault_of(error: ManifestError) -> Fault {
    let (kind, why) = match error {
        ManifestError::Wrong(why) => (FaultKind::Invalid, why),
        ManifestError::Broken(why) | ManifestError::Disk(why) | ManifestError::Damaged(why) => {
            (FaultKind::Unavailable, why)
        }
    };
    Fault::new(kind, why)
}
