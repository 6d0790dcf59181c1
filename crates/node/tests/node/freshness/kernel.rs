//! A kernel in little: holds what it was answered for as long as the answer says, name by name, and lets go of it when told.
//! Of what it is told it takes as little as it must: what is in use stays in a real one.

use std::collections::HashMap;
use std::time::Instant;

use async_trait::async_trait;
use forebay_model::{Content, NsPath};
use forebay_route::{Holder, Outdated};
use parking_lot::Mutex;

use super::reference::What;

/// One answer that may be held.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) what: What,
    pub(super) content: Option<Content>,
    pub(super) until: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Kernel {
    names: Mutex<HashMap<NsPath, Answer>>,
    turn: Mutex<u64>,
}

impl Kernel {
    pub(super) fn turn(&self) -> u64 {
        *self.turn.lock()
    }

    pub(super) fn get(&self, path: &NsPath) -> Option<Answer> {
        self.names.lock().get(path).filter(|answer| Instant::now() < answer.until).cloned()
    }

    /// Holds an answer that was asked for at that turn.
    pub(super) fn hold(&self, path: &NsPath, answer: &Answer, turn: u64) {
        let mut names = self.names.lock();
        if *self.turn.lock() == turn {
            names.insert(path.clone(), answer.clone());
        }
    }

    pub(super) fn forget_all(&self) {
        self.names.lock().clear();
    }
}

#[async_trait]
impl Holder for Kernel {
    async fn let_go(&self, outdated: &[Outdated]) -> bool {
        *self.turn.lock() += 1;
        let mut names = self.names.lock();
        for one in outdated {
            names.retain(|path, _| {
                let below = |above: &NsPath| path.below(above).map(str::to_owned);
                match one {
                    Outdated::Name(name) | Outdated::Doubtful(name) => path != name,
                    Outdated::Directory(directory) => below(directory).is_none_or(|rest| rest.contains('/')),
                    Outdated::Tree(tree) => below(tree).is_none(),
                }
            });
        }
        true
    }
}
