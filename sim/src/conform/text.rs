//! A generated script as a text in the language of scripts, with what the live kernel answered as expectations.

use std::fmt::Write as _;

use super::call::{Bits, Call, Slot};
use super::observation::Observation;

/// The script as a file: `title` is its first comment.
pub fn script_text(title: &str, calls: &[Call], answers: &[Observation]) -> String {
    let mut text = format!("# {title}\n");
    // The names behind the ranks, for "the same number as".
    let mut ranks: Vec<(u32, Slot)> = Vec::new();
    for (call, answer) in calls.iter().zip(answers) {
        if *answer == Observation::LeftOut {
            continue;
        }
        let _ = write!(text, "{call}");
        match answer {
            // A step without an expectation must succeed.
            Observation::Done => {}
            Observation::Descriptors(made) => {
                for (&rank, &slot) in made.iter().zip(&call.makes()) {
                    let earlier = ranks.iter().rev().find(|(known, _)| *known == rank).map(|(_, slot)| *slot);
                    if let Some(earlier) =
                        earlier.filter(|_| made.len() == 1 && !matches!(call, Call::Dup2 { .. }))
                    {
                        if earlier == slot {
                            // The name stands for its new number by now; nothing is left to compare with.
                        } else {
                            let _ = write!(text, " -> ={earlier}");
                        }
                    }
                    ranks.push((rank, slot));
                }
            }
            Observation::Drained { count, end } => {
                let count = count.map_or_else(|| ">=1".to_owned(), |count| count.to_string());
                let _ = write!(text, " -> {count}");
                let _ = end;
            }
            Observation::Events(events) if matches!(call, Call::Bits { .. }) => {
                let bits = events.first().map_or(0, |&(_, bits)| bits);
                let _ = write!(text, " -> {}", Bits(bits));
            }
            answer => {
                let _ = write!(text, " -> {answer}");
            }
        }
        text.push('\n');
    }
    text
}
