//! A manifest's answers to what a node asks of an origin.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use forebay_catalog::{Observed, ObservedFile};
use forebay_manifest::{Line, Place};
use forebay_model::{ByteRange, Fault, FaultKind, ManifestInfo, TimestampNs, Version};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::listed::Listed;
use crate::beside::in_place;
use crate::upstream::{Observation, Turns, Upstream, UpstreamRead, UpstreamWrite};

/// Names of a listing that are given out at once.
const PART: usize = 1_000;
/// HEADs at one time for lines that lack size or proof of version.
const HEADS: usize = 16;
/// How long a listing may wait for a manifest that was never read.
const LIST_MAX: Duration = Duration::from_secs(60);
/// How long one object may be asked for whose line lacks size or proof of version.
const HEAD_MAX: Duration = Duration::from_secs(30);

impl Listed {
    async fn line(&self, key: &str, deadline: Instant) -> Result<Option<Line>, Fault> {
        let index = self.current(deadline).await?;
        in_place(|| index.get(key)).map_err(|error| self.drop_damaged(&index, error))
    }

    /// What a line tells, or else the origin.
    async fn observed(&self, line: Line, deadline: Instant) -> Result<Observed, Fault> {
        match (line.size, self.origin.version_of(&line)) {
            (Some(size), Some(version)) => {
                let mtime = line.mtime.unwrap_or(TimestampNs(0));
                Ok(Observed::File(ObservedFile { size, mtime, version }))
            }
            _ => self.origin.stat(&line.key, deadline).await,
        }
    }

    async fn observation(&self, place: Place) -> Result<Observation, Fault> {
        match place {
            Place::Prefix(key) => Ok((key, Observed::Directory)),
            Place::Object(line) => {
                let key = line.key.clone();
                Ok((key, self.observed(line, Instant::now() + HEAD_MAX).await?))
            }
        }
    }

    /// Says that an object is not what the manifest tells, in words that name both.
    fn explained(&self, fault: Fault, key: &str, has_id: bool) -> Fault {
        if !matches!(fault.kind, FaultKind::Changed | FaultKind::NotFound) {
            return fault;
        }
        let snapshot = self.known().and_then(|index| index.facts().snapshot.clone());
        let what = match (snapshot, has_id) {
            (Some(snapshot), true) => {
                let (name, taken) = (snapshot.name, snapshot.taken);
                format!("the snapshot {name} of {taken} holds an older version of it, which the origin has no more")
            }
            (Some(snapshot), false) => {
                let (name, taken) = (snapshot.name, snapshot.taken);
                format!("the snapshot {name} of {taken} holds an older version of it, which the origin does not keep")
            }
            (None, _) => format!("the manifest {} tells another version of it", self.file.address),
        };
        Fault::new(FaultKind::Changed, format!("{key} has changed: {what} ({})", fault.message))
    }
}

#[async_trait]
impl Upstream for Listed {
    async fn probe(&self) -> Result<(), Fault> {
        Listed::probe(self).await
    }

    async fn stat(&self, key: &str, deadline: Instant) -> Result<Observed, Fault> {
        match self.line(key, deadline).await? {
            Some(line) => self.observed(line, deadline).await,
            None => Ok(Observed::Absent),
        }
    }

    async fn has_prefix(&self, prefix: &str, deadline: Instant) -> Result<bool, Fault> {
        let index = self.current(deadline).await?;
        in_place(|| index.has_prefix(prefix)).map_err(|error| self.drop_damaged(&index, error))
    }

    async fn list(
        &self,
        prefix: &str,
        sink: &mut (dyn FnMut(Vec<Observation>) -> Result<(), Fault> + Send),
    ) -> Result<(), Fault> {
        // One index from the first name to the last, whatever comes meanwhile.
        let index = self.current(Instant::now() + LIST_MAX).await?;
        let mut after = String::new();
        loop {
            let places = in_place(|| index.level(prefix, &after, PART));
            let places = places.map_err(|error| self.drop_damaged(&index, error))?;
            let is_last = places.len() < PART;
            match places.last() {
                Some(Place::Object(line)) => after.clone_from(&line.key),
                Some(Place::Prefix(key)) => after.clone_from(key),
                None => return Ok(()),
            }
            let seen = stream::iter(places).map(|place| self.observation(place)).buffered(HEADS);
            sink(seen.try_collect().await?)?;
            if is_last {
                return Ok(());
            }
        }
    }

    fn lists_in_order(&self) -> bool {
        true
    }

    fn turns(&self) -> Turns {
        self.origin.turns()
    }

    fn names_per_request(&self) -> u64 {
        match self.known() {
            // Each name may be asked for.
            Some(index) if index.facts().open > 0 => 1,
            _ => PART as u64,
        }
    }

    async fn read(
        &self,
        key: &str,
        version: &Version,
        size: u64,
        range: ByteRange,
        deadline: Instant,
    ) -> Result<Box<dyn UpstreamRead>, Fault> {
        let index = match self.known() {
            Some(index) => index,
            None => self.current(deadline).await?,
        };
        let line = in_place(|| index.get(key)).map_err(|error| self.drop_damaged(&index, error))?;
        let ours = line.filter(|line| self.origin.version_of(line).as_ref() == Some(version));
        let id = ours.and_then(|line| line.version_id);
        let read = self.origin.read_by_id(key, id.as_deref(), version, size, range, deadline).await;
        let read = read.map_err(|fault| self.explained(fault, key, id.is_some()))?;
        Ok(read)
    }

    fn version_of(&self, line: &Line) -> Option<Version> {
        self.origin.version_of(line)
    }

    async fn list_all(
        &self,
        prefix: &str,
        sink: &mut (dyn FnMut(Vec<Line>) -> Result<(), Fault> + Send),
    ) -> Result<(), Fault> {
        let index = self.current(Instant::now() + LIST_MAX).await?;
        let mut walk = index.walk();
        loop {
            let mut lines = Vec::with_capacity(PART);
            while lines.len() < PART
                && let Some(line) = in_place(|| walk.next_line()).map_err(|error| self.drop_damaged(&index, error))?
            {
                lines.push(line);
            }
            if lines.is_empty() {
                return Ok(());
            }
            lines.retain(|line| line.key.starts_with(prefix));
            sink(lines)?;
        }
    }

    async fn upload(&self, key: &str, deadline: Instant) -> Result<Box<dyn UpstreamWrite>, Fault> {
        self.origin.upload(key, deadline).await
    }

    fn refresh(&self) {
        Listed::refresh(self);
    }

    fn manifest(&self) -> Option<(ManifestInfo, Option<String>)> {
        Some(self.info())
    }
}
