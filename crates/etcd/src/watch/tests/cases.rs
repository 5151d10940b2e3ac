//! Single cases, and what they cost.
