//! The variables `SIM_...`: twins of options, which win over them. Any other one is a mistake, and is refused.

use std::ffi::OsString;

/// Variables that are read where an option is not given, and the option.
const TWINS: [(&str, &str); 12] = [
    ("SIM_SEED", "--seed"),
    ("SIM_RUNS", "--runs"),
    ("SIM_JOBS", "--jobs"),
    ("SIM_SHARD", "--shard"),
    ("SIM_CHECK_DETERMINISM", "--check-determinism"),
    ("SIM_OUT", "--out"),
    ("SIM_WORKLOAD", "--workload"),
    ("SIM_KERNEL", "--kernel"),
    ("SIM_WEATHER", "--weather"),
    ("SIM_FAULTS", "--faults"),
    ("SIM_WITHOUT_FAULTS", "--without-faults"),
    ("SIM_SUPPRESS_FAULTS", "--suppress-faults"),
];

/// Variables that tests of stages read, and what to write here instead.
const OF_TESTS: [(&str, &str); 6] = [
    ("SIM_REPLAY", "sim replay FILE"),
    ("SIM_SHRINK", "sim shrink FILE"),
    ("SIM_TRACE", "sim replay --trace FILE"),
    ("SIM_UNTIL", "sim replay --until STEP FILE"),
    ("SIM_SHRINK_RUNS", "sim run --shrink-seconds S"),
    ("SIM_TEST", "nothing: `sim` knows what it is called"),
];

/// Why a variable cannot be obeyed.
pub(super) fn complaint() -> Option<String> {
    complaint_about(std::env::vars_os())
}

fn complaint_about(variables: impl Iterator<Item = (OsString, OsString)>) -> Option<String> {
    let mut ours: Vec<String> = variables
        .filter_map(|(name, _)| name.to_str().filter(|name| name.starts_with("SIM_")).map(str::to_owned))
        .filter(|name| TWINS.iter().all(|(known, _)| known != name))
        .collect();
    ours.sort_unstable();
    let name = ours.into_iter().next()?;
    Some(match OF_TESTS.iter().find(|(known, _)| *known == name) {
        Some((_, instead)) => format!("{name} is for tests of stages; here it is {instead}"),
        None => {
            let known: Vec<&str> = TWINS.iter().map(|&(known, _)| known).collect();
            format!("{name} is no variable of `sim`; there are: {}", known.join(", "))
        }
    })
}

/// Which variable said what an error about this option complains of, if the command line did not.
pub(super) fn blamed(error: &str) -> Option<String> {
    let given: Vec<OsString> = std::env::args_os().collect();
    let is_given = |option: &str| {
        let with_value = format!("{option}=");
        given.iter().any(|it| it == option || it.to_string_lossy().starts_with(&with_value))
    };
    let blamed = TWINS.iter().find(|(name, option)| {
        error.contains(&format!("'{option} ")) && std::env::var_os(name).is_some() && !is_given(option)
    });
    blamed.map(|(name, _)| format!(" ({name} says so)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_variables_that_mean_something_here_are_taken() {
        let of = |name: &str| complaint_about([(name.into(), "1".into())].into_iter());
        assert!(TWINS.iter().all(|(name, _)| of(name).is_none()));
        assert_eq!(of("HOME"), None);
        assert!(of("SIM_SED").unwrap().contains("SIM_SED is no variable of `sim`; there are: SIM_SEED"));
        assert!(of("SIM_REPLAY").unwrap().ends_with("here it is sim replay FILE"));
    }
}
