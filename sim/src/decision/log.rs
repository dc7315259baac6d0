//! The decisions of a run, in the order in which they were made: what a kept run is replayed, shrunk and told from.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::bytes::append_frames;
use super::tape::Tape;
use super::{Domain, Site};

/// One decision, as it was made.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Choice {
    /// How many calls had been made by then.
    pub step: u64,
    /// What it is about.
    pub domain: Domain,
    /// The host, the connection ... or zero.
    pub entity: u32,
    /// The place of its site in [`ChoiceLog::sites`].
    pub site: u16,
    /// What was chosen: below the bound. Zero is benign.
    pub value: u64,
    /// How many outcomes there were, at least 2.
    pub bound: u64,
}

/// Every decision of a run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ChoiceLog {
    choices: Vec<Choice>,
    sites: Vec<Cow<'static, str>>,
    places: BTreeMap<Cow<'static, str>, u16>,
}

impl ChoiceLog {
    /// The decisions in order.
    pub fn choices(&self) -> &[Choice] {
        &self.choices
    }

    /// The names of the sites that decided, in the order of their first decision.
    pub fn sites(&self) -> &[Cow<'static, str>] {
        &self.sites
    }

    /// The name of the site of a decision.
    pub fn site(&self, choice: &Choice) -> &str {
        self.sites.get(usize::from(choice.site)).map_or("?", |site| site)
    }

    /// The same decisions as a source, addressed by domain, entity and count.
    pub fn tape(&self) -> Tape {
        let mut tape = Tape::default();
        for choice in &self.choices {
            tape.push(choice.domain, choice.entity, choice.value);
        }
        tape
    }

    /// The same decisions as bytes that a fuzzer can start from: see [`bytes`](super::bytes).
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut lanes: [Vec<u8>; Domain::COUNT] = Default::default();
        for choice in &self.choices {
            super::bytes::append_value(&mut lanes[choice.domain as usize], choice.value, choice.bound);
        }
        for (number, lane) in lanes.iter().enumerate() {
            append_frames(&mut bytes, number, lane);
        }
        bytes
    }

    pub(super) fn add(
        &mut self,
        step: u64,
        domain: Domain,
        site: Site,
        entity: u32,
        (value, bound): (u64, u64),
    ) {
        let site = self.site_number(Cow::Borrowed(site.0));
        self.choices.push(Choice { step, domain, entity, site, value, bound });
    }

    /// The number of a site, which is new or not. More sites than there are numbers share the last one.
    pub(crate) fn site_number(&mut self, site: Cow<'static, str>) -> u16 {
        if let Some(&place) = self.places.get(&site) {
            return place;
        }
        let place = u16::try_from(self.sites.len()).unwrap_or(u16::MAX);
        self.sites.push(site.clone());
        self.places.insert(site, place);
        place
    }

    pub(crate) fn push(&mut self, choice: Choice) {
        self.choices.push(choice);
    }
}
