//! Who holds a node's answers besides the node itself, and has to let go of them before their time: the kernel of a mount.

use async_trait::async_trait;
use forebay_model::NsPath;

/// What is not to be used any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outdated {
    /// What one name stands for, or that it stands for nothing.
    Name(NsPath),
    /// The same, but it may well stand for what it did: a directory of which a new object has come.
    Doubtful(NsPath),
    /// What a path stands for and, if that is a directory, what the names in it do.
    Directory(NsPath),
    /// What a path and all below it stand for.
    Tree(NsPath),
}

/// Holds what a node has answered, for as long as the answers said.
#[async_trait]
pub trait Holder: Send + Sync + 'static {
    /// Lets go of what is outdated. The node has forgotten it before: whoever is asked from now on knows better. True when it is
    /// done, false if that takes longer than anybody should wait; it will be done then.
    async fn let_go(&self, outdated: &[Outdated]) -> bool;
}
