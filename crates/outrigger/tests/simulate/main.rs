//! `outrigger run --simulate` from the outside: what runs, where, what it answers, and how it follows edits.

mod edits;
mod gateways;
mod pods;
mod tools;
mod watching;
