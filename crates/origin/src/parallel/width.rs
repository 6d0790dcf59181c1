//! How many listers are let in: pure arithmetic over what pages said.

/// Goes up by one with each page that shows that there is more (so it doubles with each round of pages), down by half when the
/// server refuses, and then up by one with each round, as TCP does.
#[derive(Clone, Debug)]
pub(crate) struct Width {
    cap: f64,
    allowed: f64,
    has_been_refused: bool,
    /// Pages to come that were asked for before the last cut, and say nothing new by being refused.
    deaf_for: usize,
}

impl Width {
    pub(crate) fn new(cap: usize) -> Self {
        Self { cap: cap.max(1) as f64, allowed: 0.0, has_been_refused: false, deaf_for: 0 }
    }

    /// Listers that may be at work. One before the first page and after it: the second page shows that growing pays.
    pub(crate) fn allowed(&self) -> usize {
        self.allowed.clamp(1.0, self.cap) as usize
    }

    /// A page came that was not the last of its range.
    pub(crate) fn page(&mut self) {
        self.deaf_for = self.deaf_for.saturating_sub(1);
        let step = if self.has_been_refused { 1.0 / self.allowed.max(1.0) } else { 1.0 };
        self.allowed = (self.allowed + step).min(self.cap);
    }

    /// The server had to be asked more than once.
    pub(crate) fn refused(&mut self) {
        if self.deaf_for == 0 {
            self.allowed = (self.allowed / 2.0).max(1.0);
            self.deaf_for = self.allowed as usize;
        }
        self.has_been_refused = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_by_pages_and_gives_way_to_a_server_that_refuses() {
        let mut width = Width::new(16);
        assert_eq!(width.allowed(), 1);
        width.page();
        assert_eq!(width.allowed(), 1);
        (0..40).for_each(|_| width.page());
        assert_eq!(width.allowed(), 16);
        // One burst of refusals is one cut.
        (0..4).for_each(|_| width.refused());
        assert_eq!(width.allowed(), 8);
        (0..7).for_each(|_| width.page());
        assert_eq!(width.allowed(), 8);
        (0..200).for_each(|_| {
            width.page();
            width.refused();
        });
        assert!(width.allowed() <= 3);
        assert_eq!(Width::new(0).allowed(), 1);
    }
}
