//! Majority and joint quorum arithmetic.
