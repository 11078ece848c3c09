//! `outrigger run --simulate` from the outside: what runs, where, what it answers, and how it follows edits.

mod connections;
mod edits;
mod forwards;
mod gateways;
mod pods;
mod tools;
mod watching;
