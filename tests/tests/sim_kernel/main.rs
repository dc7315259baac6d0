//! The simulated kernel against the list of kernel facts: each test is named for the fact it holds the kernel to.

mod accept;
mod actors;
mod connect;
mod descriptors;
mod edges;
mod ends;
mod knotes;
mod script;
mod space;
mod storm;
mod waits;
