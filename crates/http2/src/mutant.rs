//! Lines broken on purpose, one at a time, to see that the tests notice.
//!
//! Outside the crate's own tests [`on`] is `false` at compile time and costs nothing.

/// One broken line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// Received bytes are not given back to the connection's window.
    ForgetRelease,
    /// Data is sent although the stream's window is used up.
    IgnoreStreamWindow,
    /// Data is sent although the connection's window is used up.
    IgnoreConnectionWindow,
    /// The stream that has just sent sends again.
    Unfair,
    /// A changed initial window counts for new streams only.
    KeepWindows,
    /// What is received beyond the window is taken.
    AcceptOverflow,
    /// Padding is not counted against the window.
    ForgetPadding,
    /// A window that opens does not wake its stream.
    ForgetWaiting,
    /// The end of a stream is told although data still waits.
    EndEarly,
    /// A refused request does not pass through the decoder.
    SkipRefused,
}

#[cfg(test)]
impl Mutant {
    pub(crate) const ALL: [Self; 10] = [
        Self::ForgetRelease,
        Self::IgnoreStreamWindow,
        Self::IgnoreConnectionWindow,
        Self::Unfair,
        Self::KeepWindows,
        Self::AcceptOverflow,
        Self::ForgetPadding,
        Self::ForgetWaiting,
        Self::EndEarly,
        Self::SkipRefused,
    ];
}

#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn on(_: Mutant) -> bool {
    false
}

/// Whether any line is broken.
#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn any() -> bool {
    false
}

#[cfg(test)]
thread_local! {
    pub(crate) static ON: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

#[cfg(test)]
pub(crate) fn on(mutant: Mutant) -> bool {
    ON.get() == Some(mutant)
}

#[cfg(test)]
pub(crate) fn any() -> bool {
    ON.get().is_some()
}
