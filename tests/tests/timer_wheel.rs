//! The timer wheel: its contract as a property against a model, and one test for each way in which timers have failed
//! elsewhere (bug-catalogue).

mod properties;

use proptest::collection::vec;
use proptest::prelude::*;
use tests::timer_model;

proptest! {
    #![proptest_config(properties::config(2000))]

    #[test]
    fn the_wheel_does_what_an_ordered_map_would(bytes in vec(any::<u8>(), 0..600)) {
        timer_model::check(&bytes);
    }
}
