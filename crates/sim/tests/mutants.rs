//! What whole clusters notice of code that is broken on purpose.

use hunt::Hunt;
use sim::mutants::{all, live};

#[test]
fn every_mutant_is_caught() {
    let mut hunt = Hunt::new("sim");
    for mutant in all() {
        hunt.mutant(mutant, None, 1..=60, live);
    }
    hunt.end();
}
