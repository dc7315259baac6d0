//! What parties leave for the verdict when their loops have ended: plain values, which can be carried from the process of
//! a loop to the process that judges.
//!
//! The verdict over parties is the verdict over their ledgers, so that both find the same wrong.

use std::fmt::Debug;

use super::{Breach, Tally, Workload};

/// Can be written down in one process and read in another: always so where the feature `serde` is on.
#[cfg(feature = "serde")]
pub trait Carried: serde::Serialize + serde::de::DeserializeOwned {}
#[cfg(feature = "serde")]
impl<T: serde::Serialize + serde::de::DeserializeOwned> Carried for T {}

/// Can be written down in one process and read in another: with the feature `serde`, which is off.
#[cfg(not(feature = "serde"))]
pub trait Carried {}
#[cfg(not(feature = "serde"))]
impl<T> Carried for T {}

/// A workload whose verdict needs no more than ledgers.
///
/// Several services of one number may share an address, each in a process of its own; their ledgers stand one after the
/// other, all services of the first process first.
pub trait Accounts:
    Workload<Service: Send + Debug + 'static, Client: Send + Debug + 'static> + Send + Sync + 'static
{
    /// What a service leaves.
    type ServiceLedger: Carried;
    /// What a loop of clients leaves.
    type ClientLedger: Carried;

    /// The ledger of a service that has ended.
    fn service_ledger(service: &Self::Service) -> Self::ServiceLedger;

    /// The ledger of a loop of clients that has ended.
    fn client_ledger(client: &Self::Client) -> Self::ClientLedger;

    /// Joins the ledgers of all sides. `lost_at_accept` says whether any loop gave up connections while accepting them.
    ///
    /// # Errors
    /// The first broken invariant.
    fn judge_ledgers(
        &self,
        services: &[Self::ServiceLedger],
        clients: &[Self::ClientLedger],
        lost_at_accept: bool,
    ) -> Result<(), Breach>;
}

/// The verdict over parties, by their ledgers.
pub(super) fn judge<W: Accounts>(
    plan: &W,
    services: &[&W::Service],
    clients: &[&W::Client],
    lost_at_accept: bool,
) -> Result<(), Breach> {
    let services: Vec<W::ServiceLedger> = services.iter().map(|service| W::service_ledger(service)).collect();
    let clients: Vec<W::ClientLedger> = clients.iter().map(|client| W::client_ledger(client)).collect();
    plan.judge_ledgers(&services, &clients, lost_at_accept)
}

/// A ledger of connections, and whether something broke one that excuses the other side.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Connections {
    /// What became of them.
    pub tally: Tally,
    /// Whether one of them was lost to the world, or to a limit.
    pub broken: bool,
}
